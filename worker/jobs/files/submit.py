"""A file as one job: its rows are staged, looked up, planned or submitted, and the rows with faults written to a file.

The three doors (HTTP, command line, console) call `plan_file` and `submit_file`, and nothing else decides about rows.
"""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import IO, Any, NamedTuple

from sqlalchemy import Connection

from schemas import answers
from schemas.jobs import FileRequest
from worker.database import Database
from worker.errors import ConflictError, InvalidInputError, NotFoundError
from worker.ids import LARGEST
from worker.jobs import plan, submit
from worker.jobs.files import rows
from worker.jobs.files.faults import (
    SHOWN,
    Faults,
    FileFaultsError,
    columns_of,
    describe,
    faults_suffix,
    faulty_rows,
    lookup_fault,
    merge,
    unguarded,
)
from worker.jobs.files.near_misses import Known, find_near
from worker.jobs.files.rows import Table
from worker.jobs.selection import Counts, Selection, digest
from worker.jobs.submit import Requester
from worker.ledger import file_rows, freeze
from worker.ledger import plan as ledger_plan
from worker.ledger.file_rows import Batch, RowFault
from worker.ledger.plan import Preview
from worker.records import NewChunks, Submitted
from worker.texts import Text, text

_MOST_UNKNOWN, _MOST_KNOWN = 20, 2_000
"""Series codes of a file that no Series has, and Series that they are compared with: half a second at the most."""
LONGEST_VALUE = 80
"""Characters of a faulty value that a page shows."""
KeepFaults = Callable[[Connection, IO[bytes], str], None]
"""Keeps the file of faults, given with its name, in the transaction that accepts the job."""


class NothingNewError(ConflictError):
    """Everything that the file names was taken by an earlier job of its batch."""

    type = "nothing_new"


@dataclass(frozen=True, slots=True)
class Options:
    """How a file is taken.

    `leave_out`: accept the good rows, and give the faulty ones back. `batch`: a job of the batch that it belongs to;
    `only_own`: the requester whose jobs these may be, None: anybody's.
    """

    leave_out: bool = False
    batch: int | None = None
    only_own: str | None = None

    @property
    def body(self) -> dict[str, Any]:
        """What the idempotency key knows them by; nothing where both are left to their defaults."""
        found = {"faults": "leave_out" if self.leave_out else None, "batch": self.batch}
        return {name: value for name, value in found.items() if value is not None}


@dataclass(slots=True)
class Staged:
    """A file whose rows stand in tables of this transaction.

    `good`: rows that name an enrolment; `taken`: those of them that an earlier job of the batch has taken.
    """

    table: Table
    count: int
    faults: Faults
    sha256: str
    good: int
    taken: int = 0
    is_looked_up: bool = field(default=False)
    near: dict[str, Text] = field(default_factory=dict)
    """By Series code that no Series has: which one may have been meant."""

    @property
    def content(self) -> dict[str, str]:
        """What the idempotency key knows the file by."""
        return {f"sha256_of_{'rows' if self.table.columns.has_lookup else 'ids'}": self.sha256}

    def explain(self, found: RowFault) -> answers.FileFault:
        """The fault of a row that was looked up in vain, with what may have been meant."""
        is_unknown = found.code == "unknown_series"
        return lookup_fault(found.line, found.code, self.near.get(found.series_code or "") if is_unknown else None)


class StagedRows(Selection):
    """The ids of a staged file; the lines they stood on are kept."""

    def __init__(self, staged: Staged) -> None:
        self._staged = staged

    def digest(self) -> str:
        return digest("rows" if self._staged.table.columns.has_lookup else "ids", self._staged.sha256)

    def preview(self, connection: Connection, organisation_id: int) -> Preview:
        return ledger_plan.by_staged(connection, organisation_id)

    def freeze(self, connection: Connection, chunks: NewChunks) -> Counts:
        return self.count(freeze.staged(connection, chunks))

    def count(self, accepted: int) -> Counts:
        return Counts(accepted, self._staged.good - accepted)


class FaultyRow(NamedTuple):
    """What stands in a row where its fault is, and in each column that is read; nothing where columns are missing."""

    value: str
    cells: dict[str, str]


@dataclass(frozen=True, slots=True)
class FilePlan:
    """What was found in a file, and what a job over its good rows would do; None if it has none."""

    check: answers.FileCheck
    plan: answers.Plan | None
    faulty: list[FaultyRow]
    """What stands in the rows of `check.faults`; of people, so it is shown and kept nowhere."""


@dataclass(frozen=True, slots=True)
class FileSubmitted:
    """The job of a file, and what was found in it."""

    submitted: Submitted
    check: answers.FileCheck


