"""What the brake would do to a job now: for plans and other previews. Nothing is locked or written."""

from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from schemas.brake import BrakeForecast
from worker.brake_limits import Brake, SeriesOf, explain
from worker.jobs.admission import defaults, is_never_held, past_source
from worker.jobs.series_limit import SeriesWindow
from worker.ledger import brake, brake_window
from worker.texts import joined, text

_BY_OTHERS = text("Submit it all the same: it waits until an approver who did not request it releases it.")
_BY_LIMITS = text("An owner can propose other limits, which a second person approves.")
_BY_POLICIES = text("An owner can change the policies, which a second person approves.")
_ONE = text("One learner is never held.")


def forecast(
    connection: Connection,
    organisation_id: int,
    *,
    learners: int,
    door: str,
    source: str,
    series_of: SeriesOf,
) -> BrakeForecast:
    """What the brake would do to a job that withdraws so many learners and comes through this door.

    `source`, `series_of`: where it comes from, and its learners of each Series.
    """
    limits = brake.read(connection, organisation_id, defaults())
    used, population = brake.volume(connection, organisation_id, limits.hours)
    if population is None and used + learners <= limits.floor:  # then the share decides nothing
        population = brake_window.known_population(connection, organisation_id)
    if population is None:
        population = brake.count_population(connection, organisation_id, limits.hours)
    passes = is_never_held(door, learners)
    holds = not passes and limits.holds(volume=used + learners, population=population)
    limit = limits.limit(population)
    room_at = _find_room(connection, organisation_id, limits, used + learners - limit) if holds else None
    part = None
    if not holds and not passes:
        part = past_source(connection, organisation_id, limits, learners, source=source) or SeriesWindow(
            connection, organisation_id, limits
        ).find_past(series_of)
    if part is not None:
        return _of_part(connection, organisation_id, limits, part)
    return BrakeForecast(
        holds=holds,
        learners=learners,
        used=used,
        limit=limit,
        hours=limits.hours,
        used_by=brake_window.list_largest(connection, organisation_id, limits.hours) if holds else [],
        room_at=room_at,
        why=joined([_explain(learners, used, limit, limits.hours), *([_ONE] if learners and passes else [])]),
        way_on=_way_on(room_at) if holds else None,
    )


def _of_part(connection: Connection, organisation_id: int, limits: Brake, figures: dict[str, Any]) -> BrakeForecast:
    """Of a limit for the source or the Series."""
    return BrakeForecast(
        holds=True,
        learners=figures["learners"],
        used=figures["before"],
        limit=figures["floor"],
        hours=limits.hours,
        used_by=brake_window.list_largest(connection, organisation_id, limits.hours),
        room_at=None,
        by="policy",
        why=text("{figures:capital}", figures=explain(figures)),
        way_on=joined([_BY_OTHERS, _BY_POLICIES]),
    )


def _explain(learners: int, used: int, limit: int, hours: int) -> str:
    return text(
        "The job would withdraw {learners}. In the last {hours:,} hours {used:,} of {limit:,} that are allowed were "
        "used.",
        learners=text("1 learner") if learners == 1 else text("{count:,} learners", count=learners),
        hours=hours,
        used=used,
        limit=limit,
    )


def _way_on(room_at: datetime | None) -> str:
    if room_at is None:
        return joined([_BY_OTHERS, _BY_LIMITS])
    wait = text("Or wait: from {room_at:%Y-%m-%d %H:%M} UTC on there is room for it.", room_at=room_at)
    return joined([_BY_OTHERS, wait, _BY_LIMITS])


def _find_room(connection: Connection, organisation_id: int, limits: Brake, too_many: int) -> datetime | None:
    """When so many learners have left the window; None: that is more than it has."""
    for leaves_at, learners in brake_window.list_minutes(connection, organisation_id, limits.hours):
        too_many -= learners
        if too_many <= 0:
            return leaves_at
    return None
