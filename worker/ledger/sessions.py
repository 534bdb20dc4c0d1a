"""Sessions of the console: who is signed in, by a token or as a member."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, and_, bindparam, case, delete, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert

from schemas.catalogue import Role
from worker.ledger.tokens import IS_LIVE, ROLE
from worker.models import members, organisations, sessions, tokens
from worker.one_message import Step

NOT_EXPIRED = and_(sessions.c.expires_at > func.now(), sessions.c.last_used_at + sessions.c.idle_limit > func.now())
"""Whether a session still stands for whom it was opened."""
_organisation = func.coalesce(tokens.c.organisation_id, members.c.organisation_id)
_OPEN = (
    sessions.outerjoin(tokens, and_(tokens.c.id == sessions.c.token_id, IS_LIVE))
    .outerjoin(members, members.c.id == sessions.c.member_id)
    .join(organisations, organisations.c.id == _organisation)
)
"""A session of a token that was revoked finds no organisation, and drops out."""


@dataclass(frozen=True, slots=True)
class Holder:
    """Whom a live session stands for: a token, or a member with the role of their groups at sign-in."""

    session_id: int
    organisation_id: int
    organisation: str
    timezone: str
    role: Role
    name: str
    """The token's or the person's."""
    token_id: int | None
    made_by: str | None
    """Who created the token."""
    member_id: int | None
    issuer: str | None
    """Of the provider that has identified the member."""


@dataclass(frozen=True, slots=True)
class OpenSession:
    """A live session in a list."""

    id: int
    name: str
    role: Role
    token_id: int | None
    member_id: int | None
    email: str | None
    browser: str | None
    created_at: datetime
    last_used_at: datetime
    expires_at: datetime


_ROLE = case((sessions.c.member_id.is_not(None), sessions.c.role), else_=ROLE).label("role")
_NAME = func.coalesce(tokens.c.name, members.c.name).label("name")


def insert_session(
    connection: Connection,
    hash_: bytes,
    *,
    lifetime: timedelta,
    idle: timedelta,
    browser: str | None = None,
    token_id: int | None = None,
    member_id: int | None = None,
    role: Role | None = None,
    provider_session: str | None = None,
) -> None:
    """A new session; inserting it again changes nothing. A member's has their role, and the provider's id of it."""
    row = insert(sessions).values(
        hash=hash_,
        token_id=token_id,
        member_id=member_id,
        role=role,
        provider_session=provider_session,
        browser=browser,
        expires_at=func.now() + lifetime,
        idle_limit=idle,
    )
    connection.execute(row.on_conflict_do_nothing(index_elements=[sessions.c.hash]))


_FIND = (  # on every page of the console
    select(
        sessions.c.id,
        _organisation.label("organisation_id"),
        organisations.c.name.label("organisation"),
        organisations.c.timezone,
        _ROLE,
        _NAME,
        tokens.c.id.label("token_id"),
        tokens.c.created_by,
        sessions.c.member_id,
        members.c.issuer,
    )
    .select_from(_OPEN)
    .where(sessions.c.hash == bindparam("hash"), NOT_EXPIRED)
)


def find(connection: Connection, hash_: bytes) -> Holder | None:
    """Whom a live session stands for."""
    row = connection.execute(_FIND, {"hash": hash_}).one_or_none()
    if row is None:
        return None
    id_, organisation_id, organisation, timezone, role, *rest = row
    return Holder(id_, organisation_id, organisation, timezone, Role(role), *rest)


def list_roles(connection: Connection, organisation_id: int, member_id: int) -> list[Role]:
    """The roles with which a member is signed in."""
    found = select(sessions.c.role).join(members, members.c.id == sessions.c.member_id)
    its = (members.c.organisation_id == organisation_id, members.c.id == member_id, NOT_EXPIRED)
    return [Role(role) for role in connection.scalars(found.where(*its)) if role is not None]


def live(connection: Connection, hashes: Sequence[bytes]) -> set[bytes]:
    """Which of the sessions have not ended; this does not say whether their tokens are live."""
    return set(connection.scalars(select(sessions.c.hash).where(sessions.c.hash.in_(hashes), NOT_EXPIRED)))


def list_open(
    connection: Connection,
    organisation_id: int,
    *,
    token_id: int | None = None,
    member_id: int | None = None,
    before: int | None = None,
    limit: int,
) -> list[OpenSession]:
    """Live sessions of an organisation, newest first; those of one token or one member if one is given."""
    found = _select_open(organisation_id)
    if token_id is not None:
        found = found.where(sessions.c.token_id == token_id)
    if member_id is not None:
        found = found.where(sessions.c.member_id == member_id)
    if before is not None:
        found = found.where(sessions.c.id < before)
    rows = connection.execute(found.order_by(sessions.c.id.desc()).limit(limit))
    return [OpenSession(row.id, row.name, Role(row.role), *row[3:]) for row in rows]


def find_open(connection: Connection, organisation_id: int, session_id: int) -> OpenSession | None:
    """A live session of an organisation."""
    row = connection.execute(_select_open(organisation_id).where(sessions.c.id == session_id)).one_or_none()
    return OpenSession(row.id, row.name, Role(row.role), *row[3:]) if row else None


def _select_open(organisation_id: int) -> Select[Any]:
    return (
        select(
            sessions.c.id,
            _NAME,
            _ROLE,
            sessions.c.token_id,
            sessions.c.member_id,
            members.c.email,
            sessions.c.browser,
            sessions.c.created_at,
            sessions.c.last_used_at,
            sessions.c.expires_at,
        )
        .select_from(_OPEN)
        .where(_organisation == organisation_id, NOT_EXPIRED)
    )


def record_uses(connection: Connection, session_ids: Sequence[int]) -> None:
    """Record that sessions are used, each at most once a minute."""
    before = sessions.c.last_used_at < func.now() - timedelta(minutes=1)
    due = select(sessions.c.id).where(sessions.c.id.in_(session_ids), before).with_for_update(skip_locked=True)
    connection.execute(update(sessions).where(sessions.c.id.in_(due)).values(last_used_at=func.now()))


def delete_session(connection: Connection, hash_: bytes) -> None:
    """End a session."""
    connection.execute(delete(sessions).where(sessions.c.hash == hash_))


def delete_by_id(connection: Connection, session_id: int) -> bool:
    """End a session that was found in its organisation; whether it was there."""
    return connection.execute(delete(sessions).where(sessions.c.id == session_id)).rowcount > 0


def delete_of_provider(
    connection: Connection, *, issuer: str, subject: str | None, provider_session: str | None
) -> int:
    """End what a provider has ended, in every organisation; how many sessions.

    With its id of a session: that session, and those of the subject of which the provider gave no id. Else all of the
    subject.
    """
    of_issuer = select(members.c.id).where(members.c.issuer == issuer)
    if subject is not None:
        of_issuer = of_issuer.where(members.c.subject == subject)
    ended: ColumnElement[bool] = sessions.c.member_id.in_(of_issuer)
    if provider_session is not None:
        of_session = sessions.c.provider_session == provider_session
        ended = and_(ended, of_session if subject is None else or_(of_session, sessions.c.provider_session.is_(None)))
    return connection.execute(delete(sessions).where(ended)).rowcount


ANY_EXPIRED = Step(
    "sessions_expired",
    """SELECT EXISTS (SELECT FROM withdrawals.sessions
    WHERE expires_at <= now() OR last_used_at + idle_limit <= now())""",
)
"""Whether `delete_expired` finds any."""


def delete_expired(connection: Connection) -> None:
    """Delete the sessions that have expired."""
    connection.execute(delete(sessions).where(~NOT_EXPIRED))