def plan_file(
    database: Database,
    organisation_id: int,
    request: FileRequest,
    stream: IO[bytes],
    *,
    options: Options = Options(),
    faults_to: IO[bytes] | None = None,
    door: str = "api",
) -> FilePlan:
    """Check every row of a file, and plan the job over its good ones; nothing is written but `faults_to`.

    `faults_to`: takes the rows with faults, if there are any. `door`: through which the job would come.

    Raises:
        InvalidInputError: it is no file of enrolments at all, or too large.
        NotFoundError, ConflictError, InvalidInputError: the batch does not fit.
    """
    with rows.opened(stream) as table, database.begin() as connection:
        first = _find_batch(connection, organisation_id, options, request.reason)
        staged = stage(connection, table)
        look_up(connection, organisation_id, staged, first)
        faulty = _write_faults(connection, staged, faults_to)
        found, repeated = None, list[answers.RepeatedRow]()
        if staged.good > staged.taken:
            found = plan.of_selection(
                connection, organisation_id, StagedRows(staged), request.reason, door=door, source=request.source
            )
            if found.duplicates:
                repeated = [answers.RepeatedRow(**row) for row in file_rows.list_repeated(connection, SHOWN)]
        return FilePlan(_check(staged, repeated), found, faulty)


def submit_file(
    database: Database,
    requester: Requester,
    request: FileRequest,
    stream: IO[bytes],
    *,
    name: str | None = None,
    options: Options = Options(),
    keep_faults: KeepFaults | None = None,
    faults_to: IO[bytes] | None = None,
    chunk_size: int = 1000,
) -> FileSubmitted:
    """Accept a job over the rows of a file. With a fault in any row nothing is accepted, unless it may leave them out.

    `faults_to`: takes the rows with faults, also of a file that is refused for them.

    Raises:
        FileFaultsError: rows are wrong, and `options` do not leave them out, or no other row is good and new.
        InvalidInputError: it is no file of enrolments at all, or too large.
        NothingNewError: the batch has taken all of it before.
        IdempotencyConflictError: the key was used for another request.
        NotFoundError, ConflictError: there is no such batch, or a job of it was cancelled.
        PlanExpiredError, PlanMismatchError, PlanDriftedError: its plan does not fit.
    """
    organisation_id = requester.organisation_id
    with rows.opened(stream) as table, database.begin() as connection:  # not repeated: it may take a minute
        staged = stage(connection, table)
        refuse = not options.leave_out
        if refuse and staged.faults.count:  # also what the tables say: all faults are named at once
            look_up(connection, organisation_id, staged, None)
            _refuse(connection, staged, faults_to)
        new = submit.new_file_job(requester, request, {**staged.content, **options.body}, name=name)
        _lock_batch(connection, organisation_id, options)  # the same request may be making its job just now
        known = submit.answer_known(connection, new)
        if known is not None:
            if not refuse:  # else every row was taken, whatever it would mean now
                look_up(connection, organisation_id, staged, None)
                _keep_faults(connection, staged, keep_faults, faults_to)
            return FileSubmitted(submit.logged(known), _check(staged))
        first = _find_batch(connection, organisation_id, options, request.reason)
        look_up(connection, organisation_id, staged, first)
        is_nothing_new = staged.good == staged.taken
        if staged.faults.count and (refuse or is_nothing_new):
            _refuse(connection, staged, faults_to)
        if is_nothing_new:
            raise NothingNewError(
                text("Every row of this file was taken before, by job {batch} or its batch.", batch=options.batch)
            )
        _keep_faults(connection, staged, keep_faults, faults_to)  # before the admission locks what others wait for
        selection = StagedRows(staged)
        made = submit.accept(connection, new, selection, plan_hash=request.plan_hash, chunk_size=chunk_size)
        if first is not None and made.created:
            file_rows.join_batch(connection, organisation_id, job_id=made.job.id, batch=first)
    return FileSubmitted(submit.logged(made), _check(staged))


def stage(connection: Connection, table: Table) -> Staged:
    """Read all rows into a table of this transaction; what is wrong with them by themselves is counted.

    Raises:
        InvalidInputError: the file has no rows or too many, or is no text from some line on.
    """
    faults = Faults()
    read = table.rows(faults)
    if table.columns.has_lookup:
        file_rows.stage_asked(connection, read.asked())
        if not read.count:
            raise freeze.NoRowsError(text("the file has no rows; it needs at least one enrolment"))
        return Staged(table, read.count, faults, read.sha256, read.count - faults.count)
    try:
        good, sha256 = freeze.stage(connection, read.ids())
    except freeze.NoRowsError:
        if not faults.count:
            raise
        good, sha256 = 0, ""
    return Staged(table, read.count, faults, sha256, good)


