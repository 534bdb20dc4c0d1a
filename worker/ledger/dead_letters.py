"""Dead letters, written: open, give up a chunk, lock, try again, settle, close, record."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, Text, bindparam, exists, func, insert, literal, select, text, update
from sqlalchemy.dialects.postgresql import JSONB

from schemas.catalogue import LetterCode, LetterState
from worker.ledger.fragments import LIVE, UNFINISHED, among, sql_list
from worker.models import audit, job_chunks, letter_chunks
from worker.models import dead_letters as letters_table
from worker.one_message import Step
from worker.records import LANE_LETTERS, Chunk
from worker.rules import NEEDS_SUPPORT

_SUPPORT = sql_list(NEEDS_SUPPORT)

_OPEN = text(f"""
INSERT INTO withdrawals.dead_letters (organisation_id, code, enrolment_id, learner_external_id, job_id,
    error_class, message, fingerprint, evidence)
SELECT c.organisation_id, :code, c.enrolment_ids[1], c.learner_external_id, c.job_id,
    :error_class, :message, :fingerprint, :evidence
FROM withdrawals.chunks c WHERE c.id = :chunk_id
-- One live letter per organisation, enrolment, person and code: a later job attaches to it.
ON CONFLICT (organisation_id, enrolment_id, learner_external_id, code)
    WHERE state IN ({sql_list(LIVE)}) AND code <> 'invalid_event'
    DO UPDATE SET message = excluded.message, error_class = excluded.error_class,
        fingerprint = excluded.fingerprint, evidence = dead_letters.evidence || excluded.evidence
RETURNING id
""").bindparams(bindparam("evidence", type_=JSONB))


def open_for_chunk(
    connection: Connection,
    chunk_id: int,
    code: LetterCode,
    *,
    fingerprint: str,
    message: str | None = None,
    error_class: str | None = None,
    tried_for: timedelta | None = None,
) -> int:
    """Open a letter for a chunk of one id or one person, or attach to the live one; its id.

    `message`: what an error said; a letter without one is explained by its code and evidence.
    `tried_for`: the time of the attempts that failed, which becomes evidence.
    """
    values = {"chunk_id": chunk_id, "code": code, "error_class": error_class, "message": message}
    values |= {"evidence": _evidence(tried_for)}
    return int(connection.scalar(_OPEN, {**values, "fingerprint": fingerprint}) or 0)


def _evidence(tried_for: timedelta | None) -> dict[str, Any]:
    return {} if tried_for is None else {"tried_for_seconds": round(tried_for.total_seconds())}


def open_for_event(
    connection: Connection, organisation_id: int, *, message: str, fingerprint: str, evidence: str
) -> int:
    """Open a letter for an event that could not be read; its id. `evidence` is JSON."""
    statement = insert(letters_table).values(
        organisation_id=organisation_id,
        code=LetterCode.INVALID_EVENT,
        message=message,
        fingerprint=fingerprint,
        evidence=json.loads(evidence),
    )
    return connection.execute(statement.returning(letters_table.c.id)).scalar_one()


_FAIL_ID = text("""
-- Close the chunk, if it is still claimed.
WITH failed AS (
    UPDATE withdrawals.job_chunks SET state = 'done', counts = '{"failed": 1}', closed_at = now(), lease_until = NULL
    WHERE id = :id AND state = 'claimed' RETURNING *
)
-- Its one id gets the outcome, which refers to the letter.
INSERT INTO withdrawals.outcomes (job_id, enrolment_id, organisation_id, chunk_id, outcome, dead_letter_id)
SELECT job_id, enrolment_ids[1], organisation_id, id, 'failed', :letter_id FROM failed
""")


def fail(connection: Connection, chunk: Chunk, letter_id: int) -> None:
    """Give a locked chunk up: one id gets the outcome `failed`; a person or a letter chunk is closed whole."""
    closed = {"state": "failed", "dead_letter_id": letter_id, "closed_at": func.now(), "lease_until": None}
    if chunk.letter_id is not None:
        attempt = letter_chunks.c.id == chunk.id
        nothing = {**closed, "counts": {}}
        connection.execute(update(letter_chunks).where(attempt, letter_chunks.c.state == "claimed").values(nothing))
    elif chunk.is_person:
        person = job_chunks.c.id == chunk.id
        counted = {**closed, "counts": func.jsonb_build_object(literal("failed", Text), job_chunks.c.size)}
        connection.execute(update(job_chunks).where(person, job_chunks.c.state == "claimed").values(counted))
    else:
        connection.execute(_FAIL_ID, {"id": chunk.id, "letter_id": letter_id})


_SUPERSEDE_PERSON = text("""
-- The chunk that failed for the person refers to the letter no longer: it is superseded.
WITH healed AS (
    UPDATE withdrawals.job_chunks f SET state = 'superseded', dead_letter_id = NULL
    FROM withdrawals.letter_chunks c WHERE c.id = :id AND f.dead_letter_id = c.letter_id AND f.job_id = c.job_id
)
-- The attempt moves the person from one count of the job to the other.
UPDATE withdrawals.letter_chunks SET state = 'done', counts = '{"failed": -1, "superseded": 1}', closed_at = now(),
    lease_until = NULL
