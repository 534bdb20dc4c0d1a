"""When each source of HR events was last heard: `/v1/sources/heard`."""

from typing import Annotated

from fastapi import APIRouter, Path

from schemas import answers
from schemas.rosters import HeardSource, SilenceLimit
from worker.people import heard
from worker.web.auth import Owner, Viewer
from worker.web.context import Context
from worker.web.problems import describes

router = APIRouter(prefix="/v1/sources", tags=["sources"], responses=describes())


@router.get("/heard")
def list_heard(context: Context, who: Viewer) -> answers.Page[HeardSource]:
    """HR systems, the SCIM directory and the rosters, each with the time at which it was last heard."""
    found = heard.list_heard(context.database, organisation_id=who.organisation_id)
    return answers.Page(items=found, next_cursor=None)


@router.put("/{source}/silence", responses=describes(404))
def set_silence_limit(
    context: Context, who: Owner, source: Annotated[str, Path(max_length=63)], body: SilenceLimit
) -> HeardSource:
    """Say after how long without a word a source counts as silent, for the metric and the notifications."""
    return heard.set_limit(
        context.database, organisation_id=who.organisation_id, source=source, hours=body.hours, actor=who.actor
    )
