"""Admission: the one function through which a job becomes due work, and the brake that can hold it.

Volume counts the learners whom admitted work withdraws in a rolling window, over all sources; past a floor and a share
of the organisation's learners a job is held until a second person releases it. Redrives and remedies count, and are
refused instead of held. An undo neither counts nor is held. One learner of a signed-in person counts and is never held.
Policies can limit one source, and each Series, within the same window.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from schemas.catalogue import Source
from worker.brake_limits import Brake, SeriesOf, explain, part_figures
from worker.config import Settings, settings
from worker.errors import BrakeError
from worker.jobs.series_limit import SeriesWindow
from worker.ledger import brake, brake_series, jobs
from worker.records import Subject
from worker.texts import text


@dataclass(frozen=True, slots=True)
class Admission:
    """What became of a job whose time had come; neither, when somebody was faster or it was not due."""

    admitted: bool = False
    held: bool = False


SIGNED_IN = "console"
"""The door of people who have signed in; a token or a command can be a machine that asks for one after the other."""


def is_never_held(door: str, learners: int) -> bool:
    """Whether the brake lets a job of so many learners pass, whatever was admitted before."""
    return learners == 0 or (learners == 1 and door == SIGNED_IN)


def defaults(current: Settings | None = None) -> Brake:
    """The brake of an organisation without limits of its own."""
    current = current or settings()
    return Brake(current.brake_floor, current.brake_share, current.brake_hours)


def admit(connection: Connection, *, organisation_id: int, job_id: int, current: Settings | None = None) -> Admission:
    """Admit a scheduled job whose time has come, or hold it.

    Called by `submit` for a job that is effective at once and by the relay when one falls due, always under
    the lock of the organisation's settings row: two admissions of one organisation see each other, so two at
    once cannot both slip under the limit. A job that was released is not held again.
    """
    subject = brake.subject(connection, job_id)
    series_of = _count_series(connection, job_id) if subject.is_by_series and subject.learners else {}
    limits = brake.lock(connection, organisation_id, defaults(current))
    if limits.of_series is not None and not subject.is_by_series and subject.learners:  # it has come since the look
        series_of = _count_series(connection, job_id)
    done = _decide(connection, organisation_id, job_id, subject, series_of, limits)
    if limits.of_series is not None and (done.admitted or done.held):
        brake_series.count_again(connection, organisation_id, job_id, series_of)
    return done


def _count_series(connection: Connection, job_id: int) -> SeriesOf:
    with brake.without_timeout(connection):
        return brake_series.of_job(connection, job_id)


def _decide(
    connection: Connection, organisation_id: int, job_id: int, subject: Subject, series_of: SeriesOf, limits: Brake
) -> Admission:
    if not subject.released and not is_never_held(subject.door, subject.learners):
        figures = (
            _past(connection, organisation_id, limits, subject.learners)
            or past_source(connection, organisation_id, limits, subject.learners, source=subject.source)
            or SeriesWindow(connection, organisation_id, limits).find_past(series_of)
        )
        if figures is not None:
            held = jobs.hold(connection, job_id, because="brake", learners=subject.learners, figures=figures)
            return Admission(held=held)
    return Admission(admitted=jobs.admit(connection, job_id, learners=subject.learners))


def lock_limits(connection: Connection, organisation_id: int, *, current: Settings | None = None) -> Brake:
    """Lock the organisation's settings row; the limits by which jobs are admitted until the transaction ends."""
    return brake.lock(connection, organisation_id, defaults(current))


