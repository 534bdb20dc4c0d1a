"""People who have signed in with the provider."""

import typer

from ops.cli import common
from ops.cli.common import AsJson, Organisation
from worker.ledger import members

group = typer.Typer(no_args_is_help=True, help="People who have signed in with the provider: list.")


@group.callback()
def _group() -> None:
    """A group also while it has one command."""


@group.command("list")
def list_members(organisation: Organisation = None, json: AsJson = False) -> None:
    """List everybody who has signed in with the provider, by name. Their groups decide what they may do."""
    with common.in_organisation(organisation) as (db, org), db.begin() as connection:
        found = members.list_members(connection, org)
    common.print_list(
        found,
        json,
        columns=("member", "name", "e-mail", "first sign-in", "last sign-in"),
        row=lambda one: (one.id, one.name, one.email, one.created_at, one.signed_in_at),
    )
