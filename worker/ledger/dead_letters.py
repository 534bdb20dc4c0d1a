"""Dead letters: open, lock, redrive, settle, close, read."""

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, text

from schemas.catalogue import LETTER_CODES, LetterCode, LetterState
from schemas.dead_letters import LetterFilter
from worker.config import settings
from worker.records import LANE_LETTERS, Chunk, DeadLetter
from worker.rules import NEEDS_SUPPORT

_SUPPORT = ", ".join(f"'{outcome}'" for outcome in sorted(NEEDS_SUPPORT))
_LIVE = "state IN ('open', 'redriven')"

_OPEN = text(f"""
INSERT INTO withdrawals.dead_letters (organisation_id, code, enrolment_id, learner_external_id, job_id,
    error_class, message, fingerprint)
SELECT c.organisation_id, :code, c.enrolment_ids[1], c.learner_external_id, c.job_id,
    :error_class, :message, :fingerprint
FROM withdrawals.chunks c WHERE c.id = :chunk_id
ON CONFLICT (organisation_id, enrolment_id, learner_external_id, code)
    WHERE {_LIVE} AND code <> 'invalid_event'
    DO UPDATE SET message = excluded.message, error_class = excluded.error_class,
        fingerprint = excluded.fingerprint
RETURNING id
""")


def open_for_chunk(
    connection: Connection,
    chunk_id: int,
    code: LetterCode,
    *,
    fingerprint: str,
    message: str | None = None,
    error_class: str | None = None,
) -> int:
    """Open a letter for a chunk of one id or one person, or attach to the live one; its id."""
    values = {"chunk_id": chunk_id, "code": code, "error_class": error_class, "message": message}
    return int(connection.scalar(_OPEN, {**values, "fingerprint": fingerprint}) or 0)


_OPEN_INVALID = text("""
INSERT INTO withdrawals.dead_letters (organisation_id, code, message, fingerprint, evidence)
VALUES (:organisation_id, 'invalid_event', :message, :fingerprint, CAST(:evidence AS jsonb)) RETURNING id
""")


def open_for_event(
    connection: Connection, organisation_id: int, *, message: str, fingerprint: str, evidence: str
) -> int:
    """Open a letter for an event that could not be read; its id. `evidence` is JSON."""
    values = {"organisation_id": organisation_id, "message": message, "fingerprint": fingerprint}
    return int(connection.scalar(_OPEN_INVALID, {**values, "evidence": evidence}) or 0)


_FAIL_ID = text("""
WITH failed AS (
    UPDATE withdrawals.chunks SET state = 'done', counts = '{"failed": 1}', closed_at = now(), lease_until = NULL
    WHERE id = :id AND state = 'claimed' RETURNING *
)
INSERT INTO withdrawals.outcomes (job_id, enrolment_id, organisation_id, chunk_id, outcome, dead_letter_id)
SELECT job_id, enrolment_ids[1], organisation_id, id, 'failed', :letter_id FROM failed
""")
_FAIL_WHOLE = text("""
UPDATE withdrawals.chunks SET state = 'failed', dead_letter_id = :letter_id, closed_at = now(), lease_until = NULL,
    counts = CASE WHEN redrives IS NULL THEN jsonb_build_object('failed', size) ELSE '{}' END
WHERE id = :id AND state = 'claimed'
""")


def fail(connection: Connection, chunk: Chunk, letter_id: int) -> None:
    """Give a locked chunk up: one id gets the outcome `failed`; a person or a letter chunk is closed whole."""
    statement = _FAIL_WHOLE if chunk.is_person or chunk.letter_id is not None else _FAIL_ID
    connection.execute(statement, {"id": chunk.id, "letter_id": letter_id})


_SUPERSEDE_PERSON = text("""
WITH healed AS (
    UPDATE withdrawals.chunks f SET state = 'superseded', dead_letter_id = NULL
    FROM withdrawals.chunks c WHERE c.id = :id AND f.dead_letter_id = c.redrives AND f.job_id = c.job_id
        AND f.redrives IS NULL
)
UPDATE withdrawals.chunks SET state = 'done', counts = '{"failed": -1, "superseded": 1}', closed_at = now(),
    lease_until = NULL
WHERE id = :id AND state = 'claimed'
""")


