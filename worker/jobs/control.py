"""What people do to a job before it ends: pause, resume, move, release, cancel.

Each takes effect at the next border between chunks: the claim reads the job's state, and a chunk that is being
decided commits. When the job already has the state that was asked for, the answer is the job, and nothing is recorded.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from functools import partial
from uuid import uuid4

import structlog
from sqlalchemy import Connection

from schemas.answers import Released
from schemas.approvals import Approval
from schemas.catalogue import GuardedAct, JobState, Source
from schemas.job_filter import ReleaseFilter
from worker.access import approvals
from worker.access.persons import Actor
from worker.code_words import said
from worker.database import Database, notify_after_commit
from worker.errors import ConflictError, InvalidInputError, NotFoundError, OwnJobError
from worker.jobs.admission import admit
from worker.jobs.calendar import effective_time
from worker.jobs.releases import Requesters, ask_for_one, of_others, release_limited
from worker.jobs.show import show
from worker.ledger import closing, control, job_lists, jobs
from worker.ledger.control import LockedJob
from worker.records import Job
from worker.texts import text

log = structlog.get_logger(__name__)

PREVIEWED = 1000
"""Held jobs that the preview of a release looks at."""
SHOWN = 20
"""Held jobs that the preview shows."""

_CANNOT_PAUSE = {
    JobState.SCHEDULED: text("it has not begun; move it (effective_at) or cancel it"),
    JobState.HELD: text("it is held; an approver other than the requester can release it, or cancel it"),
}
_CANNOT_MOVE = dict.fromkeys((JobState.QUEUED, JobState.PAUSED), text("its time has come; pause or cancel it"))
_CANNOT_RELEASE = dict.fromkeys((JobState.SCHEDULED, JobState.QUEUED, JobState.PAUSED), text("it is not held"))


def pause(database: Database, *, organisation_id: int, job_id: int, actor: str, note: str | None = None) -> Job:
    """Stop workers from claiming more of a job until it is resumed.

    Raises:
        NotFoundError: this organisation has no such job.
        ConflictError: it has not begun, is held, or has ended.
    """

    def work(connection: Connection) -> bool:
        if not _set_state(connection, organisation_id, job_id, before=JobState.QUEUED, after=JobState.PAUSED):
            return False
        _audit(connection, organisation_id, job_id, actor, "job.pause", note=note)
        return True

    return _act(database, organisation_id, job_id, work, "job.paused")


def resume(database: Database, *, organisation_id: int, job_id: int, actor: str, note: str | None = None) -> Job:
    """Let workers claim a paused job again.

    Raises:
        NotFoundError: this organisation has no such job.
        ConflictError: it has not begun, is held, or has ended.
    """

    def work(connection: Connection) -> bool:
        if not _set_state(connection, organisation_id, job_id, before=JobState.PAUSED, after=JobState.QUEUED):
            return False
        _audit(connection, organisation_id, job_id, actor, "job.resume", note=note)
        return True

    return _act(database, organisation_id, job_id, work, "job.resumed")


def move(database: Database, *, organisation_id: int, job_id: int, effective_at: datetime | date, actor: str) -> Job:
    """Give a job that is not admitted yet another time; a time in the past admits it at once.

    A held job stays held. A deactivation keeps the time that its HR system gave it.

    Raises:
        NotFoundError: this organisation has no such job.
        ConflictError: it is admitted, has ended, or is a deactivation.
        InvalidInputError: the time is out of range.
    """

    def work(connection: Connection) -> bool:
        when = effective_time(connection, organisation_id, effective_at)
        jobs.lock_settings(connection, organisation_id)
        found = _lock(connection, organisation_id, job_id)
        if when is None or found.effective_at == when:
            return False
        if found.source == Source.HR:
            raise ConflictError(
                text(
                    "job {job_id} is a deactivation: its event gives its time; the HR system can send another "
                    "event, or cancel the job",
                    job_id=job_id,
                )
            )
        if found.state not in (JobState.SCHEDULED, JobState.HELD):
            raise _refuse(job_id, found.state, _CANNOT_MOVE)
        due = control.set_effective_time(connection, organisation_id, job_id, when)
        detail = json.dumps({"before": found.effective_at.isoformat(), "after": when.isoformat()})
        _audit(connection, organisation_id, job_id, actor, "job.move", detail=detail)
        if due:
            admit(connection, organisation_id=organisation_id, job_id=job_id)
            notify_after_commit(connection)
            jobs.finish(connection, [job_id])  # a job without enrolments has no chunk that would end it
        return True

    return _act(database, organisation_id, job_id, work, "job.moved")


def release(
    database: Database,
    *,
    organisation_id: int,
    job_id: int,
    actor: str,
    made_by: str | None = None,
    note: str | None = None,
) -> Job:
    """Admit a held job, by somebody who did not request it; it is not held again.

    `made_by`: who created the actor's token.

    Raises:
        NotFoundError: this organisation has no such job.
        OwnJobError: the actor requested it, as far as anybody can tell.
        ConflictError: it is not held.
        SecondPersonNeededError: the policies let nobody release it alone; it waits as an approval.
    """
    act, who = uuid4().hex, Actor(actor, made_by)

    def work(connection: Connection) -> Approval | None:
        jobs.lock_settings(connection, organisation_id)
        found = _lock(connection, organisation_id, job_id)
        if Requesters(connection, organisation_id).are_known_to_be(found.requested_by, who):
            raise OwnJobError(
                text(
                    "job {job_id} was requested by {requested_by}, and {actor} is not a second person; another "
                    "approver can release it",
                    job_id=job_id,
                    requested_by=found.requested_by,
                    actor=actor,
                )
            )
        if found.state is not JobState.HELD:
            if found.released and found.state not in (JobState.CANCELLED, JobState.SUPERSEDED):
                return None
            raise _refuse(job_id, found.state, _CANNOT_RELEASE)
        asked = ask_for_one(connection, organisation_id, job_id, who, note)
        if asked is None:
            control.release(connection, organisation_id, [job_id], actor=actor, note=note, act=act)
            notify_after_commit(connection)
        return asked

    approvals.require(database.run(work))
    log.info("job.released", job_id=job_id, organisation_id=organisation_id)
    return show(database, organisation_id=organisation_id, job_id=job_id)


def is_own(database: Database, *, organisation_id: int, requested_by: str, who: Actor) -> bool:
    """Whether somebody requested a job, as far as anybody can tell: then somebody else has to release it."""
    with database.begin() as connection:
        return Requesters(connection, organisation_id).are_known_to_be(requested_by, who)


def release_matching(
    database: Database,
    *,
    organisation_id: int,
    wanted: ReleaseFilter,
    actor: str,
    made_by: str | None = None,
    note: str | None = None,
) -> Released:
    """Release all held jobs that match, a thousand at a time; those that the actor requested stay held.

    `made_by`: who created the actor's token.

    Raises:
        InvalidInputError: the filter has no condition; or the policies limit releases, and too many jobs match.
        SecondPersonNeededError: the policies let nobody release so many alone; they wait as an approval.
    """
    if all(value is None for value in wanted.model_dump().values()):
        raise InvalidInputError(text("filter: give at least one condition, such as held_because"))
    act, who, after, released, own = uuid4().hex, Actor(actor, made_by), 0, 0, 0
    with database.begin() as connection:
        limited = approvals.is_limited(connection, organisation_id, GuardedAct.RELEASE)
    if limited:
        return release_limited(database, organisation_id=organisation_id, wanted=wanted, who=who, note=note)

    def work(connection: Connection, ids: list[int]) -> int:
        jobs.lock_settings(connection, organisation_id)
        count = control.release(connection, organisation_id, ids, actor=actor, note=note, act=act)
        notify_after_commit(connection)
        return count

    while True:
        with database.begin() as connection:
            held = control.list_held(connection, organisation_id, wanted, after=after)
            ids = of_others(connection, organisation_id, held, who)
        if not held:
            break
        own += len(held) - len(ids)
        released += database.run(partial(work, ids=ids)) if ids else 0
        after = held[-1].id
    log.info("jobs.released", organisation_id=organisation_id, released=released, own=own)
    return Released(released=released, own=own)


@dataclass(frozen=True, slots=True)
class ReleasePreview:
    """What a release by filter would do."""

    released: int
    own: int
    """Would stay held, because the actor requested them."""
    more: bool
    """Whether more jobs match than were counted."""
    jobs: list[Job]
    """Some of them."""
    seen_at: datetime
    """By the database's clock. Give it as the release's `created_before` to leave out jobs that came later."""
    limited: bool
    """Whether the policies limit how much one person releases alone."""


def preview_release(
    database: Database, *, organisation_id: int, wanted: ReleaseFilter, actor: str, made_by: str | None = None
) -> ReleasePreview:
    """What a release of all held jobs that match would do now, counted up to a thousand; writes nothing."""
    with database.begin() as connection:
        held = control.list_held(connection, organisation_id, wanted, after=0, limit=PREVIEWED)
        ids = of_others(connection, organisation_id, held, Actor(actor, made_by))
        shown = job_lists.find_jobs(connection, ids[:SHOWN])
        return ReleasePreview(
            released=len(ids),
            own=len(held) - len(ids),
            more=len(held) == PREVIEWED,
            jobs=sorted(shown, key=lambda job: job.id),
            seen_at=jobs.database_now(connection),
            limited=approvals.is_limited(connection, organisation_id, GuardedAct.RELEASE),
        )


def cancel(database: Database, *, organisation_id: int, job_id: int, actor: str, note: str | None = None) -> Job:
    """Cancel what of a job is not decided yet, at once; a chunk that is being decided commits.

    A job that has ended stays as it is: look at the state of the answer.

    Raises:
        NotFoundError: this organisation has no such job.
    """

    def work(connection: Connection) -> bool:
        if not jobs.cancel(connection, job_id, organisation_id):
            return False
        closing.close_job(connection, job_id)
        _audit(connection, organisation_id, job_id, actor, "job.cancel", note=note)
        jobs.finish(connection, [job_id])  # counts whom it has withdrawn, unless a chunk is being decided
        return True

    return _act(database, organisation_id, job_id, work, "job.cancelled")


def _set_state(connection: Connection, organisation_id: int, job_id: int, *, before: JobState, after: JobState) -> bool:
    """Whether the job's state changed from `before` to `after`; it did not when it was `after` already."""
    found = _lock(connection, organisation_id, job_id)
    if found.state is after:
        return False
    if found.state is not before:
        raise _refuse(job_id, found.state, _CANNOT_PAUSE)
    control.set_job_state(connection, organisation_id, job_id, after)
    notify_after_commit(connection)
    return True


def _act(database: Database, organisation_id: int, job_id: int, work: Callable[[Connection], bool], event: str) -> Job:
    """Run `work`, which returns whether it changed anything; the job after it."""
    if database.run(work):
        log.info(event, job_id=job_id, organisation_id=organisation_id)
    return show(database, organisation_id=organisation_id, job_id=job_id)


def _lock(connection: Connection, organisation_id: int, job_id: int) -> LockedJob:
    found = control.lock_job(connection, organisation_id, job_id)
    if found is None:
        raise NotFoundError(text("there is no job {job_id} in this organisation", job_id=job_id))
    return found


def _refuse(job_id: int, state: JobState, refusals: Mapping[JobState, str]) -> ConflictError:
    return ConflictError(
        text(
            "job {job_id} is {state}: {why}",
            job_id=job_id,
            state=said(state),
            why=refusals.get(state, text("it has ended")),
        )
    )


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
