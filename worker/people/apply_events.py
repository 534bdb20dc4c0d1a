"""Apply events about persons in a set: at most one event a person, a few statements for all of them.

What an event changes of its person is in `newest_events.py`; if it deactivates, it submits a job of its own. A source
that says the same again changes nothing: neither what is under way, nor what a second person has decided (decision
record 0019). An event that is applied at once is a set of one (decision record 0024).
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import Connection

from schemas.catalogue import JobState, ReceiptStatus
from worker.brake_limits import SeriesOf
from worker.database import notify_after_commit
from worker.errors import IdempotencyConflictError, InvalidInputError
from worker.jobs.admission import admit_persons, lock_limits
from worker.ledger import brake, brake_series, deactivations, hr_sources, jobs
from worker.ledger.deactivations import NewDeactivation
from worker.people.newest_events import (
    EventResult,
    LockedPeople,
    NewestEvent,
    answer_repetitions,
    change_people,
    record,
)
from worker.records import ArrivedEvent, DeactivationPolicy
from worker.texts import text

REUSED = text("this key was used before, for another request; use a new key for a new request")

IGNORED = EventResult(ReceiptStatus.IGNORED)


def apply_events(
    connection: Connection, organisation_id: int, arrived: Sequence[ArrivedEvent], people: LockedPeople, now: datetime
) -> dict[str, EventResult]:
    """Apply events of locked persons, at most one each, in the caller's transaction; the results by external id.

    `now`: the database's clock, read after the locks.

    Raises:
        InvalidInputError: a job would be due later than any time that can be stored.
        IdempotencyConflictError: a key has made a job of another request.
    """
    changes = record(connection, organisation_id, arrived, people, now)
    jobs.audit_events(connection, organisation_id, arrived)
    asking = answer_what_needs_no_job(connection, organisation_id, changes, now)
    change_people(connection, organisation_id, changes, people, now)
    made = deactivate(connection, organisation_id, asking, now) if asking else {}
    known = {change.external_id: change.result for change in changes if change.result is not None}
    return {one.external_id: IGNORED for one in arrived} | known | made


def answer_what_needs_no_job(
    connection: Connection, organisation_id: int, changes: Sequence[NewestEvent], now: datetime
) -> list[tuple[NewestEvent, DeactivationPolicy]]:
    """Answer returns, repetitions and what a policy lets pass; the deactivations that ask for a job of their own."""
    deactivating = [change for change in changes if change.newest.deactivates]
    for change in changes:
        if not change.newest.deactivates:
            change.result = EventResult(ReceiptStatus.REACTIVATED)
    if not deactivating:
        return []
    policies = hr_sources.find_policies(connection, organisation_id, [change.newest.source for change in deactivating])
    answer_repetitions(connection, organisation_id, deactivating, policies, now)
    asking: list[tuple[NewestEvent, DeactivationPolicy]] = []
    for change in deactivating:
        policy = policies[change.newest.source]
        if change.result is None and policy.on_deactivate == "ignore":
            change.result = EventResult(ReceiptStatus.NOTED)
        if change.result is None:
            asking.append((change, policy))
    return asking


def deactivate(
    connection: Connection,
    organisation_id: int,
    asking: Sequence[tuple[NewestEvent, DeactivationPolicy]],
    now: datetime,
) -> dict[str, EventResult]:
    """Submit the jobs of deactivations, as the policies of their sources have it; the results by external id.

    Raises:
        InvalidInputError: a job would be due later than any time that can be stored.
        IdempotencyConflictError: a key has made a job of another request.
    """
    # The grace period starts with the receipt at the earliest: nobody could take back what took effect before.
    times = [
        add_grace(max(change.newest.effective_at, change.arrived.received_at), policy.grace)
        for change, policy in asking
    ]
    to_admit = [time <= now and policy.on_deactivate != "hold" for time, (_, policy) in zip(times, asking, strict=True)]
    # One that is held can be released without another count; one that is scheduled is counted when it falls due.
    counted = [
        change.external_id
        for (change, policy), time in zip(asking, times, strict=True)
        if time <= now or policy.on_deactivate == "hold"
    ]
    withdrawn = brake.find_withdrawn_persons(connection, organisation_id, counted) if counted else set()
    learners = [int(change.external_id in withdrawn) for change, _ in asking]
    limits = lock_limits(connection, organisation_id) if counted else None
    series: dict[str, SeriesOf] = {}
    if limits is not None and limits.of_series is not None:
        of = brake_series.of_requests(connection, [(organisation_id, None, person) for person in counted])
        series = dict(zip(counted, of, strict=True))
    admitted = [
        (count, series.get(change.external_id, {}))
        for count, admits, (change, _) in zip(learners, to_admit, asking, strict=True)
        if admits
    ]
    verdicts = iter(admit_persons(connection, organisation_id, limits, admitted) if limits and admitted else [])
    new: list[NewDeactivation] = []
    for (change, policy), time, admits, count in zip(asking, times, to_admit, learners, strict=True):
        figures = next(verdicts) if admits else None
        new.append(_new_job(change, time, policy, now, figures, count))
    made = deactivations.insert(connection, organisation_id, new)
    if len(made) < len(new):
        raise IdempotencyConflictError(REUSED)  # by a job of another command that committed meanwhile
    if series:
        jobs_of = {made[person]: series_of for person, series_of in series.items()}
        brake_series.keep(connection, dict.fromkeys(jobs_of, organisation_id), jobs_of)
    notify_after_commit(connection)
    answers = {JobState.HELD: ReceiptStatus.HELD, JobState.SCHEDULED: ReceiptStatus.SCHEDULED}
    return {
        one.arrived.external_id: EventResult(
            answers.get(one.state, ReceiptStatus.ACCEPTED), made[one.arrived.external_id]
        )
        for one in new
    }


def _new_job(
    change: NewestEvent,
    time: datetime,
    policy: DeactivationPolicy,
    now: datetime,
    figures: dict[str, object] | None,
    learners: int,
) -> NewDeactivation:
    is_due = time <= now
    cause = "policy" if policy.on_deactivate == "hold" else "brake" if figures is not None else None
    state = JobState.HELD if cause else JobState.QUEUED if is_due else JobState.SCHEDULED
    return NewDeactivation(change.arrived, change.epoch, None if is_due else time, state, cause, figures, learners)


def add_grace(time: datetime, grace: timedelta) -> datetime:
    """When a deactivation is withdrawn that takes effect at `time`.

    Raises:
        InvalidInputError: that is later than any time that can be stored.
    """
    try:
        return time + grace
    except OverflowError:
        raise InvalidInputError(text("effective_at: that time is too far away")) from None
