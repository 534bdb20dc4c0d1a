"""Reports over HTTP: lists of enrolments and outcomes, the same as files, and the summary."""

import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated, Any, BinaryIO

import structlog
from anyio import from_thread
from fastapi import APIRouter, Query, Request
from fastapi.responses import Response, StreamingResponse

from schemas import answers
from schemas.catalogue import SEES_NAMES
from schemas.reports import (
    Comparison,
    ComparisonFilter,
    EnrolmentFilter,
    EnrolmentRow,
    OutcomeFilter,
    OutcomeRow,
    RowCount,
    Summary,
    WithNames,
)
from worker.database import Database
from worker.faults import describe
from worker.ids import next_cursor, parse_cursor, parse_pair_cursor
from worker.reports import exports, lists
from worker.reports.formats import Format
from worker.reports.summary import compare, summarise
from worker.web.auth import Caller, Viewer
from worker.web.context import Context, Cursor, Limit, Services
from worker.web.problems import ProblemError, describes

log = structlog.get_logger(__name__)

EXPORTS_AT_ONCE = 4
"""Exports that one process writes at the same time: each holds a connection of the pool and a thread."""
_PIECE = 65_536  # bytes

router = APIRouter(prefix="/v1", tags=["reports"], responses=describes())
_free_slots = threading.BoundedSemaphore(EXPORTS_AT_ONCE)
_FILE_RESPONSE: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The file. Its name has the date.",
        "content": {format_.media_type.partition(";")[0]: {} for format_ in Format},
    }
}


class OutcomeFile(OutcomeFilter, WithNames):
    """The filter, and what the file shows."""


class EnrolmentFile(EnrolmentFilter, WithNames):
    """The filter, and what the file shows."""


class OutcomePage(OutcomeFile):
    """The filter, and the page."""

    limit: Limit = 50
    cursor: Cursor = None


class EnrolmentPage(EnrolmentFile):
    """The filter, and the page."""

    limit: Limit = 50
    cursor: Cursor = None


@router.get("/enrolments")
def list_enrolments(
    context: Context, who: Viewer, wanted: Annotated[EnrolmentPage, Query()]
) -> answers.Page[EnrolmentRow]:
    """Enrolments as they are now, newest first. Withdrawn ones are included unless excluded."""
    _check_names(who, wanted)
    rows = lists.list_enrolments(
        context.database,
        who.organisation_id,
        wanted,
        before=parse_cursor(wanted.cursor),
        limit=wanted.limit,
        names=wanted.names,
    )
    items = [EnrolmentRow.model_validate(row) for row in rows]
    return answers.Page(items=items, next_cursor=next_cursor(rows, wanted.limit, "enrolment_id"))


@router.get("/outcomes")
def list_all_outcomes(
    context: Context, who: Viewer, wanted: Annotated[OutcomePage, Query()]
) -> answers.Page[OutcomeRow]:
    """What jobs decided, newest job first, a row for each enrolment of each job."""
    _check_names(who, wanted)
    rows = lists.list_outcomes(
        context.database,
        who.organisation_id,
        wanted,
        before=parse_pair_cursor(wanted.cursor),
        limit=wanted.limit,
        names=wanted.names,
    )
    items = [OutcomeRow.model_validate(row) for row in rows]
    return answers.Page(items=items, next_cursor=next_cursor(rows, wanted.limit, "job_id", "enrolment_id"))


@router.get("/reports/enrolments.{format}", response_class=Response, responses=_FILE_RESPONSE)
def export_enrolments(
    context: Context,
    who: Viewer,
    request: Request,
    format: Format,  # noqa: A002 - as the path names it
    wanted: Annotated[EnrolmentFile, Query()],
) -> StreamingResponse:
    """All enrolments that the filter finds, as a file, from one snapshot."""
    _check_names(who, wanted)
    return send_export(context, who, request, wanted, "enrolments", format, names=wanted.names)


@router.get("/reports/outcomes.{format}", response_class=Response, responses=_FILE_RESPONSE)
def export_outcomes(
    context: Context,
    who: Viewer,
    request: Request,
    format: Format,  # noqa: A002 - as the path names it
    wanted: Annotated[OutcomeFile, Query()],
) -> StreamingResponse:
    """All outcomes that the filter finds, as a file, from one snapshot."""
    _check_names(who, wanted)
    return send_export(context, who, request, wanted, "outcomes", format, names=wanted.names)


