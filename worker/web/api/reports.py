"""Enrolments as a list, and reports as files and sums: `/v1/enrolments`, `/v1/reports/…`."""

import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated, Any, BinaryIO

import structlog
from anyio import from_thread
from fastapi import APIRouter, Query, Request
from fastapi.responses import Response, StreamingResponse

from schemas import answers
from schemas.reports import EnrolmentFilter, EnrolmentRow, OutcomeFilter, OutcomeRow, Summary
from worker.errors import describe
from worker.ids import parse_cursor
from worker.reports import lists
from worker.reports.exports import Format
from worker.web.auth import Caller, Viewer
from worker.web.context import Context, Cursor, Limit, Services
from worker.web.problems import ProblemError, describes

log = structlog.get_logger(__name__)

AT_ONCE = 4
"""Exports that one process writes at a time: each holds a connection of the pool and a thread."""
_PIECE = 65_536  # bytes

router = APIRouter(prefix="/v1", tags=["reports"], responses=describes())
_free = threading.BoundedSemaphore(AT_ONCE)
_FILE: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The file; its name has the date.",
        "content": {format_.media_type.partition(";")[0]: {} for format_ in Format},
    }
}


class OutcomePage(OutcomeFilter):
    """The filter, and which page."""

    limit: Limit = 50
    cursor: Cursor = None


class EnrolmentPage(EnrolmentFilter):
    """The filter, and which page."""

    limit: Limit = 50
    cursor: Cursor = None


@router.get("/enrolments")
def list_enrolments(
    context: Context, who: Viewer, wanted: Annotated[EnrolmentPage, Query()]
) -> answers.Page[EnrolmentRow]:
    """Enrolments as they are now, newest first, withdrawn ones included unless excluded. Role: viewer."""
    rows = lists.enrolments(
        context.database, who.organisation_id, wanted, before=parse_cursor(wanted.cursor), limit=wanted.limit
    )
    more = str(rows[-1].enrolment_id) if len(rows) == wanted.limit else None
    return answers.Page(items=[EnrolmentRow.model_validate(row) for row in rows], next_cursor=more)


@router.get("/outcomes")
def list_all_outcomes(
    context: Context, who: Viewer, wanted: Annotated[OutcomePage, Query()]
) -> answers.Page[OutcomeRow]:
    """What jobs decided, newest job first, a row for each enrolment of each job. Role: viewer."""
    rows = lists.outcomes(
        context.database, who.organisation_id, wanted, before=place(wanted.cursor), limit=wanted.limit
    )
    return answers.Page(
        items=[OutcomeRow.model_validate(row) for row in rows], next_cursor=next_place(rows, wanted.limit)
    )


@router.get("/reports/enrolments.{format}", response_class=Response, responses=_FILE)
def export_enrolments(
    context: Context,
    who: Viewer,
    request: Request,
    format: Format,  # noqa: A002 - as the path names it
    wanted: Annotated[EnrolmentFilter, Query()],
) -> StreamingResponse:
    """The same enrolments as a file, all of them, as of one moment. Role: viewer."""
    return exported(context, who, request, wanted, "enrolments", format)


@router.get("/reports/outcomes.{format}", response_class=Response, responses=_FILE)
def export_outcomes(
    context: Context,
    who: Viewer,
    request: Request,
    format: Format,  # noqa: A002 - as the path names it
    wanted: Annotated[OutcomeFilter, Query()],
) -> StreamingResponse:
    """What jobs decided, a row for each enrolment of each job, as of one moment. Role: viewer."""
    return exported(context, who, request, wanted, "outcomes", format)


@router.get("/reports/summary")
def summary(context: Context, who: Viewer, wanted: Annotated[EnrolmentFilter, Query()]) -> Summary:
    """Withdrawals by reason and week, refusals by cause, time from request to withdrawal, open letters. Role: viewer.

    `withdrawn_from` and `withdrawn_to` bound when it was decided, also of what was refused.
    """
    return lists.summary(context.database, who.organisation_id, wanted)


def place(cursor: str | None) -> tuple[int, int] | None:
    """The job and the enrolment that a cursor of outcomes stands for.

    Raises:
        InvalidInputError: it is none that a page gave.
    """
    if cursor is None:
        return None
    job, _, enrolment = cursor.partition("-")
    return parse_cursor(job) or 0, parse_cursor(enrolment) or 0


def next_place(rows: Sequence[Any], limit: int) -> str | None:
    """Where the page of outcomes after this one begins, None on the last."""
    return f"{rows[-1].job_id}-{rows[-1].enrolment_id}" if len(rows) == limit else None


def exported(
    context: Services,
    who: Caller,
    request: Request,
    wanted: EnrolmentFilter | OutcomeFilter,
    name: str,
    format_: Format,
) -> StreamingResponse:
    """A report as a file to download.

    Raises:
        ProblemError: 503; there is no room, others are written, or nobody waits.
    """

    def abandoned() -> bool:
        return from_thread.run(request.is_disconnected)

    spool: BinaryIO = tempfile.TemporaryFile(prefix="withdrawals-export-")  # noqa: SIM115
    try:
        with _slot():
            lists.export(context.database, who.organisation_id, wanted, format_, spool, abandoned=abandoned)
        size = spool.tell()
        spool.seek(0)
    except lists.Abandoned:
        spool.close()
        raise ProblemError(503, "abandoned", "The caller has gone away.") from None
    except OSError as error:
        spool.close()
        log.error("report.no_room", error_class=describe(error)[0])
        detail = "There is no room to write the export here; narrow it with the filter, or ask again later."
        raise ProblemError(503, "no_room", detail, headers={"Retry-After": "60"}) from None
    except BaseException:
        spool.close()
        raise
    day = datetime.now(UTC).date().isoformat()
    headers = {
        "Content-Disposition": f'attachment; filename="{name}-{day}.{format_.value}"',
        "Content-Length": str(size),
        "Cache-Control": "no-store",
    }
    return StreamingResponse(_pieces(spool), headers=headers, media_type=format_.media_type)


@contextmanager
def _slot() -> Iterator[None]:
    if not _free.acquire(blocking=False):
        detail = f"{AT_ONCE} exports are being written already; ask again in a moment."
        raise ProblemError(503, "too_many_exports", detail, headers={"Retry-After": "10"})
    try:
        yield
    finally:
        _free.release()


def _pieces(spool: BinaryIO) -> Iterator[bytes]:
    with spool:
        while piece := spool.read(_PIECE):
            yield piece
