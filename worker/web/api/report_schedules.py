"""Scheduled reports over HTTP: what is made again and again, and the files that it became."""

import tempfile
from typing import Annotated, Any, BinaryIO

from fastapi import APIRouter, Query
from fastapi.responses import Response, StreamingResponse

from schemas import answers
from schemas.catalogue import SEES_NAMES
from schemas.report_schedules import ReportFile, Schedule, ScheduleRequest
from worker.errors import ConflictError
from worker.ids import next_cursor, parse_cursor
from worker.ledger import report_files, report_schedules
from worker.reports import scheduled_files, schedules
from worker.reports.formats import Format
from worker.web.api.reports import pieces
from worker.web.auth import Caller, Operator, Viewer
from worker.web.context import Context, Cursor, Limit, RowId, Services
from worker.web.problems import describes

router = APIRouter(prefix="/v1/report-schedules", tags=["reports"], responses=describes())
files_router = APIRouter(prefix="/v1/report-files", tags=["reports"], responses=describes())
_FILE_RESPONSE: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The file.",
        "content": {format_.media_type.partition(";")[0]: {} for format_ in Format},
    }
}


@router.get("")
def list_schedules(context: Context, who: Viewer) -> answers.Page[Schedule]:
    """Reports that are made again and again, newest first, ended ones included."""
    with context.database.begin() as connection:
        found = report_schedules.list_schedules(connection, who.organisation_id)
    return answers.Page(items=[Schedule.model_validate(one) for one in found], next_cursor=None)


@router.post("", status_code=201, responses=describes(409))
def create_schedule(context: Context, who: Operator, request: ScheduleRequest) -> Schedule:
    """Have a report made from now on. It ends when whoever asked for it may not ask any more."""
    made = schedules.create(
        context.database, organisation_id=who.organisation_id, wanted=request, who=who.person
    )  # fmt: skip
    return Schedule.model_validate(made)


@router.get("/{schedule_id}", responses=describes(404))
def show_schedule(context: Context, who: Viewer, schedule_id: RowId) -> Schedule:
    """A report that is made again and again."""
    found = schedules.show(context.database, organisation_id=who.organisation_id, schedule_id=schedule_id)
    return Schedule.model_validate(found)


@router.post("/{schedule_id}/pause", responses=describes(404, 409))
def pause_schedule(context: Context, who: Operator, schedule_id: RowId) -> Schedule:
    """Make nothing until it is resumed. What is missed meanwhile is not made."""
    found = schedules.pause(
        context.database, organisation_id=who.organisation_id, schedule_id=schedule_id, who=who.person
    )
    return Schedule.model_validate(found)


@router.post("/{schedule_id}/resume", responses=describes(404, 409))
def resume_schedule(context: Context, who: Operator, schedule_id: RowId) -> Schedule:
    """Go on from the next time that it is due."""
    found = schedules.resume(
        context.database, organisation_id=who.organisation_id, schedule_id=schedule_id, who=who.person
    )
    return Schedule.model_validate(found)


@router.post("/{schedule_id}/run", responses=describes(404, 409))
def run_schedule(context: Context, who: Operator, schedule_id: RowId) -> Schedule:
    """Make the file once more, now."""
    found = schedules.make_now(
        context.database, organisation_id=who.organisation_id, schedule_id=schedule_id, who=who.person
    )
    return Schedule.model_validate(found)


@router.post("/{schedule_id}/delete", responses=describes(404, 409))
def delete_schedule(context: Context, who: Operator, schedule_id: RowId) -> Schedule:
    """End it, and delete the files that it became."""
    found = schedules.delete(
        context.database, organisation_id=who.organisation_id, schedule_id=schedule_id, who=who.person
    )
    return Schedule.model_validate(found)


@files_router.get("")
def list_files(
    context: Context,
    who: Viewer,
    schedule_id: Annotated[int | None, Query(ge=1, le=2**63 - 1, description="Only those of this schedule.")] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> answers.Page[ReportFile]:
    """Files of scheduled reports, newest first, with those that are being made or have failed."""
    with context.database.begin() as connection:
        found = report_files.list_files(
            connection, who.organisation_id, schedule_id=schedule_id, before=parse_cursor(cursor), limit=limit
        )
    shown = [ReportFile.model_validate(one) for one in found]
    return answers.Page(items=shown, next_cursor=next_cursor(found, limit))


@files_router.get("/{file_id}", responses=describes(404))
def show_file(context: Context, who: Viewer, file_id: RowId) -> ReportFile:
    """A file of a scheduled report, without its content."""
    found = scheduled_files.show(context.database, organisation_id=who.organisation_id, file_id=file_id)
    return ReportFile.model_validate(found)


@files_router.get(
    "/{file_id}/content", response_class=Response, responses={**_FILE_RESPONSE, **describes(404, 409)}
)  # fmt: skip
def read_file(context: Context, who: Viewer, file_id: RowId) -> StreamingResponse:
    """The content of a file. One with names and e-mail addresses is for the role operator or above."""
    return send_file(context, who, file_id)


def send_file(context: Services, who: Caller, file_id: int) -> StreamingResponse:
    """Copy a file out of the database, then send it: a slow reader keeps no connection.

    Raises:
        NotFoundError: there is no such file, or it was kept long enough.
        ConflictError: it is not made yet, or could not be made.
        ProblemError: 403; it has names, and the caller may not see them.
    """
    organisation_id = who.organisation_id
    found = scheduled_files.show(context.database, organisation_id=organisation_id, file_id=file_id)
    if found.names:
        who.must_be(SEES_NAMES)
    if found.state != "ready":
        raise ConflictError(f"report file {file_id} is {found.state}")
    spool: BinaryIO = tempfile.TemporaryFile(prefix="withdrawals-report-")  # noqa: SIM115
    try:
        scheduled_files.copy_content(
            context.pools.reports, organisation_id=organisation_id, file_id=file_id, sink=spool
        )  # fmt: skip
    except BaseException:
        spool.close()
        raise
    spool.seek(0)
    name = f"{found.report}-{found.due_at.date().isoformat()}-{file_id}.{found.format}"
    headers = {
        "Content-Disposition": f'attachment; filename="{name}"',
        "Content-Length": str(found.size),
        "Cache-Control": "no-store",
    }
    return StreamingResponse(pieces(spool), headers=headers, media_type=Format(found.format).media_type)