WHERE id = :id AND state = 'claimed'
""")


def supersede_person(connection: Connection, chunk: Chunk) -> None:
    """Close a locked attempt at a person's letter, and the chunk behind it, as superseded."""
    connection.execute(_SUPERSEDE_PERSON, {"id": chunk.id})


def note_failure(
    connection: Connection,
    letter_id: int,
    *,
    error_class: str | None,
    message: str,
    fingerprint: str,
    tried_for: timedelta,
) -> None:
    """Let a locked letter say why its last attempt failed, and for how long it was tried."""
    why = {
        "error_class": error_class,
        "message": message,
        "fingerprint": fingerprint,
        "evidence": letters_table.c.evidence.op("||")(literal(_evidence(tried_for), JSONB)),
    }
    connection.execute(update(letters_table).where(letters_table.c.id == letter_id).values(why))


@dataclass(frozen=True, slots=True)
class LockedLetter:
    """What an act has to know of a letter, read under its lock."""

    id: int
    code: LetterCode
    state: LetterState


def lock_letters(
    connection: Connection,
    organisation_id: int,
    letter_ids: Sequence[int],
    *,
    nowait: bool = False,
    skip_locked: bool = False,
) -> list[LockedLetter]:
    """Lock letters of an organisation in id order; missing ones are left out.

    Whoever holds the organisation's settings does not wait for a worker that is deciding a letter.
    `nowait`: raise the driver's `LockNotAvailable`. `skip_locked`: leave such letters out.
    """
    statement = (
        select(letters_table.c.id, letters_table.c.code, letters_table.c.state)
        .where(among(letters_table.c.id, letter_ids), letters_table.c.organisation_id == organisation_id)
        .order_by(letters_table.c.id)
        .with_for_update(nowait=nowait, skip_locked=skip_locked)
    )
    return [LockedLetter(row.id, LetterCode(row.code), LetterState(row.state)) for row in connection.execute(statement)]


