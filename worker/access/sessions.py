"""Sessions of the console: opened with a token or by a provider, stored as a hash, ended by time, by people, or with
their token."""

import hashlib
import hmac
import json
import secrets
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

import structlog
from sqlalchemy import Connection

from schemas.catalogue import Role
from worker.access import last_used, tokens
from worker.access.memory import Memory, forget_all
from worker.access.persons import member_actor
from worker.config import Settings
from worker.database import Database
from worker.errors import ForbiddenError, NotFoundError
from worker.ledger import jobs, members, sessions
from worker.ledger import tokens as ledger
from worker.ledger.sessions import Holder, OpenSession
from worker.ledger.tokens import Token
from worker.texts import text

log = structlog.get_logger(__name__)

MADE_BY_UP = "cli:up"
"""Who has made the tokens of `withdrawals up`, which are made anew at each start."""
LINK_LIFETIME = timedelta(minutes=15)
"""After so long a link of `withdrawals up` signs nobody in."""
_BROWSER_LENGTH = 200

_memory: Memory[bytes, Holder] = Memory()
"""Live sessions by the hash of their cookie."""


@dataclass(frozen=True, slots=True)
class Session:
    """A live session, and whom it stands for."""

    holder: Holder
    csrf: str
    """Sent with every form of this session. It is derived from the cookie, so that only its owner knows it."""

    @property
    def organisation(self) -> str:
        return self.holder.organisation

    @property
    def timezone(self) -> str:
        return self.holder.timezone


@dataclass(frozen=True, slots=True)
class Limits:
    """How long a session lasts."""

    lifetime: timedelta
    idle: timedelta
    """Without a request."""

    @classmethod
    def of(cls, settings: Settings) -> "Limits":
        return cls(timedelta(hours=settings.session_hours), timedelta(minutes=settings.session_idle_minutes))


@dataclass(frozen=True, slots=True)
class MemberSignIn:
    """A person whom a provider has identified, in one organisation."""

    organisation_id: int
    issuer: str
    subject: str
    name: str
    email: str | None
    role: Role
    provider_session: str | None
    """The provider's id of its session (`sid`)."""


def sign_in(database: Database, presented: str, *, limits: Limits, browser: str | None = None) -> str | None:
    """Open a session with a token; returns the cookie's value, None whatever is wrong with the token.

    Raises:
        ForbiddenError: the token's role cannot read, so every page would be empty.
    """
    token = tokens.authenticate(database, presented.strip())
    if token is None:
        return None
    if not token.role.includes(Role.VIEWER):
        raise ForbiddenError(
            text(
                "The console needs the role {needed}. This token has the role {role}.",
                needed=Role.VIEWER,
                role=token.role,
            )
        )
    return _open_for(database, token, limits, browser)


def make_link(database: Database, token_id: int) -> str:
    """A code that signs in once as a token, within `LINK_LIFETIME`."""
    code = secrets.token_urlsafe(32)
    database.run(lambda connection: members.insert_link(connection, hash_of(code), token_id, LINK_LIFETIME))
    return code


def sign_in_by_link(database: Database, code: str, *, limits: Limits, browser: str | None = None) -> str | None:
    """Open a session with the code of a link, which then is used; None when it is used, expired or unknown."""

    def work(connection: Connection) -> Token | None:
        token_id = members.take_link(connection, hash_of(code))
        return None if token_id is None else ledger.find_live(connection, token_id)

    token = database.run(work)
    return None if token is None else _open_for(database, token, limits, browser)


def sign_in_by_name(database: Database, token_id: int, *, limits: Limits, browser: str | None = None) -> str | None:
    """Open a session with a token of `withdrawals up` without its secret, for whoever tries the demo; else None."""
    with database.begin() as connection:
        token = ledger.find_live(connection, token_id)
    is_of_up = token is not None and token.created_by == MADE_BY_UP
    return _open_for(database, token, limits, browser) if token is not None and is_of_up else None


def _open_for(database: Database, token: Token, limits: Limits, browser: str | None) -> str:
    cookie = secrets.token_urlsafe(32)

    def work(connection: Connection) -> None:
        sessions.insert_session(
            connection,
            hash_of(cookie),
            lifetime=limits.lifetime,
            idle=limits.idle,
            browser=_short(browser),
            token_id=token.id,
        )

    database.run(work)
    log.info("session.opened", token_id=token.id, organisation_id=token.organisation_id)
    return cookie