def admit_persons(
    connection: Connection, organisation_id: int, limits: Brake, wanted: Sequence[tuple[int, SeriesOf]]
) -> list[dict[str, Any] | None]:
    """Decide about new person jobs that are due, one after the other, as `admit` would; counts those admitted.

    `wanted`: the learners of each job, 0 or 1, and where the limits need them those of each Series. The caller has the
    limits by `lock_limits`, and inserts each as admitted (None) or as held by these figures. One count serves all.
    """
    series = SeriesWindow(connection, organisation_id, limits)
    before, population = brake.volume(connection, organisation_id, limits.hours)
    admitted, found = 0, list[dict[str, Any] | None]()
    of_source = limits.limit_of_source(Source.HR)
    before_of_source = 0
    if of_source is not None:
        before_of_source = brake.part_volume(connection, organisation_id, limits.hours, source=Source.HR)
    for counted, series_of in wanted:
        figures = None
        if counted and of_source is not None and before_of_source + admitted + counted > of_source:
            figures = _part_figures(Source.HR, limits, counted, before_of_source + admitted, of_source)
        if counted and figures is None and before + admitted + counted > limits.floor:
            if population is None:
                population = brake.recount(connection, organisation_id, limits.hours)
                before, _ = brake.volume(connection, organisation_id, limits.hours)
            figures = _figures(limits, counted, before + admitted, population)
        if counted and figures is None:
            figures = series.find_past(series_of)
        if figures is None:
            admitted += counted
            series.add(series_of)
        found.append(figures)
    if None in found:
        brake.add_jobs(connection, organisation_id, admitted)
    return found


def count_or_refuse(
    connection: Connection, organisation_id: int, *, learners: int, current: Settings | None = None
) -> None:
    """Count learners of a redrive or remedy, in the caller's transaction; call it before any other lock.

    Raises:
        BrakeError: they would go past the limit; nothing was counted.
    """
    limits = brake.lock(connection, organisation_id, defaults(current))
    figures = _past(connection, organisation_id, limits, learners) if learners else None
    if figures is not None:
        raise BrakeError(
            text(
                "the brake is on: {figures} Go on later or with fewer, or let an owner propose other limits.",
                figures=explain(figures),
            ),
            figures,
        )
    brake.add_redrives(connection, organisation_id, learners)


def count_what_fits(
    connection: Connection, organisation_id: int, *, learners: int, current: Settings | None = None
) -> int:
    """Count as many learners of a redrive as there is room for below the limit, in the caller's transaction; how many.

    The caller has locked the organisation's settings row.
    """
    limits = brake.lock(connection, organisation_id, defaults(current))
    figures = _past(connection, organisation_id, limits, learners) if learners else None
    if figures is not None:
        learners = limits.room(before=figures["before"], population=figures["population"])
    if learners:
        brake.add_redrives(connection, organisation_id, learners)
    return learners


def past_source(
    connection: Connection, organisation_id: int, limits: Brake, learners: int, *, source: str, more: int = 0
) -> dict[str, Any] | None:
    """The figures when so many learners more go past the limit of their source.

    `more`: learners of the source that this transaction has admitted and not yet written.
    """
    limit = limits.limit_of_source(source)
    if limit is not None and learners:
        before = more + brake.part_volume(connection, organisation_id, limits.hours, source=source)
        if before + learners > limit:
            return _part_figures(source, limits, learners, before, limit)
    return None


def _part_figures(source: str, limits: Brake, learners: int, before: int, limit: int) -> dict[str, Any]:
    return part_figures(f"source {source}", learners=learners, before=before, limit=limit, hours=limits.hours)


def _past(connection: Connection, organisation_id: int, limits: Brake, learners: int) -> dict[str, Any] | None:
    """The figures when so many learners more go past the limits. Learners are counted only past the floor."""
    before, population = brake.volume(connection, organisation_id, limits.hours)
    if before + learners <= limits.floor:
        return None
    if population is None:
        population = brake.recount(connection, organisation_id, limits.hours)
        before, _ = brake.volume(connection, organisation_id, limits.hours)
    return _figures(limits, learners, before, population)


def _figures(limits: Brake, learners: int, before: int, population: int) -> dict[str, Any] | None:
    if not limits.holds(volume=before + learners, population=population):
        return None
    return limits.figures(learners=learners, before=before, population=population)
