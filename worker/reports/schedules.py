"""Scheduled reports: a person says what is made and how often; the relay makes it, as long as they may have it."""

import json
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import structlog
from sqlalchemy import Connection

from schemas.catalogue import SCHEDULES_REPORTS, SEES_NAMES
from schemas.report_schedules import Covers, Every, Report, ScheduleRequest
from schemas.reports import EnrolmentFilter, OutcomeFilter
from worker.access.approvals import require_still_may
from worker.access.persons import Actor, member_id
from worker.database import Database, notify_after_commit
from worker.errors import ConflictError, InvalidInputError, NotFoundError
from worker.ledger import jobs, members, report_files, report_schedules, series_library
from worker.ledger.report_schedules import ScheduleRecord
from worker.texts import mark, text

log = structlog.get_logger(__name__)

MOST = 50
"""Schedules of an organisation that have not ended."""
MEMBER_DAYS = 90
"""A member who has not signed in for so long may not have anything made any more: nobody tells when one has left."""
_AT_ONCE = 100


def create(database: Database, *, organisation_id: int, wanted: ScheduleRequest, who: Actor) -> ScheduleRecord:
    """Have a report made from now on, for the first time when it is due next.

    Raises:
        InvalidInputError: the organisation has no such Series.
        ConflictError: there are too many schedules.
    """

    def work(connection: Connection) -> int:
        if wanted.filter.series_id is not None:
            _require_series(connection, organisation_id, wanted.filter.series_id)
        jobs.lock_settings(connection, organisation_id)  # so that the limit holds
        if report_schedules.count_live(connection, organisation_id) >= MOST:
            raise ConflictError(text("there are {most} schedules already. Delete one first.", most=MOST))
        now, zone = jobs.database_now(connection), jobs.timezone(connection, organisation_id)
        row = wanted.model_dump(mode="json", exclude={"filter"})
        row["filter"] = wanted.filter.model_dump(mode="json", exclude_defaults=True)
        row |= {"next_at": next_time(now, wanted.every, wanted.hour, zone)}
        row |= {"created_by": who.name, "creator_made_by": who.made_by}
        made = report_schedules.insert_schedule(connection, organisation_id, row)
        _audit(connection, organisation_id, who.name, "create", made)
        return made

    made = database.run(work)
    log.info("report.scheduled", schedule_id=made, organisation_id=organisation_id, every=wanted.every)
    return show(database, organisation_id=organisation_id, schedule_id=made)


def show(database: Database, *, organisation_id: int, schedule_id: int) -> ScheduleRecord:
    """A schedule.

    Raises:
        NotFoundError: this organisation has no such schedule.
    """
    with database.begin() as connection:
        found = report_schedules.find(connection, organisation_id, schedule_id)
    if found is None:
        raise NotFoundError(text("there is no schedule {schedule_id} in this organisation", schedule_id=schedule_id))
    return found


def pause(database: Database, *, organisation_id: int, schedule_id: int, who: Actor) -> ScheduleRecord:
    """Make nothing until it is resumed. What was missed then is not made.

    Raises:
        NotFoundError: this organisation has no such schedule.
        ConflictError: it has ended.
    """

    def work(connection: Connection) -> None:
        if _lock(connection, organisation_id, schedule_id).paused_at is None:
            report_schedules.set_paused(connection, organisation_id, schedule_id, None)
            _audit(connection, organisation_id, who.name, "pause", schedule_id)

    database.run(work)
    return show(database, organisation_id=organisation_id, schedule_id=schedule_id)


def resume(database: Database, *, organisation_id: int, schedule_id: int, who: Actor) -> ScheduleRecord:
    """Go on from the next time that it is due.

    Raises:
        NotFoundError: this organisation has no such schedule.
        ConflictError: it has ended.
    """

    def work(connection: Connection) -> None:
        found = _lock(connection, organisation_id, schedule_id)
        if found.paused_at is not None:
            now, zone = jobs.database_now(connection), jobs.timezone(connection, organisation_id)
            next_at = next_time(now, found.every, found.hour, zone)
            report_schedules.set_paused(connection, organisation_id, schedule_id, next_at)
            _audit(connection, organisation_id, who.name, "resume", schedule_id)

    database.run(work)
    return show(database, organisation_id=organisation_id, schedule_id=schedule_id)