def look_up(connection: Connection, organisation_id: int, staged: Staged, batch: int | None) -> None:
    """Find the enrolments of rows that name none by id, and take out what the batch has taken."""
    if staged.table.columns.has_lookup:
        found = file_rows.look_up(connection, organisation_id, batch=batch)
        staged.good, staged.is_looked_up = found.good, True
        if found.faulty:
            unknown = file_rows.list_unknown_series(connection, _MOST_UNKNOWN)
            if unknown:
                known = file_rows.list_series(connection, organisation_id, _MOST_KNOWN)
                staged.near = find_near(unknown, [Known(*one) for one in known])
            first = [staged.explain(one) for one in file_rows.list_faults(connection, SHOWN)]
            staged.faults.add_found(found.faulty, first)
    if batch is not None:
        staged.taken = file_rows.drop_taken(connection, organisation_id, batch)


def _lock_batch(connection: Connection, organisation_id: int, options: Options) -> None:
    """Wait for other files of the batch: what is read of it from now on stays so until this file is accepted."""
    found = _read_batch(connection, organisation_id, options)
    if found is not None:
        file_rows.lock_batch(connection, found.id)


def _read_batch(connection: Connection, organisation_id: int, options: Options) -> Batch | None:
    if options.batch is None or not 0 < options.batch <= LARGEST:
        return None
    return file_rows.find_batch(connection, organisation_id, options.batch)


def _find_batch(connection: Connection, organisation_id: int, options: Options, reason: str) -> int | None:
    """The first job of the batch, None for a file that belongs to none.

    Raises:
        NotFoundError: no job that the requester may read was made from a file and has this id.
        ConflictError: a job of the batch was cancelled, so that what it took was not done, or pruned, so that what it
            took is not known.
        InvalidInputError: the batch has another reason (rule 5).
    """
    if options.batch is None:
        return None
    found = _read_batch(connection, organisation_id, options)
    if found is None or options.only_own not in (None, found.requested_by):
        raise NotFoundError(
            text("batch: no job {batch} of this organisation was made from a file", batch=options.batch)
        )
    if found.cancelled is not None:
        raise ConflictError(
            text("batch: job {job_id} was cancelled. Send the file without a batch.", job_id=found.cancelled)
        )
    if found.pruned is not None:
        raise ConflictError(text("batch: job {job_id} was pruned. Send the file without a batch.", job_id=found.pruned))
    if found.reason != reason:
        raise InvalidInputError(
            text(
                "batch: job {job_id} has the reason {reason}. A batch has one reason (rule 5).",
                job_id=found.id,
                reason=found.reason,
            )
        )
    return found.id


def _refuse(connection: Connection, staged: Staged, faults_to: IO[bytes] | None) -> None:
    _write_faults(connection, staged, faults_to)
    raise FileFaultsError(staged.faults)


def _keep_faults(connection: Connection, staged: Staged, keep: KeepFaults | None, faults_to: IO[bytes] | None) -> None:
    if keep is None or not staged.faults.count:
        _write_faults(connection, staged, faults_to)
        return
    with tempfile.TemporaryFile() as made:
        _write_faults(connection, staged, made)
        keep(connection, made, faults_suffix(staged.table.kind))


def _write_faults(connection: Connection, staged: Staged, sink: IO[bytes] | None) -> list[FaultyRow]:
    """Write the rows with faults; what stands in the first of them."""
    first = list[FaultyRow]()
    if sink is None or not staged.faults.count:
        return first
    found = map(staged.explain, file_rows.stream_faults(connection)) if staged.is_looked_up else iter(())
    table = staged.table
    with faulty_rows(table.kind, sink, table.columns.header, table.layout) as writer:
        for cells, fault in merge(_parsed(table), found):
            writer.add(cells, describe(fault, table.columns.named))
            if len(first) < SHOWN:
                first.append(_read_faulty(cells, fault, table))
    sink.seek(0)
    return first


def _read_faulty(cells: list[str], fault: answers.FileFault, table: Table) -> FaultyRow:
    read = {column: unguarded(cells[place]).strip() for column, place in table.columns.at.items() if place < len(cells)}
    called = columns_of(fault, table.columns.named) if fault.column else []
    found = (cell for column, cell in read.items() if table.columns.named[column] in called)
    is_whole = len(cells) == table.columns.width
    return FaultyRow(next(filter(None, found), "")[:LONGEST_VALUE], read if is_whole else {})


def _parsed(table: Table) -> Iterator[tuple[int, list[str], answers.FileFault | None]]:
    for line, cells, found in table.read_all():
        yield line, cells, found if isinstance(found, answers.FileFault) else None


def _check(staged: Staged, repeated: Sequence[answers.RepeatedRow] = ()) -> answers.FileCheck:
    faults = staged.faults
    return answers.FileCheck(
        format=staged.table.kind,
        columns=staged.table.columns.named,
        rows=staged.count,
        good=staged.good,
        taken_before=staged.taken,
        fault_count=faults.count,
        faults=faults.first,
        repeated=list(repeated),
    )
