"""Members: who has signed in with the provider, which groups have which role, and an end to their sessions."""

from fastapi import APIRouter
from starlette.responses import Response

from worker.access import sessions
from worker.errors import NotFoundError
from worker.ledger import members
from worker.sign_on_settings import parse_grants
from worker.texts import text
from worker.web.console.settings import history
from worker.web.console.settings.shown_once import SETTINGS
from worker.web.console.view import LookingAsOwner, Owning
from worker.web.context import RowId

router = APIRouter(prefix=SETTINGS, include_in_schema=False)

HERE = f"{SETTINGS}/members"
_MOST = 1000
"""Sessions that are looked through for the roles of members."""


@router.get("/members")
def show(view: LookingAsOwner) -> Response:
    """Who has signed in, with which role they are signed in now, and which groups have which role. Role: owner."""
    with view.database.begin() as connection:
        found = members.list_members(connection, view.organisation_id)
    live = sessions.list_open(view.database, organisation_id=view.organisation_id, limit=_MOST)
    grants = parse_grants(view.settings.oidc_roles)
    return view.page(
        "settings_members.html",
        found=[(one, [session for session in live if session.member_id == one.id]) for one in found],
        issuer=view.settings.oidc_issuer,
        grants=[one for one in grants if one.organisation == view.session.organisation],
        acts=history.read(view, "session"),
    )


@router.post("/members/{member_id}/end-sessions")
def end_sessions(view: Owning, member_id: RowId) -> Response:
    """End every session of a member at once. Role: owner."""
    with view.database.begin() as connection:
        member = members.find(connection, view.organisation_id, member_id)
    if member is None:
        raise NotFoundError(text("there is no member {member} in this organisation", member=member_id))
    live = sessions.list_open(
        view.database, organisation_id=view.organisation_id, member_id=member_id, limit=_MOST
    )  # fmt: skip
    ended = sessions.end_several(
        view.database,
        organisation_id=view.organisation_id,
        session_ids=[one.id for one in live],
        actor=view.actor,
        member_id=member_id,
    )
    said = text("{count:,} sessions of {member} have ended.", count=ended, member=member.name)
    if ended == 1:
        said = text("One session of {member} has ended.", member=member.name)
    return view.go(HERE, said)
