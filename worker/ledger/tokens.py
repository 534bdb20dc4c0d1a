"""Bearer tokens: who may call over HTTP."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, bindparam, case, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert

from schemas.catalogue import Role
from worker.models import tokens


@dataclass(frozen=True, slots=True)
class Token:
    """A token without its secret."""

    id: int
    organisation_id: int
    name: str
    role: Role
    created_at: datetime
    created_by: str
    last_used_at: datetime | None
    revoked_at: datetime | None


# In the table an owner is an approver, whom versions before 0020 know.
ROLE = case((tokens.c.owner, Role.OWNER), else_=tokens.c.role).label("role")
COLUMNS = (
    tokens.c.id,
    tokens.c.organisation_id,
    tokens.c.name,
    ROLE,
    tokens.c.created_at,
    tokens.c.created_by,
    tokens.c.last_used_at,
    tokens.c.revoked_at,
)
"""What `as_token` reads, in this order."""
IS_LIVE = tokens.c.revoked_at.is_(None)


def as_token(row: Sequence[Any]) -> Token:
    """A row of `COLUMNS` as a token."""
    id_, organisation_id, name, role, *rest = row
    return Token(id_, organisation_id, name, Role(role), *rest)


def insert_token(
    connection: Connection,
    *,
    organisation_id: int,
    name: str,
    role: Role,
    selector: str,
    hash_: bytes,
    created_by: str,
) -> Token | None:
    """A new token; None when a live token of the organisation has this name."""
    row = insert(tokens).values(
        organisation_id=organisation_id,
        name=name,
        role=Role.APPROVER if role is Role.OWNER else role,
        owner=role is Role.OWNER,
        selector=selector,
        hash=hash_,
        created_by=created_by,
    )
    unless_taken = row.on_conflict_do_nothing(
        index_elements=[tokens.c.organisation_id, func.lower(tokens.c.name)], index_where=IS_LIVE
    )
    made = connection.execute(unless_taken.returning(*COLUMNS)).one_or_none()
    return as_token(made) if made else None


_FIND = select(*COLUMNS, tokens.c.hash).where(tokens.c.selector == bindparam("selector"), IS_LIVE)  # once a second


def find(connection: Connection, selector: str) -> tuple[Token, bytes] | None:
    """The live token of a selector, with the hash of its secret."""
    row = connection.execute(_FIND, {"selector": selector}).one_or_none()
    return (as_token(row[:-1]), row.hash) if row else None


def find_live(connection: Connection, token_id: int) -> Token | None:
    """A live token by its id."""
    row = connection.execute(select(*COLUMNS).where(tokens.c.id == token_id, IS_LIVE)).one_or_none()
    return as_token(row) if row else None


def lock_live_role(connection: Connection, organisation_id: int, name: str, created_by: str) -> Role | None:
    """The role of a live token, which cannot be revoked before this transaction ends; None: there is none."""
    its = (tokens.c.organisation_id == organisation_id, tokens.c.name == name, tokens.c.created_by == created_by)
    role = connection.scalar(select(ROLE).where(*its, IS_LIVE).with_for_update(read=True))
    return Role(role) if role else None


def live(connection: Connection, token_ids: Sequence[int]) -> set[int]:
    """Which of the tokens are not revoked."""
    return set(connection.scalars(select(tokens.c.id).where(tokens.c.id.in_(token_ids), IS_LIVE)))


_USED_BEFORE = or_(tokens.c.last_used_at.is_(None), tokens.c.last_used_at < func.now() - timedelta(minutes=1))


def record_uses(connection: Connection, token_ids: Sequence[int]) -> None:
    """Record that tokens are used, each at most once a minute. One that another process records is left to it."""
    due = select(tokens.c.id).where(tokens.c.id.in_(token_ids), _USED_BEFORE).with_for_update(skip_locked=True)
    connection.execute(update(tokens).where(tokens.c.id.in_(due)).values(last_used_at=func.now()))


def list_tokens(connection: Connection, organisation_id: int) -> list[Token]:
    """Every token of an organisation, revoked ones included, newest first."""
    found = select(*COLUMNS).where(tokens.c.organisation_id == organisation_id).order_by(tokens.c.id.desc())
    return [as_token(row) for row in connection.execute(found)]


def list_makers(connection: Connection, organisation_id: int) -> list[tuple[str, str]]:
    """Name and maker of every token of an organisation, revoked ones included."""
    found = select(tokens.c.name, tokens.c.created_by).where(tokens.c.organisation_id == organisation_id)
    return [(row.name, row.created_by) for row in connection.execute(found)]


def revoke(connection: Connection, organisation_id: int, token_id: int) -> Token | None:
    """End a token at once; None when the organisation has no such token."""
    changed = (
        update(tokens)
        .where(tokens.c.id == token_id, tokens.c.organisation_id == organisation_id)
        .values(revoked_at=func.coalesce(tokens.c.revoked_at, func.now()))
    )
    row = connection.execute(changed.returning(*COLUMNS)).one_or_none()
    return as_token(row) if row else None
