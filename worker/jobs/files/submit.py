"""A file as one job: its rows are planned or submitted, once `staging.py` has read them and looked them up.

The three doors (HTTP, command line, console) call `plan_file` and `submit_file`, and nothing else decides about rows.
"""

import json
import tempfile
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import IO, Any

from sqlalchemy import Connection

from schemas import answers
from schemas.jobs import FileRequest
from worker.database import Database
from worker.errors import ConflictError, InvalidInputError, NotFoundError
from worker.ids import LARGEST
from worker.jobs import plan, submit
from worker.jobs.files import rows
from worker.jobs.files.faults import SHOWN, FileFaultsError, faults_suffix
from worker.jobs.files.staging import FaultyRow, Staged, StagedRows, look_up, stage, write_faults
from worker.jobs.submit import Requester
from worker.ledger import file_rows, jobs
from worker.ledger.file_rows import Batch
from worker.records import Job, Submitted
from worker.texts import text

_LINES_ON_RECORD = 20

KeepFaults = Callable[[Connection, IO[bytes], str], None]
"""Keeps the file of faults, given with its name, in the transaction that accepts the job."""


class NothingNewError(ConflictError):
    """Everything that the file names was taken by an earlier job of its batch."""

    type = "nothing_new"


@dataclass(frozen=True, slots=True)
class Options:
    """How a file is taken.

    `leave_out`: accept the good rows, and give the faulty ones back. `batch`: a job of the batch that it belongs to;
    `only_own`: the requester whose jobs these may be, None: anybody's. `lines`: those that are left out on purpose,
    good or not, and not given back; to its plan and its key it is the same file.
    """

    leave_out: bool = False
    batch: int | None = None
    only_own: str | None = None
    lines: Collection[int] = ()

    @property
    def body(self) -> dict[str, Any]:
        """What the idempotency key knows them by; nothing where both are left to their defaults."""
        found = {"faults": "leave_out" if self.leave_out else None, "batch": self.batch}
        return {name: value for name, value in found.items() if value is not None}


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
    with rows.opened(stream, options.lines) as table, database.begin() as connection:
        first = _find_batch(connection, organisation_id, options, request.reason)
        staged = stage(connection, table)
        look_up(connection, organisation_id, staged, first)
        faulty = write_faults(connection, staged, faults_to)
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
    # The transaction is not repeated: it may take a minute.
    with rows.opened(stream, options.lines) as table, database.begin() as connection:
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
        if made.created:
            _record_left_out(connection, made.job, options, staged)
            if first is not None:
                file_rows.join_batch(connection, organisation_id, job_id=made.job.id, batch=first)
    return FileSubmitted(submit.logged(made), _check(staged))


def _record_left_out(connection: Connection, job: Job, options: Options, staged: Staged) -> None:
    """Put on record which lines of the file the job has not taken: how many, and the first."""
    lines = sorted({*options.lines, *(fault.line for fault in staged.faults.first)})
    if lines:
        count = max(len(lines), len(options.lines) + staged.faults.count)
        detail = json.dumps({"count": count, "lines": lines[:_LINES_ON_RECORD]})
        jobs.audit(
            connection,
            organisation_id=job.organisation_id,
            actor=job.requested_by,
            action="job.leave_out",
            job_id=job.id,
            detail=detail,
        )


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
    write_faults(connection, staged, faults_to)
    raise FileFaultsError(staged.faults)


def _keep_faults(connection: Connection, staged: Staged, keep: KeepFaults | None, faults_to: IO[bytes] | None) -> None:
    if keep is None or not staged.faults.count:
        write_faults(connection, staged, faults_to)
        return
    with tempfile.TemporaryFile() as made:
        write_faults(connection, staged, made)
        keep(connection, made, faults_suffix(staged.table.kind))


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
