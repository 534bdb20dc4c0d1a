"""Where notifications go."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, func, insert, select, update

from worker.models import members, notification_targets

_T = notification_targets.c


@dataclass(frozen=True, slots=True)
class TargetRecord:
    """Where notifications go, without the address."""

    id: int
    organisation_id: int
    shown: str
    member_id: int | None
    kinds: list[str]
    digest_hour: int | None
    created_at: datetime
    created_by: str
    removed_at: datetime | None
    removed_by: str | None


_COLUMNS = (
    _T.id, _T.organisation_id, _T.shown, _T.member_id, _T.kinds, _T.digest_hour, _T.created_at, _T.created_by,
    _T.removed_at, _T.removed_by,
)  # fmt: skip


def insert_target(connection: Connection, organisation_id: int, **values: Any) -> TargetRecord:
    """A new target; `address`: sealed."""
    new = insert(notification_targets).values(organisation_id=organisation_id, **values).returning(*_COLUMNS)
    return TargetRecord(**connection.execute(new).mappings().one())


def find_by_address(connection: Connection, organisation_id: int, address: str | None) -> TargetRecord | None:
    """The target with this sealed address: a call whose answer was lost has made it already."""
    if address is None:
        return None
    return _one(connection, organisation_id, _T.address == address)


def find_of_member(connection: Connection, organisation_id: int, member_id: int) -> TargetRecord | None:
    """The live target that is a member's own e-mail address."""
    return _one(connection, organisation_id, _T.member_id == member_id, _T.address.is_(None), _T.removed_at.is_(None))


def find_target(connection: Connection, organisation_id: int, target_id: int) -> TargetRecord | None:
    """One target of an organisation."""
    return _one(connection, organisation_id, _T.id == target_id)


def list_targets(connection: Connection, organisation_id: int) -> list[TargetRecord]:
    """Every target of an organisation, removed ones included, newest first."""
    own = select(*_COLUMNS).where(_T.organisation_id == organisation_id).order_by(_T.id.desc())
    return [TargetRecord(**row) for row in connection.execute(own).mappings()]


def remove_target(connection: Connection, organisation_id: int, target_id: int, *, actor: str) -> TargetRecord | None:
    """Tell a target nothing more. The first time and person stay. None: there is no such target."""
    its = _T.id == target_id, _T.organisation_id == organisation_id
    removed = {"removed_at": func.now(), "removed_by": actor}
    connection.execute(update(notification_targets).where(*its, _T.removed_at.is_(None)).values(removed))
    return find_target(connection, organisation_id, target_id)


def find_email(connection: Connection, organisation_id: int, member_id: int) -> str | None:
    """A member's e-mail address, as the provider says."""
    its = members.c.id == member_id, members.c.organisation_id == organisation_id
    return connection.scalar(select(members.c.email).where(*its))


def _one(connection: Connection, organisation_id: int, *conditions: Any) -> TargetRecord | None:
    own = select(*_COLUMNS).where(_T.organisation_id == organisation_id, *conditions).order_by(_T.id).limit(1)
    row = connection.execute(own).mappings().one_or_none()
    return TargetRecord(**row) if row else None
