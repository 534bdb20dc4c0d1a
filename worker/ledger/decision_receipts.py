"""What explains a letter or an enrolment: requests, outcomes, letters and acts that were about it."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Text, and_, cast, func, select, text, union

from worker.ledger.fragments import CLOSED_WHOLE, DEACTIVATED, UNFINISHED, among, sql_list
from worker.models import audit, chunks, dead_letters, enrolments, job_chunks, learners, outcomes, receipts
from worker.rules import ENDED, WITHDRAWN

_ASKED = """j.id AS job_id, j.kind, j.state, j.reason, j.reinstates, j.source, j.requested_by, j.door,
    j.idempotency_key AS key,
    (SELECT r.id::text FROM withdrawals.receipts r WHERE r.organisation_id = j.organisation_id AND r.door = j.door
        AND r.idempotency_key = j.idempotency_key AND r.job_id = j.id) AS receipt_id,
    j.note, j.learner_external_id, j.created_at, j.effective_at, j.file_name,
    (SELECT f.lines[array_position(f.enrolment_ids, CAST(:enrolment_id AS bigint))] FROM withdrawals.file_lines f
        WHERE f.job_id = j.id AND f.first_id <= :enrolment_id ORDER BY f.first_id DESC LIMIT 1) AS line"""
_SUPERSEDED = f"""(j.epoch IS NOT NULL AND EXISTS (SELECT 1 FROM withdrawals.persons p
    WHERE p.organisation_id = j.organisation_id AND p.external_id = {DEACTIVATED}
        AND p.epoch <> j.epoch)
    OR EXISTS (SELECT 1 FROM withdrawals.rosters r JOIN lms.enrolments e ON e.id = CAST(:enrolment_id AS bigint)
        JOIN lms.learners l ON l.id = e.learner_id
        JOIN withdrawals.roster_lines t ON t.roster_id = r.id AND t.external_id = l.external_id
        JOIN withdrawals.persons p ON p.organisation_id = t.organisation_id AND p.external_id = t.external_id
        WHERE r.job_id = j.id AND p.epoch <> t.epoch))"""

_REQUEST = text(f"SELECT {_ASKED}, {_SUPERSEDED} AS voided FROM withdrawals.jobs j WHERE j.id = :job_id")


def find_request(connection: Connection, job_id: int, enrolment_id: int | None) -> dict[str, Any] | None:
    """A request as its producer made it, with the line on which the enrolment stood.

    `voided`: the person has had a newer event since.
    """
    row = connection.execute(_REQUEST, {"job_id": job_id, "enrolment_id": enrolment_id}).mappings().one_or_none()
    return dict(row) if row else None


def find_person(connection: Connection, organisation_id: int, external_id: str) -> dict[str, Any] | None:
    """A learner as the platform has them: active, and how many enrolments a job for them would decide."""
    is_theirs = and_(
        enrolments.c.learner_id == learners.c.id, enrolments.c.organisation_id == learners.c.organisation_id
    )
    undecided = enrolments.c.status.not_in([WITHDRAWN, *ENDED])
    number = func.count(enrolments.c.id)
    statement = (
        select(
            learners.c.id.label("learner_id"),
            learners.c.active,
            number.filter(undecided).label("to_decide"),
            number.filter(undecided, enrolments.c.pathway_id.is_not(None)).label("owned"),
        )
        .outerjoin(enrolments, is_theirs)
        .where(learners.c.organisation_id == organisation_id, learners.c.external_id == external_id)
        .group_by(learners.c.id)
    )
    row = connection.execute(statement).mappings().one_or_none()
    return dict(row) if row else None


def find_event_receipt(connection: Connection, organisation_id: int, door: str, key: str) -> dict[str, Any] | None:
    """What was answered to an event."""
    statement = select(cast(receipts.c.id, Text).label("receipt_id"), receipts.c.received_at).where(
        receipts.c.organisation_id == organisation_id, receipts.c.door == door, receipts.c.idempotency_key == key
    )
    row = connection.execute(statement).mappings().one_or_none()
    return dict(row) if row else None


_ACT = (audit.c.at, audit.c.actor, audit.c.action, audit.c.note, audit.c.job_id, audit.c.dead_letter_id, audit.c.detail)


def list_acts(connection: Connection, letter_ids: Sequence[int]) -> list[dict[str, Any]]:
    """What is on record of letters, in order: acts of people, and outcomes that were replaced."""
    statement = select(*_ACT).where(among(audit.c.dead_letter_id, letter_ids)).order_by(audit.c.id)
    return [dict(row) for row in connection.execute(statement).mappings()]


def list_acts_on_jobs(connection: Connection, job_ids: Sequence[int]) -> list[dict[str, Any]]:
    """What people did to jobs after they were made: paused, released, cancelled, …"""
    later = (audit.c.dead_letter_id.is_(None), audit.c.action.not_in(["job.submit", "job.reinstate"]))
    statement = select(*_ACT).where(among(audit.c.job_id, job_ids), *later).order_by(audit.c.id).limit(1000)
    return [dict(row) for row in connection.execute(statement).mappings()]


def list_jobs_of_letter(connection: Connection, letter_id: int) -> list[dict[str, Any]]:
    """Which jobs refer to a letter (`job_id`), and since when (`at`)."""
    # A chunk's time of closing stays, an outcome's moves when it is replaced.
    by_outcome = (
        select(chunks.c.closed_at.label("at"), chunks.c.job_id)
        .join(outcomes, outcomes.c.chunk_id == chunks.c.id)
        .where(outcomes.c.dead_letter_id == letter_id)
    )
    by_chunk = select(job_chunks.c.closed_at, job_chunks.c.job_id).where(job_chunks.c.dead_letter_id == letter_id)
    statement = union(by_outcome, by_chunk).order_by("at", "job_id").limit(1000)
    return [dict(row) for row in connection.execute(statement).mappings()]


_OUTCOMES = text(f"""
SELECT {_ASKED}, o.outcome, o.prior_status, o.pathway_id, p.title AS pathway_title, o.dead_letter_id, o.decided_at,
    o.reinstated_by, last.asked_by, coalesce(last.override, c.override) AS override,
    guard.kind AS protection_kind,
    to_char(guard.until AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') AS protected_until
FROM withdrawals.outcomes o JOIN withdrawals.jobs j ON j.id = o.job_id JOIN withdrawals.chunks c ON c.id = o.chunk_id
LEFT JOIN lms.pathways p ON p.id = o.pathway_id AND p.organisation_id = o.organisation_id
-- The attempt that decided, when support asked for it.
LEFT JOIN LATERAL (SELECT a.asked_by, a.override FROM withdrawals.letter_chunks a
    WHERE a.letter_id = o.dead_letter_id AND a.job_id = o.job_id AND a.closed_at = o.decided_at
    ORDER BY a.id DESC LIMIT 1) last ON true
-- Of a protected one: the protection that was in force, of several the one that ended last.
LEFT JOIN LATERAL (SELECT p.kind, p.until FROM withdrawals.protections p
    WHERE o.outcome = 'protected' AND p.organisation_id = o.organisation_id AND p.ends_at > o.decided_at
        AND (p.enrolment_id = o.enrolment_id OR p.learner_external_id = (SELECT l.external_id FROM lms.enrolments e
            JOIN lms.learners l ON l.id = e.learner_id
            WHERE e.id = o.enrolment_id AND e.organisation_id = o.organisation_id))
    ORDER BY p.starts_at > o.decided_at, p.ends_at DESC, p.id LIMIT 1) guard ON true
WHERE o.enrolment_id = :enrolment_id AND o.organisation_id = :organisation_id ORDER BY j.id
""")


def list_outcomes(connection: Connection, organisation_id: int, enrolment_id: int) -> list[dict[str, Any]]:
    """Each job's outcome for an enrolment, with the request, what was seen, and who asked for the last attempt."""
    values = {"organisation_id": organisation_id, "enrolment_id": enrolment_id}
    return [dict(row) for row in connection.execute(_OUTCOMES, values).mappings()]


# Ids lie in chunks in order, so a closed chunk is found by its first and last; what is unfinished is a backlog,
# and looked through (decision record 0014).
_WHOLE = text(f"""
SELECT {_ASKED}, c.state AS chunk_state, c.closed_at, c.attempts, c.dead_letter_id FROM (
    -- Closed whole, with ids: the index over first and last id narrows it down.
    SELECT c.* FROM withdrawals.job_chunks c
    WHERE c.enrolment_ids IS NOT NULL AND c.state IN ({sql_list(CLOSED_WHOLE)})
        AND numrange(least(c.enrolment_ids[1], c.enrolment_ids[c.size]),
            greatest(c.enrolment_ids[1], c.enrolment_ids[c.size]), '[]') @> CAST(:enrolment_id AS numeric)
        AND c.enrolment_ids @> ARRAY[CAST(:enrolment_id AS bigint)]
    UNION ALL
    -- Unfinished, with ids.
    SELECT c.* FROM withdrawals.job_chunks c
    WHERE c.state IN ({sql_list(UNFINISHED)}) AND c.enrolment_ids @> ARRAY[CAST(:enrolment_id AS bigint)]
    UNION ALL
    -- Unfinished, for the learner.
    SELECT c.* FROM withdrawals.job_chunks c
    WHERE c.state IN ({sql_list(UNFINISHED)})
        AND c.organisation_id = :organisation_id AND c.learner_external_id = CAST(:learner AS text)
    UNION ALL
    -- Closed whole, for the learner.
    SELECT c.* FROM withdrawals.job_chunks c
    WHERE c.state IN ({sql_list(CLOSED_WHOLE)})
        AND c.organisation_id = :organisation_id AND c.learner_external_id = CAST(:learner AS text)
) c JOIN withdrawals.jobs j ON j.id = c.job_id
WHERE c.organisation_id = :organisation_id ORDER BY j.id LIMIT 1000
""")


def list_undecided(
    connection: Connection, organisation_id: int, enrolment_id: int, learner: str | None
) -> list[dict[str, Any]]:
    """Requests that hold an enrolment, or its learner, in a chunk without outcomes: waiting, or closed whole."""
    values = {"organisation_id": organisation_id, "enrolment_id": enrolment_id, "learner": learner}
    return [dict(row) for row in connection.execute(_WHOLE, values).mappings()]


def find_letters_about(
    connection: Connection, organisation_id: int, enrolment_id: int, learner: str | None
) -> list[int]:
    """Letters of an enrolment or its learner, in the order in which they were opened."""
    ours = select(dead_letters.c.id).where(dead_letters.c.organisation_id == organisation_id)
    by_enrolment = ours.where(dead_letters.c.enrolment_id == enrolment_id)
    by_learner = ours.where(dead_letters.c.learner_external_id == learner)
    either = union(by_enrolment, by_learner) if learner is not None else by_enrolment
    return list(connection.scalars(either.order_by("id").limit(1000)))
