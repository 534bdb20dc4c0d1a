"""Files that are sent to the API or the console: planned, submitted, and their rows with faults given back.

A file comes with the request, or was kept when it was planned (`worker/jobs/files/uploads.py`).
"""

import errno
import tempfile
import threading
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import IO
from urllib.parse import quote
from uuid import UUID

from sqlalchemy import Connection
from starlette.datastructures import UploadFile
from starlette.responses import StreamingResponse

from schemas import answers
from schemas.jobs import FileOptions, FileRequest
from schemas.rosters import RosterPlan, RosterRequest
from worker.errors import InvalidInputError, NotFoundError
from worker.jobs.files import mend, rows, submit, uploads, workbook
from worker.jobs.files.faults import FileFaultsError, faults_suffix
from worker.jobs.files.staging import FaultyRow
from worker.jobs.files.submit import Options
from worker.jobs.submit import Requester
from worker.ledger.uploads import Upload
from worker.people import rosters
from worker.records import Submitted
from worker.web.auth import Caller
from worker.web.context import Services
from worker.web.problems import ProblemError

_PIECE = 1 << 16
_WORKBOOKS_AT_ONCE = 8
"""Requests of this process that convert a workbook or wait for it: the other threads answer other requests."""
_free_slots = threading.BoundedSemaphore(_WORKBOOKS_AT_ONCE)
MEDIA = {"csv": "text/csv; charset=utf-8", "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"}


@dataclass(frozen=True, slots=True)
class Sent:
    """A file of this request, or one that was kept; exactly one of the two. `left_out`: lines, on purpose."""

    file: UploadFile | None
    options: FileOptions
    left_out: Collection[int] = ()

    def __post_init__(self) -> None:
        if (self.file is None) == (self.options.upload is None):
            raise InvalidInputError("file: send the file, or the id of its upload, and not both")


@dataclass(frozen=True, slots=True)
class KeptFaults:
    """An upload, and the name of the file that has its rows with faults."""

    upload: Upload
    name: str


def plan(services: Services, caller: Caller, request: FileRequest, sent: Sent) -> answers.FilePlan:
    """Check and plan a file that came over the API, and keep it for a day with its rows that have a fault.

    Raises:
        InvalidInputError, NotFoundError, ConflictError: as `plan_with_values`.
    """
    return plan_with_values(services, caller, request, sent, door="api")[0]


def plan_with_values(
    services: Services, caller: Caller, request: FileRequest, sent: Sent, *, door: str
) -> tuple[answers.FilePlan, list[FaultyRow]]:  # fmt: skip
    """As `plan`, with what stands in the rows of the first faults, for whoever sent the file.

    `door`: through which the job would come.

    Raises:
        InvalidInputError, NotFoundError, ConflictError: as `submit.plan_file`; also when the upload is gone.
    """
    organisation_id, options = caller.organisation_id, _options(caller, sent)
    with (
        _read(services, caller, sent) as (stream, kept, name),
        _slot(stream),
        tempfile.TemporaryFile() as faults,
        _room(),
    ):
        found = submit.plan_file(
            services.pools.reports, organisation_id, request, stream, options=options, faults_to=faults, door=door
        )  # fmt: skip
        with services.database.begin() as connection:
            upload = kept or uploads.keep(
                connection, organisation_id, requested_by=caller.actor, name=name, stream=stream
            )  # fmt: skip
            suffix = faults_suffix(found.check.format)
            with_faults = faults if found.check.fault_count else None
            uploads.keep_faults(connection, organisation_id, upload, with_faults, suffix)
    planned = answers.FilePlan(
        upload=upload.id,
        expires_at=upload.created_at + uploads.KEPT,
        faults_file=_faults_path(upload.id) if found.check.fault_count else None,
        check=found.check,
        plan=found.plan,
    )
    return planned, found.faulty


def submit_file(
    services: Services, caller: Caller, requester: Requester, request: FileRequest, sent: Sent
) -> tuple[Submitted, answers.FileResult]:
    """Submit a file; of one whose faults were left out, keep the rows with faults for a day.

    Raises:
        InvalidInputError, NotFoundError, ConflictError: as `submit.submit_file`; also when the upload is gone.
    """
    kept_as: list[UUID] = []
    with _read(services, caller, sent) as (stream, kept, name), _slot(stream), _room():

        def keep(connection: Connection, faults: IO[bytes], suffix: str) -> None:
            upload = kept or uploads.keep(
                connection, caller.organisation_id, requested_by=caller.actor, name=name, stream=None
            )  # fmt: skip
            uploads.keep_faults(connection, caller.organisation_id, upload, faults, suffix)
            kept_as.append(upload.id)

        made = submit.submit_file(
            services.database, requester, request, stream,
            name=name, options=_options(caller, sent), keep_faults=keep, chunk_size=services.settings.chunk_size,
        )  # fmt: skip
        faults_file = _faults_path(kept_as[0]) if kept_as else None
        upload_id = kept_as[0] if kept_as else kept and kept.id
    return made.submitted, answers.FileResult(upload=upload_id, faults_file=faults_file, check=made.check)


def plan_roster(services: Services, caller: Caller, wanted: RosterRequest, file: UploadFile) -> RosterPlan:
    """Plan a roster; of one with faults, keep the lines that have one for a day.

    Raises:
        FileFaultsError: lines are wrong; `faults_file` of the problem has them.
        InvalidInputError, RosterRefusedError: as `rosters.plan_file`.
    """
    with _slot(file.file), tempfile.TemporaryFile() as faults, _room():
        try:
            return rosters.plan_file(
                services.database, organisation_id=caller.organisation_id, actor=caller.actor, wanted=wanted,
                stream=file.file, name=file.filename, faults_to=faults,
            )  # fmt: skip
        except FileFaultsError as error:
            suffix = faults_suffix("workbook" if workbook.is_workbook(file.file) else "csv")
            with services.database.begin() as connection:
                upload = uploads.keep(
                    connection, caller.organisation_id, requested_by=caller.actor, name=file.filename, stream=None
                )  # fmt: skip
                uploads.keep_faults(connection, caller.organisation_id, upload, faults, suffix)
            error.more = {**error.more, "faults_file": _faults_path(upload.id)}
            raise


