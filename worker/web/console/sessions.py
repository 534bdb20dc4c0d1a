"""Sessions: your own, and for an owner everybody's; ended at once."""

from fastapi import APIRouter
from starlette.responses import RedirectResponse, Response

from schemas.catalogue import Role
from worker.access import sessions
from worker.ids import next_cursor, parse_cursor
from worker.ledger.sessions import OpenSession
from worker.texts import text
from worker.web.console.render import PATH
from worker.web.console.view import Looking, SigningOut, View
from worker.web.context import Cursor, RowId

router = APIRouter(prefix=PATH, include_in_schema=False)

ROWS = 50
HERE = f"{PATH}/sessions"


@router.get("/sessions")
def show(view: Looking, cursor: Cursor = None) -> Response:
    """Where you are signed in; an owner sees everybody who is."""
    everybody = []
    if view.may(Role.OWNER):
        everybody = sessions.list_open(
            view.database, organisation_id=view.organisation_id, before=parse_cursor(cursor), limit=ROWS
        )
    return view.page(
        "sessions.html",
        own=_own(view),
        everybody=everybody,
        here=view.session.holder.session_id,
        next_cursor=next_cursor(everybody, ROWS),
    )


@router.post("/sessions/{session_id}/end")
def end(view: SigningOut, session_id: RowId) -> Response:
    """End a session at once: one of your own, or as an owner anybody's."""
    whose = {} if view.may(Role.OWNER) else _holder(view)
    sessions.end(view.database, organisation_id=view.organisation_id, session_id=session_id, actor=view.actor, **whose)
    if session_id == view.session.holder.session_id:
        return RedirectResponse(f"{PATH}/sign-in", 303)
    return view.go(HERE, text("The session has ended."))


@router.post("/sessions/end-others")
def end_others(view: SigningOut) -> Response:
    """End every session of yours but this one."""
    others = [one.id for one in _own(view) if one.id != view.session.holder.session_id]
    ended = sessions.end_several(
        view.database,
        organisation_id=view.organisation_id,
        session_ids=others,
        actor=view.actor,
        **_holder(view),
    )
    said = text("One session has ended.") if ended == 1 else text("{count} sessions have ended.", count=ended)
    return view.go(HERE, said)


def _holder(view: View) -> dict[str, int | None]:
    return {"token_id": view.caller.token_id, "member_id": view.caller.member_id}


def _own(view: View) -> list[OpenSession]:
    return sessions.list_open(view.database, organisation_id=view.organisation_id, limit=ROWS, **_holder(view))
