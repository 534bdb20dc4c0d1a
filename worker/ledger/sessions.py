"""Sessions of the console: who is signed in."""

from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import Connection, text

from worker.ledger.tokens import Token
from worker.records import Role

_INSERT = text("""
INSERT INTO withdrawals.sessions (hash, token_id, expires_at) VALUES (:hash, :token_id, now() + :lifetime)
ON CONFLICT (hash) DO NOTHING
""")


def insert(connection: Connection, hash_: bytes, token_id: int, lifetime: timedelta) -> None:
    """Keep a new session; once more changes nothing."""
    connection.execute(_INSERT, {"hash": hash_, "token_id": token_id, "lifetime": lifetime})


_FIND = text("""
SELECT t.id, t.organisation_id, t.name, t.role, t.created_at, t.created_by, t.last_used_at, t.revoked_at,
    o.name AS organisation, o.timezone
FROM withdrawals.sessions s JOIN withdrawals.tokens t ON t.id = s.token_id
JOIN lms.organisations o ON o.id = t.organisation_id
WHERE s.hash = :hash AND s.expires_at > now() AND t.revoked_at IS NULL
""")


def find(connection: Connection, hash_: bytes) -> tuple[Token, str, str] | None:
    """The live token of a live session, its organisation's name and time zone."""
    row = connection.execute(_FIND, {"hash": hash_}).mappings().one_or_none()
    if row is None:
        return None
    values = dict(row)
    organisation, timezone = values.pop("organisation"), values.pop("timezone")
    return Token(**{**values, "role": Role(values["role"])}), organisation, timezone


_LIVE = text("SELECT hash FROM withdrawals.sessions WHERE hash = ANY(:hashes) AND expires_at > now()")


def live(connection: Connection, hashes: Sequence[bytes]) -> set[bytes]:
    """Those of the sessions that are not over; whether their tokens are live is another question."""
    return {bytes(found) for found in connection.scalars(_LIVE, {"hashes": list(hashes)})}


_DELETE = text("DELETE FROM withdrawals.sessions WHERE hash = :hash")


def delete(connection: Connection, hash_: bytes) -> None:
    """End a session."""
    connection.execute(_DELETE, {"hash": hash_})


_FORGET = text("DELETE FROM withdrawals.sessions WHERE expires_at < now()")


def forget(connection: Connection) -> None:
    """Forget the sessions that are over."""
    connection.execute(_FORGET)