_REDRIVE = text(f"""
-- The letters that have something to try: an outcome that needs support, or a person's chunk that failed whole.
WITH driven AS (
    UPDATE withdrawals.dead_letters d SET state = 'redriven' WHERE d.id = ANY(:ids) AND d.state = 'open' AND (
        EXISTS (SELECT 1 FROM withdrawals.outcomes o WHERE o.dead_letter_id = d.id AND o.outcome IN ({_SUPPORT}))
        OR EXISTS (SELECT 1 FROM withdrawals.job_chunks c WHERE c.dead_letter_id = d.id))
    RETURNING id, evidence
-- Every job that waits for one of them, with the enrolment or the person that it asked for.
), asking AS (
    SELECT o.job_id, o.organisation_id, ARRAY[o.enrolment_id] AS ids, NULL AS person, d.id AS letter, d.evidence
    FROM driven d JOIN withdrawals.outcomes o ON o.dead_letter_id = d.id AND o.outcome IN ({_SUPPORT})
    UNION ALL
    SELECT c.job_id, c.organisation_id, NULL, c.learner_external_id, d.id, d.evidence
    FROM driven d JOIN withdrawals.job_chunks c ON c.dead_letter_id = d.id
)
-- One attempt for each of these jobs. A remedy overrides the pathway that the letter saw, and no other.
INSERT INTO withdrawals.letter_chunks (job_id, organisation_id, number, lane, enrolment_ids, learner_external_id, size,
    state, override, override_pathway, remedy, letter_id, asked_by)
SELECT job_id, organisation_id, 0, {LANE_LETTERS}, ids, person, 1, 'ready', CAST(:remedy AS text) IS NOT NULL,
    CASE WHEN CAST(:remedy AS text) IS NOT NULL THEN CAST(evidence ->> 'pathway_id' AS bigint) END, :remedy, letter,
    :actor
FROM asking ORDER BY letter, job_id
RETURNING letter_id
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
    -- Still being tried; or open again while anything needs support; or resolved.
    SELECT d.id, last.asked_by, coalesce(last.remedy, CASE WHEN last.override THEN 'override' ELSE 'redrive' END)
        AS remedy, CASE
        WHEN EXISTS (SELECT 1 FROM withdrawals.letter_chunks c
            WHERE c.letter_id = d.id AND c.state IN ({sql_list(UNFINISHED)})) THEN 'redriven'
        WHEN EXISTS (SELECT 1 FROM withdrawals.outcomes o WHERE o.dead_letter_id = d.id AND o.outcome IN ({_SUPPORT})
                OFFSET 0)
            OR EXISTS (SELECT 1 FROM withdrawals.job_chunks c WHERE c.dead_letter_id = d.id OFFSET 0)
            THEN 'open' ELSE 'resolved' END AS state
    FROM withdrawals.dead_letters d
    -- Who asked for the last attempt closes the letter. `+ 0`: found by the letter, and not from the end of all chunks.
    JOIN LATERAL (SELECT c.asked_by, c.override, c.remedy FROM withdrawals.letter_chunks c WHERE c.letter_id = d.id
        ORDER BY c.id + 0 DESC LIMIT 1) last ON true
    WHERE d.id = ANY(:ids) AND d.state = 'redriven' OFFSET 0
) s WHERE l.id = s.id
RETURNING l.id, l.state
""")


def settle(connection: Connection, letter_ids: Sequence[int]) -> list[tuple[int, str]]:
    """After an attempt: resolved when no outcome of the letter needs support any more, else open again."""
    return [(row.id, row.state) for row in connection.execute(_SETTLE, {"ids": list(letter_ids)})]


def close(
    connection: Connection, letter_ids: Sequence[int], *, state: LetterState, remedy: str, actor: str
) -> list[int]:
    """Close locked, open letters by a person's decision; those that were closed."""
    still_open = (among(letters_table.c.id, letter_ids), letters_table.c.state == LetterState.OPEN)
    decision = {"state": state, "remedy": remedy, "closed_at": func.now(), "closed_by": actor}
    statement = update(letters_table).where(*still_open).values(decision).returning(letters_table.c.id)
    return list(connection.scalars(statement))


def audit_all(
    connection: Connection, letter_ids: Sequence[int], *, actor: str, action: str, note: str | None, act_id: str
) -> None:
    """One audit row for each letter, with its code and the id of the act."""
    code, act = (literal("code", Text), letters_table.c.code), (literal("act", Text), literal(act_id, Text))
    detail = func.jsonb_build_object(*code, *act)
    rows = select(
        letters_table.c.organisation_id,
        literal(actor),
        literal(action),
        letters_table.c.job_id,
        letters_table.c.id,
        literal(note, Text),
        detail,
    ).where(among(letters_table.c.id, letter_ids))
    columns = ["organisation_id", "actor", "action", "job_id", "dead_letter_id", "note", "detail"]
    connection.execute(insert(audit).from_select(columns, rows.order_by(letters_table.c.id)))


