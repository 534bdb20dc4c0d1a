"""When each source of HR events was last heard, and after how long without a word somebody has to look."""

import json
from functools import partial

from sqlalchemy import Connection

from schemas.rosters import HeardSource
from worker.database import Database
from worker.errors import NotFoundError
from worker.ledger import heard, jobs
from worker.rules import ROSTER
from worker.texts import text


def list_heard(database: Database, *, organisation_id: int) -> list[HeardSource]:
    """Every live source of an organisation, by name: HR systems, the SCIM directory, the rosters."""
    with database.begin() as connection:
        return [HeardSource.model_validate(one) for one in heard.list_heard(connection, organisation_id)]


def set_limit(database: Database, *, organisation_id: int, source: str, hours: int | None, actor: str) -> HeardSource:
    """Say after how many hours without a word a source counts as silent; None: never.

    Raises:
        NotFoundError: the organisation has no such live source.
    """
    return database.run(partial(_set, organisation_id=organisation_id, source=source, hours=hours, actor=actor))


def _set(connection: Connection, *, organisation_id: int, source: str, hours: int | None, actor: str) -> HeardSource:
    known = {one.source for one in heard.list_heard(connection, organisation_id)} | {ROSTER}
    if source not in known:
        raise NotFoundError(text("there is no live source {source!r} in this organisation", source=source[:63]))
    heard.set_limit(connection, organisation_id, source, hours=hours, actor=actor)
    jobs.audit(
        connection,
        organisation_id=organisation_id,
        actor=actor,
        action="source.silence",
        note=f"{source}: {'no limit' if hours is None else f'{hours} hours'}",
        detail=json.dumps({"of": f"{source}: {'none' if hours is None else f'{hours} hours'}"}),
    )
    for one in heard.list_heard(connection, organisation_id):
        if one.source == source:
            return HeardSource.model_validate(one)
    return HeardSource(source=source, kind=source, heard_at=None, silent_after_hours=None, is_silent=False)
