"""Withdrawals that still stand, and the jobs that made them: where a page shows one, it offers to take it back."""

from collections.abc import Sequence

from sqlalchemy import Connection, select, text

from schemas.catalogue import Outcome
from worker.models import jobs, outcomes

_LOOKED_THROUGH = 50
"""Newest jobs of an organisation."""
_SMALL = 500
"""Enrolments of a job up to which their Series are looked at, where the job does not name one."""


def find_jobs(connection: Connection, organisation_id: int, enrolment_ids: Sequence[int]) -> dict[int, int]:
    """By enrolment, the ended job that withdrew it and was not taken back there. Others are left out."""
    found = (
        select(outcomes.c.enrolment_id, outcomes.c.job_id)
        .join(jobs, jobs.c.id == outcomes.c.job_id)
        .where(
            outcomes.c.organisation_id == organisation_id,
            outcomes.c.enrolment_id.in_(enrolment_ids),
            outcomes.c.outcome == Outcome.WITHDRAWN,
            outcomes.c.reinstated_by.is_(None),
            jobs.c.finished_at.is_not(None),
        )
    )
    newest_last = found.order_by(outcomes.c.decided_at, outcomes.c.job_id)
    return {row.enrolment_id: row.job_id for row in connection.execute(newest_last)}


_OF_SERIES = text("""
SELECT j.id FROM (
    SELECT * FROM withdrawals.jobs WHERE organisation_id = :organisation_id ORDER BY id DESC LIMIT :looked_through
) j
WHERE j.kind = 'withdraw' AND j.finished_at IS NOT NULL AND j.prune_id IS NULL AND (
    j.series_id = :series_id
    OR j.series_id IS NULL AND j.accepted <= :small AND EXISTS (
        SELECT FROM withdrawals.outcomes o JOIN lms.enrolments e ON e.id = o.enrolment_id
        WHERE o.job_id = j.id AND o.outcome = 'withdrawn' AND o.reinstated_by IS NULL
            AND e.series_id = :series_id AND e.organisation_id = j.organisation_id))
ORDER BY j.id DESC LIMIT :limit
""")


def list_jobs_of_series(connection: Connection, organisation_id: int, series_id: int, *, limit: int = 3) -> list[int]:
    """Ids of the newest ended jobs that withdrew in a Series, among the last ones of the organisation."""
    values = {
        "organisation_id": organisation_id, "series_id": series_id, "limit": limit, "small": _SMALL,
        "looked_through": _LOOKED_THROUGH,
    }  # fmt: skip
    return list(connection.scalars(_OF_SERIES, values))