def delete(database: Database, *, organisation_id: int, schedule_id: int, who: Actor) -> ScheduleRecord:
    """End a schedule, and delete the files that it became.

    Raises:
        NotFoundError: this organisation has no such schedule.
        ConflictError: it has ended, and its files are gone.
    """

    def work(connection: Connection) -> None:
        found = report_schedules.lock(connection, organisation_id, schedule_id)
        files = report_files.delete_of_schedule(connection, organisation_id, schedule_id)
        if found is None and not files:
            _lock(connection, organisation_id, schedule_id)
        if found is not None:
            report_schedules.end(connection, organisation_id, schedule_id, by=who.name)
        _audit(connection, organisation_id, who.name, "delete", schedule_id, files=files)

    database.run(work)
    return show(database, organisation_id=organisation_id, schedule_id=schedule_id)


def make_now(database: Database, *, organisation_id: int, schedule_id: int, who: Actor) -> ScheduleRecord:
    """Make the file once more, now; the schedule stays as it is.

    Raises:
        NotFoundError: this organisation has no such schedule.
        ConflictError: it has ended.
    """

    def work(connection: Connection) -> None:
        found = _lock(connection, organisation_id, schedule_id)
        now, zone = jobs.database_now(connection), jobs.timezone(connection, organisation_id)
        report_schedules.insert_run(connection, found, now, days_before(now, found, zone))
        _audit(connection, organisation_id, who.name, "run", schedule_id)
        notify_after_commit(connection)

    database.run(work)
    return show(database, organisation_id=organisation_id, schedule_id=schedule_id)


def plan_due(database: Database) -> int:
    """Turn every schedule whose time has come into a run; how many. What was missed is made once.

    Two relays at once find one run: the second passes over a schedule that is locked, and its time is unique.
    """
    with database.begin() as connection:
        due = report_schedules.list_due(connection, most=_AT_ONCE)
    return sum(database.run_each(due, _plan, step="report.plan"))


def why_ended(connection: Connection, schedule: ScheduleRecord) -> str | None:
    """Why whoever made a schedule may not have it made any more; None: they may."""
    who = Actor(schedule.created_by, schedule.creator_made_by)
    try:
        for role in {SCHEDULES_REPORTS, *([SEES_NAMES] if schedule.names else [])}:
            require_still_may(connection, schedule.organisation_id, who, role, of=f"schedule {schedule.id}")
            _require_member(connection, schedule.organisation_id, who, role)
    except ConflictError:
        return mark("Whoever scheduled it may not do so any more.")
    return None


def end_by_itself(connection: Connection, schedule: ScheduleRecord, because: str) -> None:
    """End a schedule that is locked, because its creator may not have it made any more."""
    report_schedules.end(connection, schedule.organisation_id, schedule.id, by="relay", because=because)
    _audit(connection, schedule.organisation_id, "relay", "end", schedule.id, because=because)
    log.warning("report.schedule_ended", schedule_id=schedule.id, organisation_id=schedule.organisation_id)


def filter_of(schedule: ScheduleRecord, first: date | None, last: date | None) -> EnrolmentFilter | OutcomeFilter:
    """What a run of a schedule lists."""
    if schedule.report == Report.ENROLMENTS:
        return EnrolmentFilter.model_validate({**schedule.filter, "withdrawn_from": first, "withdrawn_to": last})
    return OutcomeFilter.model_validate({**schedule.filter, "decided_from": first, "decided_to": last})


