"""What an organisation's jobs did in the last days, for the overview: bounded, and without a look at the outcomes."""

from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import ColumnElement, Connection, Integer, Interval, cast, func, literal, select

from schemas.catalogue import Outcome
from worker.ledger.fragments import plan_by_index
from worker.models import chunks, jobs

JOBS_AT_MOST = 1000
"""The newest jobs that are counted."""


@dataclass(frozen=True, slots=True)
class DoneLately:
    """Sums over the jobs that were requested in a period."""

    jobs: int
    """Up to one more than `JOBS_AT_MOST`: then the sums are of the newest jobs alone."""
    withdrawn: int
    reinstated: int


def done_lately(connection: Connection, organisation_id: int, *, within: timedelta) -> DoneLately:
    """What the jobs did that were requested within this time; the newest `JOBS_AT_MOST` are counted."""
    plan_by_index(connection)
    newest = (
        select(jobs.c.id, jobs.c.pruned_counts)
        .where(jobs.c.organisation_id == organisation_id, jobs.c.created_at > func.now() - literal(within, Interval))
        .order_by(jobs.c.id.desc())
        .limit(JOBS_AT_MOST + 1)
        .subquery("newest")
    )

    def total(outcome: Outcome) -> ColumnElement[int]:
        """Each chunk's counts were written by the transaction that decided it."""
        of_chunks = (
            select(func.sum(cast(chunks.c.counts[outcome.value].astext, Integer)))
            .where(chunks.c.job_id == newest.c.id)
            .correlate(newest)
            .scalar_subquery()
        )
        pruned = cast(newest.c.pruned_counts[outcome.value].astext, Integer)
        return func.coalesce(func.sum(func.coalesce(pruned, of_chunks)), 0)

    found = connection.execute(
        select(
            func.count().label("jobs"),
            total(Outcome.WITHDRAWN).label("withdrawn"),
            total(Outcome.REINSTATED).label("reinstated"),
        ).select_from(newest)
    ).one()
    return DoneLately(int(found.jobs), int(found.withdrawn), int(found.reinstated))