@dataclass(frozen=True, slots=True)
class Mended:
    """A file that was kept once more, and the lines of what is not as it was sent; without any the file as it was."""

    upload: UUID
    left_out: list[int]
    corrected: list[int]


def mend_rows(services: Services, caller: Caller, upload: UUID, changes: Mapping[int, Mapping[str, str]]) -> Mended:
    """Keep a file of this caller once more, with other cells in a few rows.

    Raises:
        NotFoundError: the file was sent more than a day ago.
    """
    kept = _find(services, caller, upload)
    with uploads.opened(services.database, kept) as stream, _slot(stream), tempfile.TemporaryFile() as made, _room():
        left_out, corrected = mend.mend(stream, changes, made)
        if not left_out and not corrected:
            return Mended(upload, [], [])
        with services.database.begin() as connection:
            again = uploads.keep(
                connection, caller.organisation_id, requested_by=caller.actor, name=kept.file_name, stream=made
            )
    return Mended(again.id, left_out, corrected)


def keep(services: Services, caller: Caller, sent: Sent) -> UUID:
    """Keep a file of this request for a day; the id by which its plan and its confirmation name it.

    Of a workbook, which takes a while to read, its plan says whether it is a file of enrolments at all.

    Raises:
        InvalidInputError: it is none.
    """
    assert sent.file is not None  # noqa: S101 - what was kept before is not kept again
    name, stream = sent.file.filename, sent.file.file
    if not workbook.is_workbook(stream):
        with rows.opened(stream):
            pass
    with _room(), services.database.begin() as connection:
        return uploads.keep(
            connection, caller.organisation_id, requested_by=caller.actor, name=name, stream=stream
        ).id  # fmt: skip


def find(services: Services, caller: Caller, upload_id: str) -> Upload:
    """A file that this caller sent.

    Raises:
        NotFoundError: they sent none with this id, or it is more than a day ago.
    """
    try:
        return _find(services, caller, UUID(upload_id))
    except ValueError:
        raise NotFoundError(uploads.NOT_KEPT) from None


def send_faults(services: Services, caller: Caller, upload_id: str) -> StreamingResponse:
    """The rows with faults of a file that this caller sent.

    Raises:
        NotFoundError: there are none, or the file was sent more than a day ago.
    """
    kept = find_faults(services, caller, upload_id)
    stack = ExitStack()
    spool = stack.enter_context(uploads.opened(services.database, kept.upload, "faults"))
    headers = {
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(kept.name)}",
        "Cache-Control": "no-store",
    }
    return StreamingResponse(_pieces(stack, spool), headers=headers, media_type=MEDIA[kept.name.rsplit(".", 1)[1]])


def find_faults(services: Services, caller: Caller, upload_id: str) -> KeptFaults:
    """The rows with faults of a file that this caller sent.

    Raises:
        NotFoundError: there are none, or the file was sent more than a day ago.
    """
    upload = find(services, caller, upload_id)
    if upload.faults is None:
        raise NotFoundError("this file has no rows with faults")
    return KeptFaults(upload, upload.faults)


def _faults_path(upload_id: UUID) -> str:
    return f"/v1/jobs/file/{upload_id}/faults"


def _options(caller: Caller, sent: Sent) -> Options:
    return Options(sent.options.faults == "leave_out", sent.options.batch, caller.only_own, sent.left_out)


@contextmanager
def _read(services: Services, caller: Caller, sent: Sent) -> Iterator[tuple[IO[bytes], Upload | None, str | None]]:
    """The content of what was sent, the upload if it was kept before, and the name of the file."""
    if sent.options.upload is None:
        assert sent.file is not None  # noqa: S101 - `Sent` has checked it
        yield sent.file.file, None, sent.file.filename
        return
    upload = _find(services, caller, sent.options.upload)
    with uploads.opened(services.database, upload) as stream:
        yield stream, upload, upload.file_name


def _find(services: Services, caller: Caller, upload_id: UUID) -> Upload:
    return uploads.find(services.database, caller.organisation_id, requested_by=caller.actor, upload_id=upload_id)


@contextmanager
def _slot(stream: IO[bytes]) -> Iterator[None]:
    """Hold one of the slots for workbooks; CSV needs none.

    Raises:
        ProblemError: 503; too many workbooks are being read.
    """
    if not workbook.is_workbook(stream):
        yield
        return
    if not _free_slots.acquire(blocking=False):
        detail = "Too many workbooks are being read. Nothing was accepted. Try again in a few seconds, or send CSV."
        raise ProblemError(503, "too_many_files", detail, headers={"Retry-After": "10"})
    try:
        yield
    finally:
        _free_slots.release()


@contextmanager
def _room() -> Iterator[None]:
    """Say so when the disk is full.

    Raises:
        ProblemError: 503.
    """
    try:
        yield
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        detail = "There is no disk space left for the file. Nothing was accepted. Try again later."
        raise ProblemError(503, "no_room", detail, headers={"Retry-After": "60"}) from None


def _pieces(stack: ExitStack, spool: IO[bytes]) -> Iterator[bytes]:
    with stack:
        while piece := spool.read(_PIECE):
            yield piece
