"""The audit over HTTP: a list, a file for a SIEM, and the chain of hashes over its finished days."""

import tempfile
from collections.abc import Iterator
from datetime import UTC, date, datetime
from typing import IO, Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import Response, StreamingResponse

from schemas import answers
from schemas.audit import AuditAct, AuditDay, AuditFilter
from worker.ids import next_cursor, parse_cursor
from worker.ledger import audit_log
from worker.ledger.books import audit_chain
from worker.reports import audit_files
from worker.web.auth import Viewer
from worker.web.context import Context, Cursor, Limit
from worker.web.problems import describes

MEDIA_TYPE = "application/jsonl"
_PIECE = 65_536  # bytes

router = APIRouter(prefix="/v1", tags=["audit"], responses=describes())

_FILE: dict[int | str, dict[str, Any]] = {200: {"description": "The file.", "content": {MEDIA_TYPE: {}}}}
_Day = Annotated[date | None, Query(description="A day in UTC.")]


class AuditPage(AuditFilter):
    """The filter, and the page."""

    limit: Limit = 50
    cursor: Cursor = None


@router.get("/audit")
def list_acts(
    context: Context,
    who: Viewer,
    wanted: Annotated[AuditPage, Query()],
) -> answers.Page[AuditAct]:
    """Who did what, newest first."""
    with context.database.begin() as connection:
        found = audit_log.list_acts(
            connection, who.organisation_id, wanted, before=parse_cursor(wanted.cursor), limit=wanted.limit
        )
    return answers.Page(
        items=[AuditAct.model_validate(one) for one in found], next_cursor=next_cursor(found, wanted.limit)
    )


@router.get("/audit/days")
def list_days(context: Context, who: Viewer, first_day: _Day = None, last_day: _Day = None) -> answers.Page[AuditDay]:
    """The chain of hashes over the finished days of the audit, oldest first; to verify an export against."""
    with context.database.begin() as connection:
        found = audit_chain.list_links(connection, who.organisation_id, since=first_day, until=last_day)
        items = [AuditDay(day=one.day, after=one.after, row_count=one.row_count, hash=one.hash.hex()) for one in found]
    return answers.Page(items=items, next_cursor=None)


@router.get("/audit/export.jsonl", response_class=Response, responses=_FILE)
def export_acts(context: Context, who: Viewer, first_day: _Day = None, last_day: _Day = None) -> StreamingResponse:
    """The audit of some days (UTC; all by default) as JSON Lines of OCSF events, with the chain of its finished days.

    `withdrawals audit verify` checks such a file without the service.
    """
    target = tempfile.TemporaryFile("w+", encoding="utf-8", newline="\n")  # noqa: SIM115 - closed when it was sent
    try:
        with context.pools.reports.begin() as connection:
            known = audit_log.find_days(connection, who.organisation_id)
            first, last = known or (datetime.now(UTC).date(),) * 2
            first, last = max(first, first_day or first), min(last, last_day or last)
            audit_files.write(audit_files.export_days(connection, who.organisation_id, first, last), target)
    except BaseException:
        target.close()
        raise
    name = f"audit-{first}-{last}.jsonl"
    headers = {"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"}
    return StreamingResponse(_pieces(target), media_type=MEDIA_TYPE, headers=headers)


def _pieces(target: IO[str]) -> Iterator[str]:
    with target:
        target.seek(0)
        while piece := target.read(_PIECE):
            yield piece
