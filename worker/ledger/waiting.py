"""Everything of an organisation that waits for a second person: approvals, limits proposed for the brake, held jobs.

For the inbox, its badge, and notifications. No locks are taken, and no list is longer than asked for.
"""

from datetime import datetime

from sqlalchemy import Connection, func, select

from schemas.approvals import Approval, Waiting
from schemas.brake import LimitProposal
from schemas.catalogue import GUARDED_ACTS, GuardedAct, JobState
from worker.ledger import approvals, job_lists, limit_proposals
from worker.models import jobs
from worker.records import Job
from worker.texts import Text, plainly, text

_HELD_SINCE = func.greatest(jobs.c.created_at, jobs.c.effective_at)
"""A job with a later time is held when its time comes."""


def list_waiting(
    connection: Connection, organisation_id: int, *, since: datetime | None = None, limit: int = 100
) -> list[Waiting]:
    """What waits, oldest first, of each kind up to `limit`. `since`: asked for, or held, from this time on."""
    asked = approvals.list_pending(connection, organisation_id, since=since, limit=limit)
    proposal = limit_proposals.find_pending(connection, organisation_id)
    found = [_of_approval(one) for one in asked]
    if proposal is not None and (since is None or proposal.proposed_at >= since):
        found.append(_of_proposal(proposal))
    found += [_of_job(job) for job in _list_held(connection, organisation_id, since, limit)]
    return sorted(found, key=lambda one: (one.requested_at, one.kind, one.id))


def count_waiting(connection: Connection, organisation_id: int, *, most: int) -> int:
    """How many things wait, counted up to `most` of each kind, in one statement."""
    held = select(jobs.c.id).where(jobs.c.organisation_id == organisation_id, jobs.c.state == JobState.HELD)
    counts = [
        select(func.count()).select_from(found.limit(most).subquery()).scalar_subquery()
        for found in (held, approvals.pending_ids(organisation_id), limit_proposals.pending_ids(organisation_id))
    ]
    return int(connection.scalar(select(counts[0] + counts[1] + counts[2])) or 0)


def _list_held(connection: Connection, organisation_id: int, since: datetime | None, limit: int) -> list[Job]:
    statement = (
        select(jobs.c.id)
        .where(jobs.c.organisation_id == organisation_id, jobs.c.state == JobState.HELD)
        .order_by(jobs.c.id)
        .limit(limit)
    )
    if since is not None:
        statement = statement.where(since <= _HELD_SINCE)
    ids = list(connection.scalars(statement))
    return job_lists.find_jobs(connection, ids) if ids else []


def _name(one: Approval) -> Text:
    """What an approval is about. The policies are no further subject of their change."""
    act = plainly(GUARDED_ACTS[one.act].label)
    return act if one.act is GuardedAct.POLICIES else text("{act}: {subject}", act=act, subject=one.subject)


def _of_approval(one: Approval) -> Waiting:
    return Waiting(
        kind="approval",
        id=one.id,
        what=_name(one),
        consequence=one.consequence,
        size=one.size,
        reason=one.reason,
        requested_by=one.requested_by,
        requested_at=one.requested_at,
        expires_at=one.expires_at,
        page=f"/console/approvals/{one.id}",
    )


def _of_proposal(one: LimitProposal) -> Waiting:
    default = text("the default")
    floor = default if one.floor is None else text("{count:,} learners", count=one.floor)
    share = default if one.share is None else text("{percent:.3g} %", percent=one.share * 100)
    hours = default if one.hours is None else text("{count} hours", count=one.hours)
    return Waiting(
        kind="limits",
        id=one.id,
        what=text("Change the limits of the brake"),
        consequence=text(
            "From then on: always allowed {floor}, share of the learners {share}, window {hours}.",
            floor=floor,
            share=share,
            hours=hours,
        ),
        size=None,
        reason=one.note,
        requested_by=one.proposed_by,
        requested_at=one.proposed_at,
        expires_at=one.expires_at,
        page="/console/brake",
    )


def _of_job(job: Job) -> Waiting:
    learners = job.brake["learners"] if job.brake and "learners" in job.brake else None
    return Waiting(
        kind="job",
        id=job.id,
        what=job.title,
        consequence=text("The job is released, and starts."),
        why=job.held_cause,
        enrolments=job.accepted if job.learner_external_id is None else None,
        withdrawal_reason=job.reason,
        series=[job.series_title] if job.series_title else [],
        size=learners,
        reason=job.note,
        requested_by=job.requested_by,
        requested_at=max(job.created_at, job.effective_at),
        expires_at=None,
        page=f"/console/jobs/{job.id}",
    )
