"""Full rosters over HTTP: `/v1/rosters`. One is planned, then confirmed; the relay applies it."""

import tempfile
from collections.abc import AsyncIterator, Iterator
from typing import IO, Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from starlette.datastructures import FormData, UploadFile
from starlette.responses import StreamingResponse

from schemas import answers
from schemas.catalogue import Role
from schemas.rosters import Roster, RosterPlan, RosterRequest
from worker.ids import next_cursor, parse_cursor
from worker.people import rosters
from worker.web import sent_files
from worker.web.api.job_files import form_fault, read_form
from worker.web.api.submit import validated
from worker.web.auth import Operator, Viewer
from worker.web.context import Context, Cursor, Limit, RowId
from worker.web.problems import WITH_BODY, describes

_PIECE = 1 << 16
_FORM = {
    **RosterRequest.model_json_schema(),
    "title": "RosterForm",
    "required": ["file", "as_of"],
    "properties": {
        "file": {
            "type": "string",
            "contentMediaType": "text/csv",
            "description": "CSV with any delimiter, XLSX, ODS or Parquet, one line a person. Its header names "
            "learner_external_id, and active or status; without that everybody in it is active.",
            "example": "learner_external_id,active\nE-1042,true\n",
        },
        **RosterRequest.model_json_schema()["properties"],
    },
}
_SENT = {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": _FORM}}}}

router = APIRouter(prefix="/v1/rosters", tags=["rosters"], responses=describes())


async def _form(request: Request, _: Operator) -> AsyncIterator[FormData]:
    async for form in read_form(request):
        yield form


@router.post("", status_code=201, openapi_extra=_SENT, responses=describes(*WITH_BODY, "roster_refused"))
def plan_roster(
    context: Context, who: Operator, response: Response, form: Annotated[FormData, Depends(_form)]
) -> RosterPlan:
    """Compare a full roster with the platform and the events; nothing changes until it is confirmed.

    A roster that was accepted, sent again, is answered as it is now (200).
    """
    fields: dict[str, Any] = {}
    for name, value in form.multi_items():
        if name in fields:
            raise form_fault(name, "stands there twice")
        fields[name] = value
    file = fields.pop("file", None)
    if not isinstance(file, UploadFile):
        raise form_fault("file", "is needed: a file with one line for each person")
    wanted = validated(RosterRequest, fields)
    if wanted.allow_shrink is not None:
        who.must_be(Role.APPROVER)
    found = sent_files.plan_roster(context, who, wanted, file)
    response.status_code = 201 if found.state == "planned" else 200
    return found


@router.get("")
def list_rosters(context: Context, who: Viewer, limit: Limit = 50, cursor: Cursor = None) -> answers.Page[Roster]:
    """Rosters, newest first."""
    found = rosters.list_rosters(
        context.database, organisation_id=who.organisation_id, before=parse_cursor(cursor), limit=limit
    )
    return answers.Page(items=found, next_cursor=next_cursor(found, limit))


@router.get("/{roster_id}", responses=describes(404))
def show_roster(context: Context, who: Viewer, roster_id: RowId) -> RosterPlan:
    """One roster; while it is planned, with what it would do now."""
    return rosters.show(context.pools.reports, organisation_id=who.organisation_id, roster_id=roster_id)


@router.get(
    "/{roster_id}/lines",
    response_class=Response,
    responses={200: {"content": {"text/csv": {}}, "description": "CSV."}, **describes(404)},
)
def read_lines(context: Context, who: Viewer, roster_id: RowId) -> Response:
    """Every line of a planned roster with what was found and why, as CSV; later those that changed something."""
    spool = tempfile.TemporaryFile()  # noqa: SIM115 - closed once it was sent
    try:
        rosters.write_lines(context.pools.reports, organisation_id=who.organisation_id, roster_id=roster_id, sink=spool)
    except BaseException:
        spool.close()
        raise
    headers = {"Content-Disposition": f'attachment; filename="roster {roster_id}.csv"', "Cache-Control": "no-store"}
    return StreamingResponse(pieces(spool), headers=headers, media_type="text/csv; charset=utf-8")


@router.post("/{roster_id}/confirm", status_code=202, responses=describes(404, 409, "roster_refused"))
def confirm_roster(context: Context, who: Operator, roster_id: RowId) -> Roster:
    """Apply a planned roster, and withdraw the people who left by one job; repeating it changes nothing."""
    return rosters.confirm(context.database, organisation_id=who.organisation_id, roster_id=roster_id, actor=who.actor)


def pieces(spool: IO[bytes]) -> Iterator[bytes]:
    """A spooled file for an answer, closed at its end."""
    with spool:
        while piece := spool.read(_PIECE):
            yield piece
