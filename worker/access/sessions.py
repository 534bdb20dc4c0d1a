"""Sessions of the console: opened with a token, stored as a hash, ended by time or with their token."""

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from datetime import timedelta

import structlog
from sqlalchemy import Connection

from schemas.catalogue import Role
from worker.access import last_used, tokens
from worker.access.memory import Memory, forget_all
from worker.database import Database
from worker.errors import ForbiddenError
from worker.ledger import sessions
from worker.ledger.tokens import Token

log = structlog.get_logger(__name__)

_memory: Memory[bytes, tuple[Token, str, str]] = Memory()
"""Live sessions by the hash of their cookie: token, name and time zone of its organisation."""


@dataclass(frozen=True, slots=True)
class Session:
    """A live session: the token it stands for and that token's organisation."""

    token: Token
    organisation: str
    timezone: str
    csrf: str
    """Sent with every form of this session. It is derived from the cookie, so that only its owner knows it."""


def sign_in(database: Database, presented: str, *, hours: float) -> str | None:
    """Open a session with a token; returns the cookie's value, None whatever is wrong with the token.

    Raises:
        ForbiddenError: the token's role cannot read, so every page would be empty.
    """
    token = tokens.authenticate(database, presented.strip())
    if token is None:
        return None
    if not token.role.includes(Role.VIEWER):
        raise ForbiddenError(f"The console needs the role {Role.VIEWER}. This token has the role {token.role}.")
    cookie = secrets.token_urlsafe(32)

    def work(connection: Connection) -> None:
        sessions.insert_session(connection, hash_of(cookie), token.id, timedelta(hours=hours))

    database.run(work)
    log.info("session.opened", token_id=token.id, organisation_id=token.organisation_id)
    return cookie


def find(database: Database, cookie: str) -> Session | None:
    """The live session of a cookie."""
    hash_ = hash_of(cookie)
    found = _memory.find(database, hash_, lambda connection: sessions.find(connection, hash_))
    if found is None:
        return None
    token, organisation, timezone = found
    last_used.note(database, token.id)
    return Session(token, organisation, timezone, _csrf(cookie))


def sign_out(database: Database, cookie: str) -> None:
    """End a session at once; repeating it changes nothing."""

    def work(connection: Connection) -> None:
        sessions.delete_session(connection, hash_of(cookie))

    database.run(work)
    forget_all()


def delete_expired(database: Database) -> None:
    """Delete the sessions that have expired."""
    with database.begin() as connection:
        sessions.delete_expired(connection)


def hash_of(cookie: str) -> bytes:
    """What is stored of a cookie."""
    return hashlib.sha256(cookie.encode()).digest()


def _csrf(cookie: str) -> str:
    return hmac.new(cookie.encode(), b"csrf", hashlib.sha256).hexdigest()
