"""Bearer tokens for the HTTP API: create, list, revoke."""

from typing import Annotated, Any

import typer

from ops.cli import common
from ops.cli.common import As, AsJson, Note, Organisation
from schemas.catalogue import ROLES
from schemas.tokens import TokenRequest
from worker.access import tokens
from worker.ledger.tokens import Token

_ROLE_HELP = " ".join(f"{role}: {entry.sentence}" for role, entry in ROLES.items()) + (
    " From viewer on, each role includes those before it; operator includes producer."
)
group = typer.Typer(no_args_is_help=True, help="Bearer tokens for the HTTP API: create, list, revoke.")


@group.command("create")
def create(
    name: Annotated[str, typer.Option(help="Who or what uses it; recorded with everything it does.")],
    role: Annotated[str, typer.Option(help=_ROLE_HELP)],
    member: Annotated[
        int | None,
        typer.Option(help="Id of the member who will use it (`members list`). It then counts as that person."),
    ] = None,
    note: Note = None,
    organisation: Organisation = None,
    acting: As = None,
    json: AsJson = False,
) -> None:
    """Create a token. It is shown only once."""
    wanted = common.parse(TokenRequest, name=name, role=role, member_id=member, note=note)
    with common.in_organisation(organisation) as (db, org):
        try:
            made = tokens.create(
                db, organisation_id=org, actor=common.actor(acting), **wanted.model_dump(exclude_unset=True)
            )
        except tokens.TokenWaitsError as waits:
            common.print_secret(waits.secret, dict(waits.more), json, said=str(waits), name="token")
            return
    said = f"token {made.token.id}, role {role}."
    common.print_secret(made.secret, document(made.token), json, said=said, name="token")


@group.command("list")
def list_tokens(organisation: Organisation = None, json: AsJson = False) -> None:
    """List tokens, newest first, without their secrets."""
    with common.database() as db:
        found = tokens.list_tokens(db, organisation_id=common.organisation_id(db, organisation))
    common.print_list(
        found,
        json,
        columns=("token", "name", "role", "created", "by", "last used", "revoked"),
        row=lambda t: (t.id, t.name, t.role, t.created_at, t.created_by, t.last_used_at, t.revoked_at),
        document=document,
    )


@group.command("revoke")
def revoke(
    token_id: Annotated[int, typer.Argument(help="Id of the token.")],
    organisation: Organisation = None,
    acting: As = None,
    json: AsJson = False,
) -> None:
    """End a token at once."""
    with common.in_organisation(organisation) as (db, org):
        token = tokens.revoke(db, organisation_id=org, token_id=token_id, actor=common.actor(acting))
    common.print_record(document(token), json, said=f"token {token.id} ({token.name}) is revoked")


def document(token: Token) -> dict[str, Any]:
    """A token as JSON, without its secret."""
    names = ("id", "name", "role", "created_at", "created_by", "last_used_at", "revoked_at")
    return {name: getattr(token, name) for name in names}