def sign_in_member(database: Database, who: MemberSignIn, *, limits: Limits, browser: str | None = None) -> str:
    """Open a session for a person whom a provider has identified; returns the cookie's value."""
    cookie = secrets.token_urlsafe(32)

    def work(connection: Connection) -> int:
        member_id = members.record_sign_in(
            connection,
            who.organisation_id,
            issuer=who.issuer,
            subject=who.subject,
            name=who.name,
            email=who.email,
            role=who.role,
        )
        sessions.insert_session(
            connection,
            hash_of(cookie),
            lifetime=limits.lifetime,
            idle=limits.idle,
            browser=_short(browser),
            member_id=member_id,
            role=who.role,
            provider_session=who.provider_session,
        )
        jobs.audit(
            connection,
            organisation_id=who.organisation_id,
            actor=member_actor(who.name, member_id),
            action="session.open",
            detail=json.dumps({"role": who.role}),
        )
        return member_id

    member_id = database.run(work)
    log.info("session.opened", member_id=member_id, organisation_id=who.organisation_id)
    return cookie


def find(database: Database, cookie: str) -> Session | None:
    """The live session of a cookie."""
    hash_ = hash_of(cookie)
    found = _memory.find(database, hash_, lambda connection: sessions.find(connection, hash_))
    if found is None:
        return None
    last_used.note(database, sessions.record_uses, found.session_id)
    if found.token_id is not None:
        last_used.note(database, ledger.record_uses, found.token_id)
    return Session(found, _csrf(cookie))


def sign_out(database: Database, cookie: str) -> None:
    """End a session at once; repeating it changes nothing."""

    def work(connection: Connection) -> None:
        sessions.delete_session(connection, hash_of(cookie))

    database.run(work)
    forget_all()


def list_open(
    database: Database,
    *,
    organisation_id: int,
    token_id: int | None = None,
    member_id: int | None = None,
    before: int | None = None,
    limit: int = 100,
) -> list[OpenSession]:
    """Live sessions of an organisation, newest first; those of one token or one member if one is given."""
    with database.begin() as connection:
        return sessions.list_open(
            connection, organisation_id, token_id=token_id, member_id=member_id, before=before, limit=limit
        )


def end(
    database: Database,
    *,
    organisation_id: int,
    session_id: int,
    actor: str,
    token_id: int | None = None,
    member_id: int | None = None,
) -> OpenSession:
    """End a session of an organisation at once. `token_id` and `member_id`: it must be one of theirs.

    Raises:
        NotFoundError: the organisation, or the holder, has no such session.
    """

    def work(connection: Connection) -> OpenSession:
        found = sessions.find_open(connection, organisation_id, session_id)
        own = token_id is None and member_id is None
        own = own or (found is not None and (found.token_id, found.member_id) == (token_id, member_id))
        if found is None or not own or not sessions.delete_by_id(connection, session_id):
            raise NotFoundError(text("there is no session {session_id} in this organisation", session_id=session_id))
        holder = found.name if found.member_id is None else member_actor(found.name, found.member_id)
        detail = json.dumps({"session": session_id, "of": holder})
        jobs.audit(connection, organisation_id=organisation_id, actor=actor, action="session.end", detail=detail)
        return found

    ended = database.run(work)
    forget_all()
    log.info("session.ended", session_id=session_id, organisation_id=organisation_id)
    return ended


def end_several(
    database: Database,
    *,
    organisation_id: int,
    session_ids: Sequence[int],
    actor: str,
    token_id: int | None = None,
    member_id: int | None = None,
) -> int:
    """End sessions as `end` does, those that are still there; how many."""
    ended = 0
    for session_id in session_ids:
        with suppress(NotFoundError):  # it has ended meanwhile
            end(
                database,
                organisation_id=organisation_id,
                session_id=session_id,
                actor=actor,
                token_id=token_id,
                member_id=member_id,
            )
            ended += 1
    return ended


def delete_expired(database: Database) -> None:
    """Delete sessions, links and logout tokens that have expired."""
    with database.begin() as connection:
        sessions.delete_expired(connection)
        members.delete_expired(connection)


def hash_of(cookie: str) -> bytes:
    """What is stored of a cookie."""
    return hashlib.sha256(cookie.encode()).digest()


def _csrf(cookie: str) -> str:
    return hmac.new(cookie.encode(), b"csrf", hashlib.sha256).hexdigest()


def _short(browser: str | None) -> str | None:
    """What a browser says about itself, fit to be shown in a list."""
    if not browser:
        return None
    return "".join(character for character in browser if character.isprintable())[:_BROWSER_LENGTH] or None
