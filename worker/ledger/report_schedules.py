"""Scheduled reports: what is made, for whom, and when it is due next."""

from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, case, func, insert, null, or_, select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from worker.models import report_files, report_schedules
from worker.one_message import Step

_S = report_schedules.c
_LIVE = _S.ended_at.is_(None)
_MADE = (_LIVE, _S.paused_at.is_(None))


@dataclass(frozen=True, slots=True)
class ScheduleRecord:
    """A schedule. `next_at`: None while it is paused, and once it has ended."""

    id: int
    organisation_id: int
    report: str
    filter: dict[str, Any]
    covers: str
    names: bool
    format: str
    every: str
    hour: int
    next_at: datetime | None
    created_at: datetime
    created_by: str
    creator_made_by: str | None
    paused_at: datetime | None
    ended_at: datetime | None
    ended_by: str | None
    ended_because: str | None


_NEXT: ColumnElement[datetime] = case(
    (or_(_S.ended_at.is_not(None), _S.paused_at.is_not(None)), null()), else_=_S.next_at
)
_COLUMNS = [_NEXT.label("next_at") if column is _S.next_at else column for column in report_schedules.columns]


def insert_schedule(connection: Connection, organisation_id: int, row: dict[str, Any]) -> int:
    """Make a schedule; its id."""
    made = insert(report_schedules).values(organisation_id=organisation_id, **row).returning(_S.id)
    return connection.execute(made).scalar_one()


def count_live(connection: Connection, organisation_id: int) -> int:
    """How many schedules of an organisation have not ended."""
    its = select(func.count()).where(_S.organisation_id == organisation_id, _LIVE)
    return connection.scalar(its) or 0


def find(connection: Connection, organisation_id: int, schedule_id: int) -> ScheduleRecord | None:
    """A schedule of an organisation."""
    its = select(*_COLUMNS).where(_S.organisation_id == organisation_id, _S.id == schedule_id)
    row = connection.execute(its).mappings().one_or_none()
    return ScheduleRecord(**row) if row else None


def list_schedules(connection: Connection, organisation_id: int, *, most: int = 500) -> list[ScheduleRecord]:
    """The schedules of an organisation, newest first, ended ones included."""
    found = select(*_COLUMNS).where(_S.organisation_id == organisation_id).order_by(_S.id.desc()).limit(most)
    return [ScheduleRecord(**row) for row in connection.execute(found).mappings()]


def lock(connection: Connection, organisation_id: int, schedule_id: int) -> ScheduleRecord | None:
    """A schedule of an organisation that has not ended, which nobody else changes before this transaction ends."""
    its = select(*_COLUMNS).where(_S.organisation_id == organisation_id, _S.id == schedule_id, _LIVE)
    row = connection.execute(its.with_for_update()).mappings().one_or_none()
    return ScheduleRecord(**row) if row else None


def set_paused(connection: Connection, organisation_id: int, schedule_id: int, next_at: datetime | None) -> None:
    """Pause a schedule that is locked, or let it go on with its next time."""
    values = {"paused_at": func.now()} if next_at is None else {"paused_at": None, "next_at": next_at}
    its = (_S.organisation_id == organisation_id, _S.id == schedule_id)
    connection.execute(update(report_schedules).where(*its).values(values))


def end(connection: Connection, organisation_id: int, schedule_id: int, *, by: str, because: str | None = None) -> None:
    """End a schedule that is locked, for good."""
    its = (_S.organisation_id == organisation_id, _S.id == schedule_id)
    ended = {"ended_at": func.now(), "ended_by": by, "ended_because": because}
    connection.execute(update(report_schedules).where(*its).values(ended))


ANY_DUE = Step(
    "schedules_due",
    """SELECT EXISTS (SELECT FROM withdrawals.report_schedules
    WHERE ended_at IS NULL AND paused_at IS NULL AND next_at <= now())""",
)
"""Whether `list_due` finds any."""


def list_due(connection: Connection, *, most: int) -> list[tuple[int, int]]:
    """Organisation and id of schedules whose time has come."""
    due = select(_S.organisation_id, _S.id).where(*_MADE, _S.next_at <= func.now()).order_by(_S.next_at).limit(most)
    return [(row.organisation_id, row.id) for row in connection.execute(due)]


def lock_due(connection: Connection, organisation_id: int, schedule_id: int) -> ScheduleRecord | None:
    """A schedule whose time has come; None: another relay has it, or was quicker."""
    its = (_S.organisation_id == organisation_id, _S.id == schedule_id, *_MADE, _S.next_at <= func.now())
    row = connection.execute(select(*_COLUMNS).where(*its).with_for_update(skip_locked=True)).mappings().one_or_none()
    return ScheduleRecord(**row) if row else None


def set_next(connection: Connection, organisation_id: int, schedule_id: int, next_at: datetime) -> None:
    """When a schedule that is locked is made next."""
    its = (_S.organisation_id == organisation_id, _S.id == schedule_id)
    connection.execute(update(report_schedules).where(*its).values(next_at=next_at))


def insert_run(
    connection: Connection, schedule: ScheduleRecord, due_at: datetime, days: tuple[date, date] | None
) -> int | None:
    """A run of a schedule, whose file is made as soon as somebody can; None: there is one of this time."""
    row = {
        "schedule_id": schedule.id,
        "organisation_id": schedule.organisation_id,
        "due_at": due_at,
        "first_day": days[0] if days else None,
        "last_day": days[1] if days else None,
    }
    return connection.scalar(upsert(report_files).values(row).on_conflict_do_nothing().returning(report_files.c.id))
