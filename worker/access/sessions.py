"""Sessions of the console: opened with a token, kept as a hash, over when their time is or their token revoked."""

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from datetime import timedelta

import structlog
from sqlalchemy import Connection

from worker.access import tokens
from worker.database import Database
from worker.errors import ForbiddenError
from worker.ledger import sessions
from worker.ledger import tokens as access
from worker.ledger.tokens import Token
from worker.records import Role

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Session:
    """A live session: the token it stands for and that token's organisation."""

    token: Token
    organisation: str
    timezone: str
    csrf: str
    """What a form of this session carries; made from the cookie, so that nobody without it can know."""


def sign_in(database: Database, presented: str, *, hours: float) -> str | None:
    """Open a session with a token; the cookie's value, or None whatever is wrong with the token.

    Raises:
        ForbiddenError: the token's role may not read, so there would be nothing to see.
    """
    token = tokens.authenticate(database, presented.strip())
    if token is None:
        return None
    if not token.role.includes(Role.VIEWER):
        raise ForbiddenError(f"The console needs the role {Role.VIEWER}; this token has {token.role}.")
    cookie = secrets.token_urlsafe(32)

    def work(connection: Connection) -> None:
        sessions.insert(connection, hash_of(cookie), token.id, timedelta(hours=hours))

    database.run(work)
    log.info("session.opened", token_id=token.id, organisation_id=token.organisation_id)
    return cookie


def find(database: Database, cookie: str) -> Session | None:
    """The live session of a cookie."""
    with database.begin() as connection:
        found = sessions.find(connection, hash_of(cookie))
        if found is None:
            return None
        access.used(connection, found[0].id)
    token, organisation, timezone = found
    return Session(token, organisation, timezone, _csrf(cookie))


def sign_out(database: Database, cookie: str) -> None:
    """End a session at once; one that has ended stays so."""

    def work(connection: Connection) -> None:
        sessions.delete(connection, hash_of(cookie))

    database.run(work)


def forget(database: Database) -> None:
    """Drop the sessions that are over."""
    with database.begin() as connection:
        sessions.forget(connection)


def hash_of(cookie: str) -> bytes:
    """What of a cookie is kept."""
    return hashlib.sha256(cookie.encode()).digest()


def _csrf(cookie: str) -> str:
    return hmac.new(cookie.encode(), b"csrf", hashlib.sha256).hexdigest()
