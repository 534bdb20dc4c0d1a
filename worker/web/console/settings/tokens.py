"""Tokens: made, shown once, revoked."""

from typing import Annotated

from fastapi import APIRouter, Form
from starlette.responses import Response

from schemas.catalogue import ROLES, Role
from schemas.tokens import TokenRequest
from worker.access import tokens
from worker.errors import ConflictError, InvalidInputError, NotFoundError
from worker.ledger import members
from worker.texts import text
from worker.web.console.forms import Text, parse, parse_choice
from worker.web.console.settings import history, shown_once
from worker.web.console.settings.shown_once import SETTINGS
from worker.web.console.view import LookingAsOwner, Owning, View
from worker.web.context import RowId

router = APIRouter(prefix=SETTINGS, include_in_schema=False)

HERE = f"{SETTINGS}/tokens"


@router.get("/tokens")
def show(view: LookingAsOwner) -> Response:
    """Tokens and who made them; the form for a new one. Role: owner."""
    return _page(view)


@router.post("/tokens")
def create(
    view: Owning,
    name: Annotated[Text, Form()] = "",
    role: Annotated[Text, Form()] = "",
    member: Annotated[Text, Form()] = "",
    note: Annotated[Text, Form()] = "",
) -> Response:
    """Make a token; the next page shows it, once. Role: owner."""
    typed = {"name": name, "role": role, "member": member, "note": note}
    try:
        if not role:
            raise InvalidInputError(text("role: choose one"))
        wanted = parse(TokenRequest, name=name, role=role, member_id=parse_choice(member, "member"), note=note or None)
        made = tokens.create(
            view.database,
            organisation_id=view.organisation_id,
            name=wanted.name,
            role=wanted.role,
            actor=view.actor,
            member_id=wanted.member_id,
            made_by=view.caller.made_by,
            note=wanted.note,
        )
    except tokens.TokenWaitsError as waits:
        said = text(
            "This needs a second person: the token works once somebody has approved approval {approval}.",
            approval=waits.approval_id,
        )
        return shown_once.go(view, HERE, said, waits.secret)
    except (InvalidInputError, ConflictError, NotFoundError) as refused:
        return _page(view, error=str(refused), status=409 if isinstance(refused, ConflictError) else 422, typed=typed)
    return shown_once.go(view, HERE, text("Token {token} is made.", token=made.token.name), made.secret)


@router.post("/tokens/{token_id}/revoke")
def revoke(view: Owning, token_id: RowId) -> Response:
    """End a token at once, and every session that it opened. Role: owner."""
    ended = tokens.revoke(view.database, organisation_id=view.organisation_id, token_id=token_id, actor=view.actor)
    return view.go(HERE, text("Token {token} is revoked.", token=ended.name))


def _page(view: View, *, error: str = "", status: int = 200, typed: dict[str, str] | None = None) -> Response:
    with view.database.begin() as connection:
        people = members.list_members(connection, view.organisation_id)
    return shown_once.page(
        view,
        "settings_tokens.html",
        status=status,
        found=tokens.list_tokens(view.database, organisation_id=view.organisation_id),
        members=[
            (one.id, f"{one.name} ({one.email})" if one.email else one.name)
            for one in people
            if tokens.may_make_for(one, view.caller.person)
        ],
        roles=[(role, ROLES[role].sentence) for role in Role],
        error=error,
        typed=typed or {},
        acts=history.read(view, "token"),
    )
