"""People who sign in with a provider, the logout tokens of providers, and links that sign in once."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, delete, func, select, union
from sqlalchemy.dialects.postgresql import insert

from schemas.catalogue import Role
from worker.models import logout_tokens, members, sign_in_links, tokens
from worker.one_message import Step

_ACTING = (Role.OPERATOR, Role.APPROVER, Role.OWNER)


@dataclass(frozen=True, slots=True)
class Member:
    """Somebody who has signed in to an organisation."""

    id: int
    name: str
    email: str | None
    created_at: datetime
    signed_in_at: datetime
    role: str | None
    """With which they have signed in last; None: not since it is recorded."""


_COLUMNS = (
    members.c.id,
    members.c.name,
    members.c.email,
    members.c.created_at,
    members.c.signed_in_at,
    members.c.role,
)


def record_sign_in(
    connection: Connection,
    organisation_id: int,
    *,
    issuer: str,
    subject: str,
    name: str,
    email: str | None,
    role: Role | None = None,
) -> int:
    """Somebody signs in; their id, the same at each sign-in. What is known of them is what the provider says now."""
    row = insert(members).values(
        organisation_id=organisation_id, issuer=issuer, subject=subject, name=name, email=email, role=role
    )
    known = row.on_conflict_do_update(
        index_elements=[members.c.organisation_id, members.c.issuer, members.c.subject],
        set_={
            "name": row.excluded.name,
            "email": row.excluded.email,
            "role": row.excluded.role,
            "signed_in_at": func.now(),
        },
    )
    return connection.execute(known.returning(members.c.id)).scalar_one()


def list_members(connection: Connection, organisation_id: int) -> list[Member]:
    """Everybody who has signed in to an organisation, by name."""
    found = select(*_COLUMNS).where(members.c.organisation_id == organisation_id).order_by(members.c.name, members.c.id)
    return [Member(*row) for row in connection.execute(found)]


def find(connection: Connection, organisation_id: int, member_id: int) -> Member | None:
    """A member of an organisation."""
    its = select(*_COLUMNS).where(members.c.organisation_id == organisation_id, members.c.id == member_id)
    row = connection.execute(its).one_or_none()
    return Member(*row) if row else None


def take_logout_token(connection: Connection, *, issuer: str, jti: str, expires_at: datetime) -> bool:
    """Whether a logout token has not been taken in before."""
    row = insert(logout_tokens).values(issuer=issuer, jti=jti, expires_at=expires_at).on_conflict_do_nothing()
    return connection.scalar(row.returning(logout_tokens.c.jti)) is not None


def insert_link(connection: Connection, hash_: bytes, token_id: int, lifetime: timedelta) -> None:
    """A link that signs in once; inserting it again changes nothing."""
    row = insert(sign_in_links).values(hash=hash_, token_id=token_id, expires_at=func.now() + lifetime)
    connection.execute(row.on_conflict_do_nothing())


def take_link(connection: Connection, hash_: bytes) -> int | None:
    """The token of a link, which then is gone; None when it is used, expired or unknown."""
    of_link = delete(sign_in_links).where(sign_in_links.c.hash == hash_, sign_in_links.c.expires_at > func.now())
    return connection.scalar(of_link.returning(sign_in_links.c.token_id))


ANY_EXPIRED = Step(
    "links_expired",
    """SELECT EXISTS (SELECT FROM withdrawals.sign_in_links WHERE expires_at < now())
    OR EXISTS (SELECT FROM withdrawals.logout_tokens WHERE expires_at < now())""",
)
"""Whether `delete_expired` finds any."""


def delete_expired(connection: Connection) -> None:
    """Delete links and logout tokens that have expired."""
    connection.execute(delete(sign_in_links).where(sign_in_links.c.expires_at < func.now()))
    connection.execute(delete(logout_tokens).where(logout_tokens.c.expires_at < func.now()))


def list_who_may_act(connection: Connection, organisation_id: int, *, most: int) -> list[str]:
    """Names of those who can look after something, by name: members, and tokens that may operate."""
    of_members = select(members.c.name).where(members.c.organisation_id == organisation_id)
    of_tokens = select(tokens.c.name).where(
        tokens.c.organisation_id == organisation_id, tokens.c.revoked_at.is_(None), tokens.c.role.in_(_ACTING)
    )
    names = union(of_members, of_tokens).subquery("names")
    return list(connection.scalars(select(names.c.name).order_by(names.c.name).limit(most)))
