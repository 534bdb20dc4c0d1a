"""What people do to a job on its way: pause, resume, move, release, cancel.

Each takes effect at the next border between chunks: the claim reads the job's state, and a chunk that is being
decided commits. Asked for a state that a job has already, an act answers with the job and records nothing.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from functools import partial
from typing import Any
from uuid import uuid4

import structlog
from sqlalchemy import Connection

from schemas.answers import Released
from schemas.catalogue import JobState
from schemas.job_filter import ReleaseFilter
from worker.database import Database
from worker.errors import ConflictError, InvalidInputError, NotFoundError, OwnJobError
from worker.jobs.admission import admit
from worker.jobs.calendar import effective_time
from worker.jobs.show import show
from worker.ledger import brake, claims, control, job_lists, jobs
from worker.records import Job

log = structlog.get_logger(__name__)

_NOT_BEGUN = {
    JobState.SCHEDULED: "it has not begun; move it (effective_at) or cancel it",
    JobState.HELD: "it is held; an approver other than the requester releases it, or cancel it",
}
_ADMITTED = dict.fromkeys((JobState.QUEUED, JobState.PAUSED), "its time has come; pause or cancel it")
_COUNTED = 1000
"""Held jobs that a preview of their release looks at."""
_NOT_HELD = dict.fromkeys((JobState.SCHEDULED, JobState.QUEUED, JobState.PAUSED), "it is not held")


def pause(database: Database, *, organisation_id: int, job_id: int, actor: str, note: str | None = None) -> Job:
    """Let nothing more of a job be claimed until it is resumed.

    Raises:
        NotFoundError: there is no such job in this organisation.
        ConflictError: it has not begun, is held, or has ended.
    """
    work = partial(_turn, organisation_id, job_id, JobState.QUEUED, JobState.PAUSED, "job.pause", actor, note)
    return _act(database, organisation_id, job_id, work, "job.paused")


def resume(database: Database, *, organisation_id: int, job_id: int, actor: str, note: str | None = None) -> Job:
    """Let a paused job go on.

    Raises:
        NotFoundError: there is no such job in this organisation.
        ConflictError: it has not begun, is held, or has ended.
    """
    work = partial(_turn, organisation_id, job_id, JobState.PAUSED, JobState.QUEUED, "job.resume", actor, note)
    return _act(database, organisation_id, job_id, work, "job.resumed")


def move(database: Database, *, organisation_id: int, job_id: int, effective_at: datetime | date, actor: str) -> Job:
    """Give a job that is not admitted yet another time; one that has passed admits it at once.

    A held one stays held. A deactivation has the time that its HR system gave it.

    Raises:
        NotFoundError: there is no such job in this organisation.
        ConflictError: it is admitted, has ended, or is a deactivation.
        InvalidInputError: that time cannot be meant.
    """

    def work(connection: Connection) -> bool:
        when = effective_time(connection, organisation_id, effective_at)
        jobs.lock_settings(connection, organisation_id)
        found = _locked(connection, organisation_id, job_id)
        if when is None or found.effective_at == when:
            return False
        if found.source == "hr":
            raise ConflictError(
                f"job {job_id} is a deactivation: its time is its event's; the HR system sends another event, "
                "or cancel the job"
            )
        if found.state not in (JobState.SCHEDULED, JobState.HELD):
            raise _refused(job_id, found.state, _ADMITTED)
        due = control.move(connection, job_id, when)
        detail = json.dumps({"before": found.effective_at.isoformat(), "after": when.isoformat()})
        _audit(connection, organisation_id, job_id, actor, "job.move", detail=detail)
        if due:
            admit(connection, organisation_id=organisation_id, job_id=job_id)
            jobs.notify(connection)
            jobs.finish(connection, [job_id])  # one over nothing
        return True

    return _act(database, organisation_id, job_id, work, "job.moved")


def release(database: Database, *, organisation_id: int, job_id: int, actor: str, note: str | None = None) -> Job:
    """Admit a held job, by somebody who did not request it; it is not held again.

    Raises:
        NotFoundError: there is no such job in this organisation.
        OwnJobError: the actor requested it.
        ConflictError: it is not held.
    """
    act = uuid4().hex

    def work(connection: Connection) -> bool:
        jobs.lock_settings(connection, organisation_id)
        found = _locked(connection, organisation_id, job_id)
        if found.requested_by == actor:
            raise OwnJobError(f"job {job_id} was requested by {actor}, who cannot release it; another approver can")
        if found.state != JobState.HELD:
            if found.released and found.state not in (JobState.CANCELLED, JobState.SUPERSEDED):
                return False
            raise _refused(job_id, found.state, _NOT_HELD)
        control.release(connection, organisation_id, [job_id], actor=actor, note=note, act=act)
        jobs.notify(connection)
        return True

    return _act(database, organisation_id, job_id, work, "job.released")


def release_matching(
    database: Database, *, organisation_id: int, wanted: ReleaseFilter, actor: str, note: str | None = None
) -> Released:
    """Release all held jobs that match, a thousand at a time; those that the actor requested stay held.

    Raises:
        InvalidInputError: no condition was given.
    """
    if all(value is None for value in wanted.model_dump().values()):
        raise InvalidInputError("filter: give at least one condition, such as held_because")
    act, after, released, own = uuid4().hex, 0, 0, 0

    def work(connection: Connection, ids: list[int]) -> int:
        jobs.lock_settings(connection, organisation_id)
        count = control.release(connection, organisation_id, ids, actor=actor, note=note, act=act)
        jobs.notify(connection)
        return count

    while True:
        with database.begin() as connection:
            found = control.held(connection, organisation_id, wanted, actor=actor, after=after)
        if not found:
            break
        own += sum(is_own for _, is_own in found)
        ids = [job_id for job_id, is_own in found if not is_own]
        released += database.run(partial(work, ids=ids)) if ids else 0
        after = found[-1][0]
    log.info("jobs.released", organisation_id=organisation_id, released=released, own=own)
    return Released(released=released, own=own)


def cancel(database: Database, *, organisation_id: int, job_id: int, actor: str, note: str | None = None) -> Job:
    """Cancel what of a job is not decided yet, at once; a chunk that is being decided commits.

    Raises:
        NotFoundError: this organisation has no such job.
    """

    def work(connection: Connection) -> bool:
        if not jobs.cancel(connection, job_id, organisation_id):
            return False
        claims.close_job(connection, job_id)
        brake.forget(connection, job_id)
        _audit(connection, organisation_id, job_id, actor, "job.cancel", note=note)
        return True

    return _act(database, organisation_id, job_id, work, "job.cancelled")


@dataclass(frozen=True, slots=True)
class Releasable:
    """What a release by filter would do."""

    released: int
    own: int
    """Would stay held, because the actor requested them."""
    more: bool
    """Whether there are more than were counted."""
    jobs: list[Job]
    """Some of them."""
    seen_at: datetime
    """By the database's clock; as `created_before` of the release it leaves out what has come since."""


