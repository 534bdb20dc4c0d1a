"""Sessions of the console: who is signed in."""

from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import Connection, bindparam, delete, func, select
from sqlalchemy.dialects.postgresql import insert

from worker.ledger.tokens import COLUMNS, IS_LIVE, Token, as_token
from worker.models import organisations, sessions, tokens

_NOT_EXPIRED = sessions.c.expires_at > func.now()


def insert_session(connection: Connection, hash_: bytes, token_id: int, lifetime: timedelta) -> None:
    """A new session; inserting it again changes nothing."""
    row = insert(sessions).values(hash=hash_, token_id=token_id, expires_at=func.now() + lifetime)
    connection.execute(row.on_conflict_do_nothing(index_elements=[sessions.c.hash]))


_FIND = (  # on every page of the console
    select(*COLUMNS, organisations.c.name.label("organisation"), organisations.c.timezone)
    .join_from(sessions, tokens, tokens.c.id == sessions.c.token_id)
    .join(organisations, organisations.c.id == tokens.c.organisation_id)
    .where(sessions.c.hash == bindparam("hash"), _NOT_EXPIRED, IS_LIVE)
)


def find(connection: Connection, hash_: bytes) -> tuple[Token, str, str] | None:
    """The live token of a live session, its organisation's name and time zone."""
    row = connection.execute(_FIND, {"hash": hash_}).one_or_none()
    return (as_token(row[:-2]), row.organisation, row.timezone) if row else None


def live(connection: Connection, hashes: Sequence[bytes]) -> set[bytes]:
    """Which of the sessions have not expired; this does not say whether their tokens are live."""
    return set(connection.scalars(select(sessions.c.hash).where(sessions.c.hash.in_(hashes), _NOT_EXPIRED)))


def delete_session(connection: Connection, hash_: bytes) -> None:
    """End a session."""
    connection.execute(delete(sessions).where(sessions.c.hash == hash_))


def delete_expired(connection: Connection) -> None:
    """Delete the sessions that have expired."""
    connection.execute(delete(sessions).where(sessions.c.expires_at < func.now()))