def supersede_person(connection: Connection, chunk: Chunk) -> None:
    """Close a locked attempt at a person's letter, and the chunk behind it, as superseded."""
    connection.execute(_SUPERSEDE_PERSON, {"id": chunk.id})


_NOTE_FAILURE = text("""
UPDATE withdrawals.dead_letters SET error_class = :error_class, message = :message, fingerprint = :fingerprint
WHERE id = :id
""")


def note_failure(
    connection: Connection, letter_id: int, *, error_class: str | None, message: str, fingerprint: str
) -> None:
    """Let a locked letter say why its last attempt failed."""
    values = {"id": letter_id, "error_class": error_class, "message": message, "fingerprint": fingerprint}
    connection.execute(_NOTE_FAILURE, values)


_LOCK = text("""
SELECT id, organisation_id, code, state, job_id FROM withdrawals.dead_letters
WHERE id = ANY(:ids) AND organisation_id = :organisation_id ORDER BY id FOR UPDATE
""")


def lock(connection: Connection, organisation_id: int, letter_ids: Sequence[int]) -> list[Any]:
    """Lock letters of an organisation in id order: rows of id, code, state, job_id."""
    return list(connection.execute(_LOCK, {"ids": list(letter_ids), "organisation_id": organisation_id}))


_REDRIVE = text(f"""
WITH driven AS (
    UPDATE withdrawals.dead_letters d SET state = 'redriven' WHERE d.id = ANY(:ids) AND d.state = 'open' AND (
        EXISTS (SELECT 1 FROM withdrawals.outcomes o WHERE o.dead_letter_id = d.id AND o.outcome IN ({_SUPPORT}))
        OR EXISTS (SELECT 1 FROM withdrawals.chunks c WHERE c.dead_letter_id = d.id AND c.redrives IS NULL))
    RETURNING id
), asking AS (
    SELECT o.job_id, o.organisation_id, ARRAY[o.enrolment_id] AS ids, NULL AS person, d.id AS letter
    FROM driven d JOIN withdrawals.outcomes o ON o.dead_letter_id = d.id AND o.outcome IN ({_SUPPORT})
    UNION ALL
    SELECT c.job_id, c.organisation_id, NULL, c.learner_external_id, d.id
    FROM driven d JOIN withdrawals.chunks c ON c.dead_letter_id = d.id AND c.redrives IS NULL
)
INSERT INTO withdrawals.chunks (job_id, organisation_id, number, lane, enrolment_ids, learner_external_id, size,
    state, override, override_pathway, remedy, redrives, asked_by)
SELECT job_id, organisation_id, 0, {LANE_LETTERS}, ids, person, 1, 'ready', CAST(:remedy AS text) IS NOT NULL,
    CASE WHEN CAST(:remedy AS text) IS NOT NULL THEN (SELECT CAST(l.evidence ->> 'pathway_id' AS bigint)
        FROM withdrawals.dead_letters l WHERE l.id = letter) END, :remedy, letter, :actor
FROM asking ORDER BY letter, job_id
RETURNING redrives
""")


def redrive(connection: Connection, letter_ids: Sequence[int], *, actor: str, remedy: str | None = None) -> set[int]:
    """Add one chunk to every job whose current outcome refers to these locked, open letters; the letters driven.

    `remedy`: `override` or `cascade`, by which an approver has the enrolments withdrawn although a pathway owns them.
    """
    parameters = {"ids": list(letter_ids), "actor": actor, "remedy": remedy}
    return set(connection.scalars(_REDRIVE, parameters))


