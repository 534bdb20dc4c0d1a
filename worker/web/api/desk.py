"""The dead-letter desk over HTTP: groups, overview, assignees, notes.

Its routes come before `/v1/dead-letters/{id}`, so that `groups` is not read as an id.
"""

from typing import Annotated

from fastapi import APIRouter, Query

from schemas import answers
from schemas import desk as wire
from schemas.dead_letters import LetterFilter
from worker.dead_letters import desk, desk_acts
from worker.web.api.dead_letters import show_letter
from worker.web.auth import Operator, Viewer
from worker.web.context import Context
from worker.web.problems import describes

router = APIRouter(prefix="/v1/dead-letters", tags=["dead letters"], responses=describes())


@router.get("/groups")
def list_groups(
    context: Context,
    who: Viewer,
    wanted: Annotated[LetterFilter, Query()],
) -> wire.Groups:
    """Letters that match by fingerprint: how many, how old, one to look at."""
    return desk.groups(context.database, context.settings, who.organisation_id, wanted, limit=1000)


@router.get("/overview")
def show_overview(context: Context, who: Viewer) -> wire.Overview:
    """Live letters by code and age, the overdue ones counted."""
    return desk.overview(context.database, context.settings, who.organisation_id)


@router.post("/assign")
def assign_all(context: Context, who: Operator, request: wire.AssignAllRequest) -> wire.Acted:
    """Let somebody look after all live letters that match, however many."""
    return desk_acts.assign_all(
        context.database,
        organisation_id=who.organisation_id,
        wanted=request.filter,
        assignee=request.assignee,
        actor=who.actor,
    )


@router.post("/note")
def note_all(context: Context, who: Operator, request: wire.NoteAllRequest) -> wire.Acted:
    """Put a note beside all letters that match, however many."""
    return desk_acts.note_all(
        context.database,
        organisation_id=who.organisation_id,
        wanted=request.filter,
        note=request.note,
        actor=who.actor,
    )


@router.post("/{letter_id}/assign", responses=describes(404, 409))
def assign_letter(context: Context, who: Operator, letter_id: int, request: wire.AssignRequest) -> answers.DeadLetter:
    """Let somebody look after a letter; null: nobody."""
    desk_acts.assign(
        context.database,
        organisation_id=who.organisation_id,
        letter_ids=[letter_id],
        assignee=request.assignee,
        actor=who.actor,
    )
    return show_letter(context, who.organisation_id, letter_id)


@router.post("/{letter_id}/note", responses=describes(404))
def note_letter(context: Context, who: Operator, letter_id: int, request: wire.NoteRequest) -> answers.DeadLetter:
    """Put a note beside a letter, live or closed."""
    desk_acts.note(
        context.database,
        organisation_id=who.organisation_id,
        letter_ids=[letter_id],
        note=request.note,
        actor=who.actor,
    )
    return show_letter(context, who.organisation_id, letter_id)
