"""What readers have to know of what was pruned: whether a job's details are gone, and what of a history may be."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, select, text

from worker.models import prunes

_HOLD = text("""
SELECT prune_id FROM withdrawals.jobs WHERE id = :job_id AND organisation_id = :organisation_id FOR KEY SHARE
""")
_PRUNED_AT = text("""
SELECT p.pruned_at FROM withdrawals.jobs j JOIN withdrawals.prunes p ON p.id = j.prune_id
WHERE j.id = :job_id AND j.organisation_id = :organisation_id
""")


def hold(connection: Connection, organisation_id: int, job_id: int) -> None:
    """Keep a job from being pruned until this transaction has ended. Waits for a prune that is about to mark it."""
    connection.execute(_HOLD, {"organisation_id": organisation_id, "job_id": job_id})


def pruned_at(connection: Connection, organisation_id: int, job_id: int) -> datetime | None:
    """When a job's details were pruned; None: they were not."""
    found: datetime | None = connection.scalar(_PRUNED_AT, {"organisation_id": organisation_id, "job_id": job_id})
    return found


def list_prunes(connection: Connection, organisation_id: int, *, limit: int) -> list[Row[Any]]:
    """The newest records of what was pruned of an organisation."""
    its = select(
        prunes.c.id, prunes.c.kind, prunes.c.day, prunes.c.row_count, prunes.c.pruned_by, prunes.c.pruned_at
    ).where(prunes.c.organisation_id == organisation_id)
    return list(connection.execute(its.order_by(prunes.c.id.desc()).limit(limit)))


_FORGOTTEN = text("""
SELECT EXISTS (SELECT FROM withdrawals.prunes WHERE organisation_id = :organisation_id AND kind = 'jobs') AS requests,
    EXISTS (SELECT FROM lms.enrolments e JOIN withdrawals.pruned_withdrawals p
        ON p.organisation_id = e.organisation_id AND p.requested_by = e.withdrawn_by
            AND p.reason = e.withdrawal_reason AND p.day = CAST(e.withdrawn_at AT TIME ZONE 'UTC' AS date)
        WHERE e.id = :enrolment_id AND e.organisation_id = :organisation_id AND e.status = 'withdrawn') AS withdrawal
""")


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What may be missing of an enrolment's history."""

    requests: bool
    """Whether jobs of the organisation were pruned: one of them may have named it."""
    withdrawal: bool
    """Whether its withdrawal is one of those on record as pruned."""


def find_forgotten(connection: Connection, organisation_id: int, enrolment_id: int) -> Forgotten:
    """What was pruned that may be about an enrolment."""
    values = {"organisation_id": organisation_id, "enrolment_id": enrolment_id}
    return Forgotten(**connection.execute(_FORGOTTEN, values).mappings().one())