_SETTLE = text(f"""
UPDATE withdrawals.dead_letters l SET state = s.state,
    closed_at = CASE WHEN s.state = 'resolved' THEN now() END,
    closed_by = CASE WHEN s.state = 'resolved' THEN s.asked_by END,
    remedy = CASE WHEN s.state = 'resolved' THEN s.remedy END
FROM (
    SELECT d.id, last.asked_by, coalesce(last.remedy, CASE WHEN last.override THEN 'override' ELSE 'redrive' END)
        AS remedy, CASE
        WHEN EXISTS (SELECT 1 FROM withdrawals.chunks c
            WHERE c.redrives = d.id AND c.state IN ('waiting', 'ready', 'claimed')) THEN 'redriven'
        WHEN EXISTS (SELECT 1 FROM withdrawals.outcomes o WHERE o.dead_letter_id = d.id AND o.outcome IN ({_SUPPORT}))
            OR EXISTS (SELECT 1 FROM withdrawals.chunks c WHERE c.dead_letter_id = d.id AND c.redrives IS NULL)
            THEN 'open' ELSE 'resolved' END AS state
    FROM withdrawals.dead_letters d
    JOIN LATERAL (SELECT c.asked_by, c.override, c.remedy FROM withdrawals.chunks c WHERE c.redrives = d.id
        ORDER BY c.id DESC LIMIT 1) last ON true
    WHERE d.id = ANY(:ids) AND d.state = 'redriven'
) s WHERE l.id = s.id
RETURNING l.id, l.state
""")


def settle(connection: Connection, letter_ids: Sequence[int]) -> list[tuple[int, str]]:
    """After an attempt: resolved when no outcome of the letter needs support any more, else open again."""
    return [(row.id, row.state) for row in connection.execute(_SETTLE, {"ids": list(letter_ids)})]


_CLOSE = text("""
UPDATE withdrawals.dead_letters SET state = :state, remedy = :remedy, closed_at = now(), closed_by = :actor
WHERE id = ANY(:ids) AND state = 'open' RETURNING id
""")


def close(
    connection: Connection, letter_ids: Sequence[int], *, state: LetterState, remedy: str, actor: str
) -> list[int]:
    """Close locked, open letters by a person's decision; those that were closed."""
    parameters = {"ids": list(letter_ids), "state": state, "remedy": remedy, "actor": actor}
    return list(connection.scalars(_CLOSE, parameters))


_AUDIT_ALL = text("""
INSERT INTO withdrawals.audit (organisation_id, actor, action, job_id, dead_letter_id, note, detail)
SELECT d.organisation_id, :actor, :action, d.job_id, d.id, :note,
    jsonb_build_object('code', d.code) || CAST(:detail AS jsonb)
FROM withdrawals.dead_letters d WHERE d.id = ANY(:ids) ORDER BY d.id
""")


def audit_all(
    connection: Connection, letter_ids: Sequence[int], *, actor: str, action: str, note: str | None, detail: str
) -> None:
    """One audit row for each letter, with its code; `detail` is JSON."""
    values = {"ids": list(letter_ids), "actor": actor, "action": action, "note": note, "detail": detail}
    connection.execute(_AUDIT_ALL, values)


_ACTED = text("""
SELECT EXISTS (SELECT 1 FROM withdrawals.audit WHERE dead_letter_id = ANY(:ids) AND detail ->> 'act' = :act)
""")


def acted(connection: Connection, letter_ids: Sequence[int], act: str) -> bool:
    """Whether this very act on these letters is on record: a repetition after a lost answer finds itself."""
    return bool(connection.scalar(_ACTED, {"ids": list(letter_ids), "act": act}))


_LEARNERS_KNOWN = text("""
SELECT d.organisation_id, array_agg(d.id ORDER BY d.id) AS ids FROM (
    SELECT d.id, d.organisation_id FROM withdrawals.dead_letters d
    JOIN lms.learners l ON l.organisation_id = d.organisation_id AND l.external_id = d.learner_external_id
    WHERE d.code = 'unknown_learner' AND d.state = 'open' AND NOT EXISTS (
        SELECT 1 FROM withdrawals.chunks c JOIN withdrawals.attempts a ON a.chunk_id = c.id
        WHERE c.redrives = d.id AND c.state = 'failed')
    ORDER BY d.id LIMIT :most) d
GROUP BY d.organisation_id
""")


