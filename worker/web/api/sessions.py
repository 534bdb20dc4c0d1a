"""Who is signed in to the console, and who has signed in with the provider."""

from fastapi import APIRouter

from schemas import answers
from schemas.sessions import Member, Session
from worker.access import sessions
from worker.ids import next_cursor, parse_cursor
from worker.ledger import members
from worker.web.auth import Owner
from worker.web.context import Context, Cursor, Limit, RowId
from worker.web.problems import describes

router = APIRouter(prefix="/v1", tags=["sessions"], responses=describes())


@router.get("/sessions")
def list_sessions(context: Context, who: Owner, limit: Limit = 50, cursor: Cursor = None) -> answers.Page[Session]:
    """Live sessions of the console, newest first."""
    found = sessions.list_open(
        context.database, organisation_id=who.organisation_id, before=parse_cursor(cursor), limit=limit
    )
    return answers.Page(items=[Session.model_validate(one) for one in found], next_cursor=next_cursor(found, limit))


@router.post("/sessions/{session_id}/end", responses=describes(404))
def end_session(context: Context, who: Owner, session_id: RowId) -> Session:
    """End a session of the console at once."""
    ended = sessions.end(context.database, organisation_id=who.organisation_id, session_id=session_id, actor=who.actor)
    return Session.model_validate(ended)


@router.get("/members")
def list_members(context: Context, who: Owner) -> answers.Page[Member]:
    """Everybody who has signed in with the provider, by name."""
    with context.database.begin() as connection:
        found = members.list_members(connection, who.organisation_id)
    return answers.Page(items=[Member.model_validate(one) for one in found], next_cursor=None)