def releasable(database: Database, *, organisation_id: int, wanted: ReleaseFilter, actor: str) -> Releasable:
    """What a release of all held jobs that match would do now, counted up to a thousand; writes nothing."""
    with database.begin() as connection:
        found = control.held(connection, organisation_id, wanted, actor=actor, after=0, most=_COUNTED)
        some = job_lists.find_jobs(connection, [job_id for job_id, is_own in found if not is_own][:20])
        own = sum(is_own for _, is_own in found)
        return Releasable(
            released=len(found) - own,
            own=own,
            more=len(found) == _COUNTED,
            jobs=sorted(some, key=lambda job: job.id),
            seen_at=jobs.database_now(connection),
        )


def _turn(
    organisation_id: int,
    job_id: int,
    before: JobState,
    after: JobState,
    action: str,
    actor: str,
    note: str | None,
    connection: Connection,
) -> bool:
    found = _locked(connection, organisation_id, job_id)
    if found.state == after:
        return False
    if found.state != before:
        raise _refused(job_id, found.state, _NOT_BEGUN)
    control.turn(connection, job_id, after)
    _audit(connection, organisation_id, job_id, actor, action, note=note)
    jobs.notify(connection)
    return True


def _act(database: Database, organisation_id: int, job_id: int, work: Callable[[Connection], bool], event: str) -> Job:
    """Run an act that says whether it changed anything; the job as it is after it."""
    if database.run(work):
        log.info(event, job_id=job_id, organisation_id=organisation_id)
    return show(database, organisation_id=organisation_id, job_id=job_id)


def _locked(connection: Connection, organisation_id: int, job_id: int) -> Any:
    found = control.lock(connection, organisation_id, job_id)
    if found is None:
        raise NotFoundError(f"there is no job {job_id} in this organisation")
    return found


def _refused(job_id: int, state: str, refusals: Mapping[JobState, str]) -> ConflictError:
    return ConflictError(f"job {job_id} is {state}: {refusals.get(JobState(state), 'it has ended')}")


def _audit(
    connection: Connection,
    organisation_id: int,
    job_id: int,
    actor: str,
    action: str,
    *,
    note: str | None = None,
    detail: str = "{}",
) -> None:
    jobs.audit(
        connection,
        organisation_id=organisation_id,
        actor=actor,
        action=action,
        job_id=job_id,
        note=note,
        detail=detail,
    )
