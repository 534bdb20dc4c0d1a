"""`withdrawals bulk FILE`: what is wrong with a file, its plan, its job, and its rows with faults as a file to mend."""

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from shutil import copyfileobj
from typing import IO, Annotated
from uuid import uuid4

import typer

from ops.cli import common
from ops.files import open_binary
from schemas import answers
from schemas.jobs import FileRequest
from worker.database import Database
from worker.errors import InvalidInputError
from worker.ids import LARGEST
from worker.jobs.files.faults import FileFaultsError
from worker.jobs.files.submit import FilePlan, FileSubmitted, Options, plan_file, submit_file
from worker.jobs.submit import Requester

LeaveOut = Annotated[
    bool, typer.Option("--leave-out-faults", help="Accept the good rows of the file. By default a fault refuses it.")
]
FaultsTo = Annotated[
    Path | None,
    typer.Option("--faults", help="Write the rows with faults there: CSV, or XLSX for a workbook. Mend, send again."),
]
Batch = Annotated[
    int | None,
    typer.Option(min=1, max=LARGEST, help="A job of an earlier file: what it has taken is not taken again."),
]
_LISTED = 20


@dataclass(frozen=True, slots=True)
class FileArguments:
    """The file that was named, and how it is to be taken."""

    path: Path
    options: Options
    faults: Path | None

    @property
    def is_extended(self) -> bool:
        """Whether more was asked for than a file that is refused by its first fault."""
        return self.faults is not None or self.options != Options()


def plan(db: Database, who: Requester, request: FileRequest, given: FileArguments) -> FilePlan:
    """Check a file and plan its job.

    Raises:
        InvalidInputError: the file has faults that are not to be left out, or is no file of enrolments.
    """
    with open_binary(given.path) as stream, faults_file(given.faults, stream) as sink:
        found = plan_file(
            db, who.organisation_id, request, stream, options=given.options, faults_to=sink, door="cli"
        )  # fmt: skip
    if found.check.fault_count and (found.plan is None or not given.options.leave_out):
        raise InvalidInputError(describe_faults(found.check.faults, found.check.fault_count))
    return found


def submit(db: Database, who: Requester, request: FileRequest, given: FileArguments) -> FileSubmitted:
    """Submit a file.

    Raises:
        InvalidInputError: the file has faults that are not to be left out, or is no file of enrolments.
    """
    name = None if str(given.path) == "-" else str(given.path)
    with open_binary(given.path) as stream, faults_file(given.faults, stream) as sink:
        try:
            return submit_file(db, who, request, stream, name=name, options=given.options, faults_to=sink)
        except FileFaultsError as error:
            raise InvalidInputError(describe_faults(error.faults.first, error.faults.count)) from None


def tell_left_out(check: answers.FileCheck, given: FileArguments, batch: int | None) -> None:
    """Tell people which rows were left out, and how to send them again."""
    if check.taken_before:
        common.err.print(f"{check.taken_before:,} rows were taken by an earlier job of the batch.")
    if not check.fault_count:
        return
    common.err.print(f"{check.fault_count:,} of {check.rows:,} rows have a fault and are left out:")
    common.err.print(describe_faults(check.faults, check.fault_count), markup=False)
    if batch is not None:
        where = f"Mend {given.faults}" if given.faults else "Mend these rows"
        common.err.print(f"{where} and send them with --batch {batch}: nothing is done twice.")


@contextmanager
def faults_file(path: Path | None, stream: IO[bytes]) -> Iterator[IO[bytes] | None]:
    """Where the rows with faults are written. The file appears only if there are any, also if the work fails.

    It is opened before the work: nothing is accepted if it cannot be written.

    Raises:
        InvalidInputError: it cannot be written, or is the file that is read.
    """
    if path is None:
        yield None
        return
    with _named(path), ExitStack() as stack:
        if path.exists() and os.path.samestat(path.stat(), os.fstat(stream.fileno())):
            raise InvalidInputError(f"--faults {path}: is the file that is read. Name another one.")
        is_plain = path.is_file() or not path.exists()
        sink = stack.enter_context(_beside(path.resolve()) if is_plain else _through(path))
        held = stack.pop_all()
    try:
        yield sink
    finally:
        with _named(path):
            held.close()


@contextmanager
def _beside(path: Path) -> Iterator[IO[bytes]]:
    """A file that takes its name once it is whole and has a fault. Until then an earlier file stays."""
    beside = path.with_name(f".{uuid4().hex}.part")
    with beside.open("w+b") as sink:
        try:
            yield sink
        finally:
            if sink.seek(0, os.SEEK_END):
                sink.flush()
                beside.replace(path)
            else:
                beside.unlink()


@contextmanager
def _through(path: Path) -> Iterator[IO[bytes]]:
    """What is no file on a disk, such as a pipe: a workbook is not written from its start to its end."""
    with path.open("wb") as target, tempfile.TemporaryFile() as sink:
        try:
            yield sink
        finally:
            sink.seek(0)
            copyfileobj(sink, target)


@contextmanager
def _named(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InvalidInputError(f"--faults {path}: {error.strerror or 'cannot be written'}") from None


def describe_faults(faults: Sequence[answers.FileFault], count: int) -> str:
    """The first faults of a file, one a line, and how many more there are."""
    texts = [str(one) for one in faults[:_LISTED]]
    more = count - len(texts)
    return "\n".join([*texts, *([f"… and {more:,} more rows with a fault."] if more else [])])