def with_known_learner(connection: Connection, *, most: int = 500) -> list[tuple[int, list[int]]]:
    """Open `unknown_learner` letters whose learner exists by now, by organisation.

    One whose attempt has used up its tries since is left to a person, as any other that was given up.
    """
    return [(row.organisation_id, list(row.ids)) for row in connection.execute(_LEARNERS_KNOWN, {"most": most})]


_READ = f"""
SELECT d.id, d.organisation_id, d.code, d.state, d.enrolment_id, d.learner_external_id, d.job_id, d.message,
    d.error_class, d.fingerprint, d.evidence, d.assignee, d.opened_at, d.closed_at, d.closed_by, d.remedy,
    d.evidence_dropped_at, now() AS read_at,
    ARRAY(SELECT o.job_id FROM withdrawals.outcomes o WHERE o.dead_letter_id = d.id
        UNION SELECT c.job_id FROM withdrawals.chunks c WHERE c.dead_letter_id = d.id OR c.redrives = d.id
        ORDER BY 1) AS job_ids,
    (SELECT count(*) FROM withdrawals.outcomes o WHERE o.dead_letter_id = d.id AND o.outcome IN ({_SUPPORT}))
    + (SELECT count(*) FROM withdrawals.chunks c WHERE c.dead_letter_id = d.id AND c.redrives IS NULL) AS count
FROM withdrawals.dead_letters d
"""
FILTERED = """
    d.organisation_id = :organisation_id AND (CAST(:code AS text) IS NULL OR d.code = :code)
    AND (CAST(:state AS text) IS NULL OR d.state = :state)
    AND (CAST(:fingerprint AS text) IS NULL OR d.fingerprint = :fingerprint)
    AND (CAST(:job_id AS bigint) IS NULL OR d.job_id = :job_id OR EXISTS (SELECT 1 FROM withdrawals.outcomes o
        WHERE o.dead_letter_id = d.id AND o.job_id = :job_id))
    AND (CAST(:source AS text) IS NULL
        OR EXISTS (SELECT 1 FROM withdrawals.jobs j WHERE j.id = d.job_id AND j.source = :source))
    AND (CAST(:assignee AS text) IS NULL OR d.assignee = :assignee OR (:assignee = 'none' AND d.assignee IS NULL))
    AND (CAST(:older_than AS timestamptz) IS NULL OR d.opened_at < :older_than)
    AND (CAST(:changed AS boolean) IS NULL OR :changed = (d.code IN ('pathway_owned', 'unknown_status', 'not_found')
        AND EXISTS (SELECT 1 FROM lms.enrolments e WHERE e.id = d.enrolment_id
            AND e.organisation_id = d.organisation_id AND (e.status, e.pathway_id) IS DISTINCT FROM
                (d.evidence ->> 'status', CAST(d.evidence ->> 'pathway_id' AS bigint)))))
    AND (CAST(:overdue AS boolean) IS NULL OR :overdue = (d.state IN ('open', 'redriven') AND d.opened_at
        < now() - make_interval(secs => CAST(CAST(:due_after AS jsonb) ->> d.code AS double precision))))"""
"""What a `LetterFilter` finds among letters `d` of an organisation; `by_filter` binds it."""


def by_filter(organisation_id: int, wanted: LetterFilter) -> dict[str, Any]:
    """The parameters of `FILTERED`."""
    due_after = {code: target.total_seconds() for code, target in settings().letter_targets.items()}
    return {"organisation_id": organisation_id, **wanted.model_dump(), "due_after": json.dumps(due_after)}


_THESE = text(_READ + "WHERE d.organisation_id = :organisation_id AND d.id = ANY(:ids)")
_SHOW = text(_READ + "WHERE d.organisation_id = :organisation_id AND d.id = :id")


def these(connection: Connection, organisation_id: int, letter_ids: Sequence[int]) -> list[DeadLetter]:
    """Letters of an organisation by id, in the order given, without their history; missing ones are left out."""
    rows = connection.execute(_THESE, {"organisation_id": organisation_id, "ids": list(letter_ids)}).mappings()
    found = {row["id"]: _letter(row) for row in rows}
    return [found[letter_id] for letter_id in letter_ids if letter_id in found]


