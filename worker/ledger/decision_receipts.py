"""What explains a letter or an enrolment: requests, outcomes, letters and acts that were about it."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, text

_ASKED = """j.id AS job_id, j.kind, j.state, j.reason, j.source, j.requested_by, j.door, j.idempotency_key AS key,
    (SELECT r.id::text FROM withdrawals.receipts r WHERE r.organisation_id = j.organisation_id AND r.door = j.door
        AND r.idempotency_key = j.idempotency_key AND r.job_id = j.id) AS receipt_id,
    j.note, j.learner_external_id, j.created_at, j.effective_at, j.file_name,
    (SELECT f.lines[array_position(f.enrolment_ids, CAST(:enrolment_id AS bigint))] FROM withdrawals.file_lines f
        WHERE f.job_id = j.id AND f.first_id <= :enrolment_id ORDER BY f.first_id DESC LIMIT 1) AS line"""
_SUPERSEDED = """j.epoch IS NOT NULL AND EXISTS (SELECT 1 FROM withdrawals.persons p
    WHERE p.organisation_id = j.organisation_id AND p.external_id = j.learner_external_id
        AND p.epoch <> j.epoch)"""

_REQUEST = text(f"SELECT {_ASKED}, {_SUPERSEDED} AS voided FROM withdrawals.jobs j WHERE j.id = :job_id")


def request(connection: Connection, job_id: int, enrolment_id: int | None) -> dict[str, Any] | None:
    """A request as its producer made it, with the line on which the enrolment stood.

    `voided`: the person has had a newer event since.
    """
    row = connection.execute(_REQUEST, {"job_id": job_id, "enrolment_id": enrolment_id}).mappings().one_or_none()
    return dict(row) if row else None


_ALIKE = text("""
SELECT count(*) FROM withdrawals.dead_letters d
WHERE d.organisation_id = :organisation_id AND d.fingerprint = :fingerprint AND d.state IN ('open', 'redriven')
""")


def alike(connection: Connection, organisation_id: int, fingerprint: str) -> int:
    """How many live letters share a fingerprint."""
    values = {"organisation_id": organisation_id, "fingerprint": fingerprint}
    return int(connection.scalar(_ALIKE, values) or 0)


_PERSON = text("""
SELECT l.id AS learner_id, l.active, count(e.id) FILTER (WHERE e.status NOT IN ('withdrawn', 'mastered', 'incomplete'))
        AS to_decide,
    count(e.id) FILTER (WHERE e.status NOT IN ('withdrawn', 'mastered', 'incomplete') AND e.pathway_id IS NOT NULL)
        AS owned
FROM lms.learners l LEFT JOIN lms.enrolments e ON e.learner_id = l.id AND e.organisation_id = l.organisation_id
WHERE l.organisation_id = :organisation_id AND l.external_id = :external_id GROUP BY l.id
""")


def person(connection: Connection, organisation_id: int, external_id: str) -> dict[str, Any] | None:
    """A learner as the platform has them: active, and how many enrolments a job for them would decide."""
    values = {"organisation_id": organisation_id, "external_id": external_id}
    row = connection.execute(_PERSON, values).mappings().one_or_none()
    return dict(row) if row else None


_EVENT_RECEIPT = text("""
SELECT r.id::text AS receipt_id, r.received_at FROM withdrawals.receipts r
WHERE r.organisation_id = :organisation_id AND r.door = :door AND r.idempotency_key = :key
""")


def event_receipt(connection: Connection, organisation_id: int, door: str, key: str) -> dict[str, Any] | None:
    """What was answered to an event."""
    values = {"organisation_id": organisation_id, "door": door, "key": key}
    row = connection.execute(_EVENT_RECEIPT, values).mappings().one_or_none()
    return dict(row) if row else None


_ACTS = text("""
SELECT at, actor, action, note, job_id, dead_letter_id, detail FROM withdrawals.audit
WHERE dead_letter_id = ANY(:ids) ORDER BY id
""")
# When each job met the letter: a chunk's time of closing stays, an outcome's moves when it is replaced.
_MET = text("""
SELECT c.closed_at AS at, c.job_id FROM withdrawals.outcomes o JOIN withdrawals.chunks c ON c.id = o.chunk_id
WHERE o.dead_letter_id = :id
UNION SELECT c.closed_at, c.job_id FROM withdrawals.chunks c WHERE c.dead_letter_id = :id AND c.redrives IS NULL
ORDER BY 1, 2 LIMIT 1000
""")


def acts(connection: Connection, letter_ids: Sequence[int]) -> list[dict[str, Any]]:
    """What is on record of letters, in order: acts of people, and outcomes that were replaced."""
    return [dict(row) for row in connection.execute(_ACTS, {"ids": list(letter_ids)}).mappings()]


def met(connection: Connection, letter_id: int) -> list[dict[str, Any]]:
    """When which jobs came to a letter."""
    return [dict(row) for row in connection.execute(_MET, {"id": letter_id}).mappings()]


_OUTCOMES = text(f"""
SELECT {_ASKED}, o.outcome, o.prior_status, o.pathway_id, p.title AS pathway_title, o.dead_letter_id, o.decided_at,
    o.reinstated_by, last.asked_by, coalesce(last.override, c.override) AS override
