"""Held jobs of an organisation, and the enrolments that they name: a bounded number of both, whatever waits."""

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import BigInteger, Connection, Select, and_, any_, func, literal, select, union_all

from schemas.catalogue import JobState
from worker.ledger.fragments import UNFINISHED
from worker.models import Ids, enrolments, job_chunks, jobs, learners
from worker.rules import ENDED, WITHDRAWN

MOST_JOBS = 200
"""Held jobs that a plan is compared with, the newest: after a storm of deactivations each may be about one learner."""
MOST = 100_000
"""Enrolments of held jobs that are looked at together."""


def list_newest(connection: Connection, organisation_id: int) -> tuple[list[int], bool]:
    """The newest held jobs that withdraw, as many as are looked at, and whether there are more."""
    found = connection.execute(_held(organisation_id).order_by(jobs.c.id.desc()).limit(MOST_JOBS + 1)).all()
    ids = _fitting((row.id, row.accepted) for row in found[:MOST_JOBS])
    return ids, len(ids) < len(found)


def list_fitting(connection: Connection, organisation_id: int, job_ids: Sequence[int]) -> list[int]:
    """Those of some jobs that are held, withdraw, and are looked at together: the first that are small enough."""
    given = jobs.c.id == any_(literal(list(job_ids), Ids))
    found = connection.execute(_held(organisation_id).where(given).order_by(jobs.c.id))
    return _fitting((row.id, row.accepted) for row in found)


def named(organisation_id: int, job_ids: Sequence[int]) -> Select[Any]:
    """What held jobs name: `job_id` and `id`. Of one about a learner, all that they are enrolled in now."""
    of_jobs = (
        select(job_chunks.c.job_id, job_chunks.c.enrolment_ids, job_chunks.c.learner_external_id)
        .where(
            job_chunks.c.job_id == any_(literal(list(job_ids), Ids)),
            job_chunks.c.organisation_id == organisation_id,
            job_chunks.c.state.in_(UNFINISHED),
        )
        .subquery("of_jobs")
    )
    by_id = select(of_jobs.c.job_id, func.unnest(of_jobs.c.enrolment_ids, type_=BigInteger).label("id"))
    theirs = and_(
        learners.c.organisation_id == organisation_id, learners.c.external_id == of_jobs.c.learner_external_id
    )
    of_learner = and_(enrolments.c.learner_id == learners.c.id, enrolments.c.organisation_id == organisation_id)
    by_learner = (
        select(of_jobs.c.job_id, enrolments.c.id)
        .select_from(of_jobs.join(learners, theirs).join(enrolments, of_learner))
        .where(enrolments.c.status.not_in([WITHDRAWN, *ENDED]))
    )
    both = union_all(by_id, by_learner).subquery("named")
    return select(both.c.job_id, both.c.id)


def _held(organisation_id: int) -> Select[int, int]:
    return select(jobs.c.id, jobs.c.accepted).where(
        jobs.c.organisation_id == organisation_id, jobs.c.state == JobState.HELD, jobs.c.reinstates.is_(None)
    )


def _fitting(found: Iterable[tuple[int, int]]) -> list[int]:
    ids, left = list[int](), MOST
    for job_id, size in found:
        if size <= left:
            ids.append(job_id)
            left -= size
    return ids
