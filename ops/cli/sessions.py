"""Who is signed in to the console: list, end."""

from typing import Annotated

import typer

from ops.cli import common
from ops.cli.common import As, AsJson, Organisation
from schemas.sessions import Session
from worker.access import sessions

group = typer.Typer(no_args_is_help=True, help="Who is signed in to the console: list, end.")
_MOST = 1000


@group.command("list")
def list_sessions(organisation: Organisation = None, json: AsJson = False) -> None:
    """List live sessions, newest first."""
    with common.database() as db:
        found = sessions.list_open(db, organisation_id=common.organisation_id(db, organisation), limit=_MOST)
    common.print_list(
        found,
        json,
        columns=("session", "who", "e-mail", "role", "signed in", "last used", "ends"),
        row=lambda s: (s.id, s.name, s.email, s.role, s.created_at, s.last_used_at, s.expires_at),
        document=Session.model_validate,
    )


@group.command("end")
def end(
    session_id: Annotated[int, typer.Argument(help="Id of the session.")],
    organisation: Organisation = None,
    acting: As = None,
    json: AsJson = False,
) -> None:
    """End a session at once."""
    with common.in_organisation(organisation) as (db, org):
        ended = sessions.end(db, organisation_id=org, session_id=session_id, actor=common.actor(acting))
    common.print_record(Session.model_validate(ended), json, said=f"session {session_id} of {ended.name} has ended")