def read(connection: Connection, organisation_id: int, letter_id: int) -> DeadLetter | None:
    """One letter, with its attempts and notes."""
    parameters = {"organisation_id": organisation_id, "id": letter_id}
    row = connection.execute(_SHOW, parameters).mappings().one_or_none()
    if row is None:
        return None
    attempts = [dict(item) for item in connection.execute(_ATTEMPTS, parameters).mappings()]
    notes = [dict(item) for item in connection.execute(_NOTES, parameters).mappings()]
    return _letter(row, attempts=attempts, notes=notes)


# What failed or vanished on the way to the letter (split parents included), and every attempt at it since.
_ATTEMPTS = text("""
WITH RECURSIVE roots AS (
    SELECT chunk_id AS id FROM withdrawals.outcomes WHERE dead_letter_id = :id
    UNION SELECT id FROM withdrawals.chunks WHERE dead_letter_id = :id OR redrives = :id
), line AS (
    SELECT id FROM roots
    UNION SELECT c.parent_id FROM line JOIN withdrawals.chunks c ON c.id = line.id WHERE c.parent_id IS NOT NULL
)
SELECT a.started_at, a.ended_at, a.result, a.error_class, a.message, a.fingerprint, NULL AS asked_by, NULL AS job_id,
    a.started_at AS asked_at
FROM line JOIN withdrawals.attempts a ON a.chunk_id = line.id
UNION ALL
SELECT c.claimed_at, c.closed_at, c.state, NULL, c.counts::text, NULL, c.asked_by, c.job_id, c.created_at
FROM withdrawals.chunks c WHERE c.redrives = :id
ORDER BY 1 NULLS LAST, 2
""")
_NOTES = text("""
SELECT at, actor, action, note FROM withdrawals.audit WHERE dead_letter_id = :id AND note IS NOT NULL ORDER BY id
""")


def _letter(row: Any, **history: Any) -> DeadLetter:
    values = dict(row)
    values["code"] = LetterCode(values["code"])
    values["state"] = LetterState(values["state"])
    values["message"] = values["message"] or LETTER_CODES[values["code"]].sentence
    values["job_ids"] = list(values["job_ids"])
    return DeadLetter(**values, **history)


_ENROLMENT_NOW = text("""
SELECT e.id, e.organisation_id, e.status, e.learner_id, e.pathway_id, p.title AS pathway_title, s.code AS series_code,
    s.title AS series_title, l.external_id AS learner_external_id, l.active AS learner_active, e.enrolled_at,
    e.withdrawn_at, e.withdrawal_reason, e.withdrawn_by
FROM lms.enrolments e JOIN lms.series s ON s.id = e.series_id JOIN lms.learners l ON l.id = e.learner_id
LEFT JOIN lms.pathways p ON p.id = e.pathway_id
WHERE e.id = :id AND e.organisation_id = :organisation_id
""")
_SIBLINGS = text("""
SELECT e.id, s.code AS series_code, s.title AS series_title, e.status
FROM lms.enrolments e JOIN lms.series s ON s.id = e.series_id
WHERE e.learner_id = :learner_id AND e.pathway_id = :pathway_id AND e.id <> :id ORDER BY e.id
""")


def enrolment_now(connection: Connection, organisation_id: int, enrolment_id: int) -> dict[str, Any] | None:
    """An enrolment as the platform has it now, with the learner's others in the same pathway."""
    parameters = {"id": enrolment_id, "organisation_id": organisation_id}
    row = connection.execute(_ENROLMENT_NOW, parameters).mappings().one_or_none()
    if row is None:
        return None
    siblings = connection.execute(
        _SIBLINGS, {"id": row["id"], "learner_id": row["learner_id"], "pathway_id": row["pathway_id"]}
    )
    return {**row, "siblings": [dict(item) for item in siblings.mappings()]}