def next_time(now: datetime, every: str, hour: int, zone: str) -> datetime:
    """When a schedule is due next: at its hour of the next day, Monday or first of a month in the time zone."""
    known = _zone(zone)
    day = now.astimezone(known).date()
    while True:
        if _is_its_day(day, every):
            found = datetime.combine(day, time(hour), known).astimezone(UTC)
            if found > now:
                return found
        day += timedelta(days=1)


def last_time(now: datetime, every: str, hour: int, zone: str) -> datetime:
    """When a schedule was due last, now included."""
    known = _zone(zone)
    day = now.astimezone(known).date()
    while True:
        if _is_its_day(day, every):
            found = datetime.combine(day, time(hour), known).astimezone(UTC)
            if found <= now:
                return found
        day -= timedelta(days=1)


def days_before(due: datetime, schedule: ScheduleRecord, zone: str) -> tuple[date, date] | None:
    """The first and the last day of the day, week or month before a run; None: it covers everything."""
    if schedule.covers == Covers.ALL:
        return None
    today = due.astimezone(_zone(zone)).date()
    match schedule.every:
        case Every.DAILY:
            begin, end = today - timedelta(days=1), today
        case Every.WEEKLY:
            end = today - timedelta(days=today.weekday())
            begin = end - timedelta(weeks=1)
        case _:
            end = today.replace(day=1)
            begin = (end - timedelta(days=1)).replace(day=1)
    return begin, end - timedelta(days=1)


def _plan(connection: Connection, due: tuple[int, int]) -> int:
    organisation_id, schedule_id = due
    found = report_schedules.lock_due(connection, organisation_id, schedule_id)
    if found is None:
        return 0
    because = why_ended(connection, found)
    if because is not None:
        end_by_itself(connection, found, because)
        return 0
    now, zone = jobs.database_now(connection), jobs.timezone(connection, organisation_id)
    due_at = last_time(now, found.every, found.hour, zone)
    made = report_schedules.insert_run(connection, found, due_at, days_before(due_at, found, zone))
    next_at = next_time(now, found.every, found.hour, zone)
    report_schedules.set_next(connection, organisation_id, schedule_id, next_at)
    return int(made is not None)


def _is_its_day(day: date, every: str) -> bool:
    match every:
        case Every.DAILY:
            return True
        case Every.WEEKLY:
            return day.weekday() == 0
        case _:
            return day.day == 1


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ValueError, ZoneInfoNotFoundError):  # the platform's own value
        return ZoneInfo("UTC")


def _require_member(connection: Connection, organisation_id: int, who: Actor, role: Any) -> None:
    """A provider tells a member's role at sign-in alone, so the last one counts, for a while.

    Raises:
        ConflictError: it was too low, or too long ago.
    """
    its = member_id(who.name)
    member = members.find(connection, organisation_id, its) if its is not None and who.made_by is None else None
    if member is None:
        return
    late = member.signed_in_at < jobs.database_now(connection) - timedelta(days=MEMBER_DAYS)
    if late or (member.role is not None and not type(role)(member.role).includes(role)):
        raise ConflictError(text("the member may not do this any more"))


def _require_series(connection: Connection, organisation_id: int, series_id: int) -> None:
    if series_library.find_code(connection, organisation_id, series_id) is None:
        raise InvalidInputError(text("series_id: no Series of this organisation has this id"))


def _lock(connection: Connection, organisation_id: int, schedule_id: int) -> ScheduleRecord:
    found = report_schedules.lock(connection, organisation_id, schedule_id)
    if found is not None:
        return found
    if report_schedules.find(connection, organisation_id, schedule_id) is None:
        raise NotFoundError(text("there is no schedule {schedule_id} in this organisation", schedule_id=schedule_id))
    raise ConflictError(text("schedule {schedule_id} has ended", schedule_id=schedule_id))


def _audit(
    connection: Connection, organisation_id: int, actor: str, verb: str, schedule_id: int, **detail: object
) -> None:
    about = json.dumps({"schedule": schedule_id, **detail})
    jobs.audit(connection, organisation_id=organisation_id, actor=actor, action=f"report_schedule.{verb}", detail=about)