FROM withdrawals.outcomes o JOIN withdrawals.jobs j ON j.id = o.job_id JOIN withdrawals.chunks c ON c.id = o.chunk_id
LEFT JOIN lms.pathways p ON p.id = o.pathway_id AND p.organisation_id = o.organisation_id
LEFT JOIN LATERAL (SELECT a.asked_by, a.override FROM withdrawals.chunks a
    WHERE a.redrives = o.dead_letter_id AND a.job_id = o.job_id AND a.closed_at = o.decided_at
    ORDER BY a.id DESC LIMIT 1) last ON true
WHERE o.enrolment_id = :enrolment_id AND o.organisation_id = :organisation_id ORDER BY j.id
""")


def outcomes(connection: Connection, organisation_id: int, enrolment_id: int) -> list[dict[str, Any]]:
    """Each job's outcome for an enrolment, with the request, what was seen, and who asked for the last attempt."""
    values = {"organisation_id": organisation_id, "enrolment_id": enrolment_id}
    return [dict(row) for row in connection.execute(_OUTCOMES, values).mappings()]


# Ids lie in chunks in order, so a closed chunk is found by its first and last; what is unfinished is a backlog,
# and looked through (decision record 0014).
_WHOLE = text(f"""
SELECT {_ASKED}, c.state AS chunk_state, c.closed_at, c.attempts, c.dead_letter_id FROM (
    SELECT c.* FROM withdrawals.chunks c
    WHERE c.redrives IS NULL AND c.enrolment_ids IS NOT NULL AND c.state IN ('cancelled', 'superseded', 'failed')
        AND numrange(least(c.enrolment_ids[1], c.enrolment_ids[c.size]),
            greatest(c.enrolment_ids[1], c.enrolment_ids[c.size]), '[]') @> CAST(:enrolment_id AS numeric)
        AND c.enrolment_ids @> ARRAY[CAST(:enrolment_id AS bigint)]
    UNION ALL
    SELECT c.* FROM withdrawals.chunks c
    WHERE c.redrives IS NULL AND c.state IN ('waiting', 'ready', 'claimed')
        AND c.enrolment_ids @> ARRAY[CAST(:enrolment_id AS bigint)]
    UNION ALL
    SELECT c.* FROM withdrawals.chunks c
    WHERE c.redrives IS NULL AND c.state IN ('waiting', 'ready', 'claimed')
        AND c.organisation_id = :organisation_id AND c.learner_external_id = CAST(:learner AS text)
    UNION ALL
    SELECT c.* FROM withdrawals.chunks c
    WHERE c.redrives IS NULL AND c.state IN ('cancelled', 'superseded', 'failed')
        AND c.organisation_id = :organisation_id AND c.learner_external_id = CAST(:learner AS text)
) c JOIN withdrawals.jobs j ON j.id = c.job_id
WHERE c.organisation_id = :organisation_id ORDER BY j.id LIMIT 1000
""")


def without_outcome(
    connection: Connection, organisation_id: int, enrolment_id: int, learner: str | None
) -> list[dict[str, Any]]:
    """Requests that hold an enrolment, or its learner, in a chunk without outcomes: waiting, or closed whole."""
    values = {"organisation_id": organisation_id, "enrolment_id": enrolment_id, "learner": learner}
    return [dict(row) for row in connection.execute(_WHOLE, values).mappings()]


_LETTERS = text("""
SELECT d.id FROM withdrawals.dead_letters d
WHERE d.enrolment_id = :enrolment_id AND d.organisation_id = :organisation_id
UNION SELECT d.id FROM withdrawals.dead_letters d
WHERE d.organisation_id = :organisation_id AND d.learner_external_id = CAST(:learner AS text)
ORDER BY 1 LIMIT 1000
""")


def letters_about(connection: Connection, organisation_id: int, enrolment_id: int, learner: str | None) -> list[int]:
    """Letters of an enrolment or its learner, in the order in which they were opened."""
    values = {"organisation_id": organisation_id, "enrolment_id": enrolment_id, "learner": learner}
    return list(connection.scalars(_LETTERS, values))


_JOB_ACTS = text("""
SELECT at, actor, action, note, job_id, dead_letter_id, detail FROM withdrawals.audit
WHERE job_id = ANY(:ids) AND dead_letter_id IS NULL AND action <> 'job.submit' ORDER BY id LIMIT 1000
""")


def acts_on_jobs(connection: Connection, job_ids: Sequence[int]) -> list[dict[str, Any]]:
    """What people did to jobs: paused, released, cancelled, …"""
    return [dict(row) for row in connection.execute(_JOB_ACTS, {"ids": list(job_ids)}).mappings()]