@router.get("/reports/enrolments/count")
def count_enrolments(context: Context, who: Viewer, wanted: Annotated[EnrolmentFilter, Query()]) -> RowCount:
    """How many rows the file would have, exact up to 10,000."""
    return lists.count_rows(context.pools.reports, who.organisation_id, wanted)


@router.get("/reports/outcomes/count")
def count_outcomes(context: Context, who: Viewer, wanted: Annotated[OutcomeFilter, Query()]) -> RowCount:
    """How many rows the file would have, exact up to 10,000."""
    return lists.count_rows(context.pools.reports, who.organisation_id, wanted)


@router.get("/reports/summary")
def show_summary(
    context: Context, who: Viewer, response: Response, wanted: Annotated[EnrolmentFilter, Query()]
) -> Summary:
    """Withdrawals by reason and week, refusals by cause, time from request to withdrawal, open letters. Role: viewer.

    `withdrawn_from` and `withdrawn_to` bound the time of every decision, refusals included. Read from a replica if
    there is one; then the header `X-Replica-Lag-Seconds` says how far it may be behind.
    """
    read = context.pools.reader.read(lambda database: summarise(database, who.organisation_id, wanted))
    response.headers.update(lag_header(read.lag))
    return read.found


@router.get("/reports/comparison")
def show_comparison(
    context: Context, who: Viewer, response: Response, wanted: Annotated[ComparisonFilter, Query()]
) -> Comparison:
    """The summary of a period beside that of another, with the differences. Role: viewer.

    Without `compare_from` and `compare_to` it is compared with the period just before, of the same length.
    """
    read = context.pools.reader.read(lambda database: compare(database, who.organisation_id, wanted))
    response.headers.update(lag_header(read.lag))
    return read.found


def _check_names(who: Caller, wanted: WithNames) -> None:
    if wanted.names:
        who.must_be(SEES_NAMES)


def send_export(
    context: Services,
    who: Caller,
    request: Request,
    wanted: EnrolmentFilter | OutcomeFilter,
    name: str,
    format_: Format,
    *,
    names: bool = False,
) -> StreamingResponse:
    """Write a report to a temporary file, then send it (ops/decisions/0013). It is read from a replica if there is one.

    Raises:
        ProblemError: 503; no free disk space, too many exports at once, or the caller has gone away.
    """

    def abandoned() -> bool:
        return from_thread.run(request.is_disconnected)

    def write(database: Database) -> int:
        spool.seek(0)  # what a replica left that failed on the way
        spool.truncate()
        return exports.export(database, who.organisation_id, wanted, format_, spool, names=names, abandoned=abandoned)

    spool: BinaryIO = tempfile.TemporaryFile(prefix="withdrawals-export-")  # noqa: SIM115
    try:
        with _export_slot():
            read = context.pools.reader.read(write)
        size = spool.tell()
        spool.seek(0)
    except exports.ExportAbandoned:
        spool.close()
        raise ProblemError(503, "abandoned", "The caller has gone away.") from None
    except OSError as error:
        spool.close()
        log.error("report.no_room", error_class=describe(error)[0])
        detail = "There is no disk space left for the export. Narrow the filter, or try again later."
        raise ProblemError(503, "no_room", detail, headers={"Retry-After": "60"}) from None
    except BaseException:
        spool.close()
        raise
    day = datetime.now(UTC).date().isoformat()
    headers = {
        "Content-Disposition": f'attachment; filename="{name}-{day}.{format_.value}"',
        "Content-Length": str(size),
        "Cache-Control": "no-store",
        **lag_header(read.lag),
    }
    return StreamingResponse(pieces(spool), headers=headers, media_type=format_.media_type)


def lag_header(lag: float | None) -> dict[str, str]:
    """How far a report may be behind that was read from a replica; nothing if it was not."""
    return {} if lag is None else {"X-Replica-Lag-Seconds": f"{lag:.1f}"}


@contextmanager
def _export_slot() -> Iterator[None]:
    if not _free_slots.acquire(blocking=False):
        detail = f"{EXPORTS_AT_ONCE} exports are being written already. Try again in a few seconds."
        raise ProblemError(503, "too_many_exports", detail, headers={"Retry-After": "10"})
    try:
        yield
    finally:
        _free_slots.release()


def pieces(spool: BinaryIO) -> Iterator[bytes]:
    """The content of a file, a piece in memory at a time; it is closed at the end."""
    with spool:
        while piece := spool.read(_PIECE):
            yield piece