def is_on_record(connection: Connection, letter_ids: Sequence[int], act_id: str) -> bool:
    """Whether this very act on these letters is on record: a repetition after a lost answer finds itself."""
    known = exists().where(among(audit.c.dead_letter_id, letter_ids), audit.c.detail["act"].astext == act_id)
    return bool(connection.scalar(select(known)))


@dataclass(frozen=True, slots=True)
class KnownLearners:
    """One page of an organisation's open letters of unknown learners, by rising id."""

    organisation_id: int
    known: list[int]
    """Letters whose learner exists by now."""
    last: int
    """The page's last letter."""
    is_last_page: bool


# The organisations are found by jumping through the index, and of each one page is looked at: however many letters wait
# for learners that never come, a round costs the same.
_KNOWN_LEARNERS = text("""
WITH RECURSIVE
-- Organisations that have such letters.
waiting AS (
    SELECT min(d.organisation_id) AS id FROM withdrawals.dead_letters d
    WHERE d.code = 'unknown_learner' AND d.state = 'open'
    UNION ALL
    SELECT (SELECT min(d.organisation_id) FROM withdrawals.dead_letters d
        WHERE d.code = 'unknown_learner' AND d.state = 'open' AND d.organisation_id > w.id)
    FROM waiting w WHERE w.id IS NOT NULL
-- How many letters of each are looked at.
), share AS (
    SELECT greatest(CAST(:most AS bigint) / greatest(count(id), 1), 20) AS letters FROM waiting
)
SELECT w.id AS organisation_id, page.known, page.last, page.found < share.letters AS is_last_page
FROM waiting w CROSS JOIN share
LEFT JOIN unnest(CAST(:organisations AS bigint[]), CAST(:places AS bigint[])) AS place(organisation_id, after)
    ON place.organisation_id = w.id
CROSS JOIN LATERAL (
    SELECT count(*) AS found, max(d.id) AS last, coalesce(array_agg(d.id ORDER BY d.id) FILTER (WHERE EXISTS (
            SELECT 1 FROM lms.learners l
            WHERE l.organisation_id = w.id AND l.external_id = d.learner_external_id)
        -- One whose attempt has used up its tries since is left to a person, as any other that was given up.
        AND NOT EXISTS (
            SELECT 1 FROM withdrawals.letter_chunks c JOIN withdrawals.attempts a ON a.chunk_id = c.id
            WHERE c.letter_id = d.id AND c.state = 'failed')), '{}') AS known
    FROM (SELECT d.id, d.learner_external_id FROM withdrawals.dead_letters d
        WHERE d.organisation_id = w.id AND d.code = 'unknown_learner' AND d.state = 'open'
            AND d.id > coalesce(place.after, 0)
        ORDER BY d.id LIMIT share.letters) d) page
WHERE w.id IS NOT NULL
ORDER BY w.id
""")


ANY_UNKNOWN_LEARNER = Step(
    "unknown_learners",
    "SELECT EXISTS (SELECT FROM withdrawals.dead_letters WHERE code = 'unknown_learner' AND state = 'open')",
)
"""Whether a letter waits for its learner, who may be there by now."""


def find_known_learners(connection: Connection, places: Mapping[int, int], *, most: int = 2000) -> list[KnownLearners]:
    """Open `unknown_learner` letters whose learner exists by now, one page of each organisation.

    `places`: by organisation, the letter after which its page begins. `most`: letters looked at, over all of them.
    """
    values = {"organisations": list(places), "places": list(places.values()), "most": most}
    return [
        KnownLearners(row.organisation_id, list(row.known), row.last or 0, row.is_last_page)
        for row in connection.execute(_KNOWN_LEARNERS, values)
    ]
