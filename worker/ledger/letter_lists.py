"""Dead letters as people read them: with their jobs, attempts, notes, and the enrolment as it is now."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Select, any_, bindparam, func, select, text, union

from schemas.catalogue import LETTER_CODES, LetterCode, LetterState
from worker.ids import LARGEST
from worker.ledger.fragments import one_of
from worker.ledger.protections import find_last
from worker.models import (
    Ids,
    audit,
    dead_letters,
    enrolments,
    job_chunks,
    learners,
    letter_chunks,
    outcomes,
    pathways,
    series,
)
from worker.records import DeadLetter
from worker.rules import NEEDS_SUPPORT


def _select_letters() -> Select[*tuple[Any, ...]]:
    """Letters with their jobs, and how many outcomes and persons still need support."""
    by_outcome = select(outcomes.c.job_id).where(outcomes.c.dead_letter_id == dead_letters.c.id)
    by_chunk = select(job_chunks.c.job_id).where(job_chunks.c.dead_letter_id == dead_letters.c.id)
    by_attempt = select(letter_chunks.c.job_id).where(letter_chunks.c.letter_id == dead_letters.c.id)
    referring = (query.correlate(dead_letters) for query in (by_outcome, by_chunk, by_attempt))
    job_ids = union(*referring).order_by("job_id")
    needing = (
        select(func.count())
        .select_from(outcomes)
        .where(outcomes.c.dead_letter_id == dead_letters.c.id, one_of(outcomes.c.outcome, sorted(NEEDS_SUPPORT)))
        .scalar_subquery()
    )
    persons = (
        select(func.count())
        .select_from(job_chunks)
        .where(job_chunks.c.dead_letter_id == dead_letters.c.id)
        .scalar_subquery()
    )
    return select(
        dead_letters.c.id,
        dead_letters.c.organisation_id,
        dead_letters.c.code,
        dead_letters.c.state,
        dead_letters.c.enrolment_id,
        dead_letters.c.learner_external_id,
        dead_letters.c.job_id,
        dead_letters.c.message,
        dead_letters.c.error_class,
        dead_letters.c.fingerprint,
        dead_letters.c.evidence,
        dead_letters.c.assignee,
        dead_letters.c.opened_at,
        dead_letters.c.closed_at,
        dead_letters.c.closed_by,
        dead_letters.c.remedy,
        dead_letters.c.evidence_dropped_at,
        func.now().label("read_at"),
        func.array(job_ids.scalar_subquery()).label("job_ids"),
        (needing + persons).label("count"),
    ).where(dead_letters.c.organisation_id == bindparam("in_organisation"))


# Built once: composing them for every page cost more than the database's answer.
_LETTERS = _select_letters()
_FIND_LETTERS = _LETTERS.where(dead_letters.c.id == any_(bindparam("ids", type_=Ids)))
_FIND_LETTER = _LETTERS.where(dead_letters.c.id == bindparam("letter_id"))


def find_letters(connection: Connection, organisation_id: int, letter_ids: Sequence[int]) -> list[DeadLetter]:
    """Letters of an organisation by id, in the order given, without their history; missing ones are left out."""
    wanted = {"in_organisation": organisation_id, "ids": [row_id for row_id in letter_ids if row_id <= LARGEST]}
    found = {row["id"]: _letter(row) for row in connection.execute(_FIND_LETTERS, wanted).mappings()}
    return [found[letter_id] for letter_id in letter_ids if letter_id in found]


def find_letter(connection: Connection, organisation_id: int, letter_id: int) -> DeadLetter | None:
    """One letter, with its attempts and notes."""
    wanted = {"in_organisation": organisation_id, "letter_id": letter_id}
    row = connection.execute(_FIND_LETTER, wanted).mappings().one_or_none()
    if row is None:
        return None
    notes = (
        select(audit.c.at, audit.c.actor, audit.c.action, audit.c.note)
        .where(audit.c.dead_letter_id == letter_id, audit.c.note.is_not(None))
        .order_by(audit.c.id)
    )
    return _letter(
        row,
        attempts=[dict(item) for item in connection.execute(_ATTEMPTS, {"id": letter_id}).mappings()],
        notes=[dict(item) for item in connection.execute(notes).mappings()],
    )


def _letter(row: Any, **history: Any) -> DeadLetter:
    values = dict(row)
    values["code"] = LetterCode(values["code"])
    values["state"] = LetterState(values["state"])
    values["message"] = values["message"] or LETTER_CODES[values["code"]].sentence
    values["job_ids"] = list(values["job_ids"])
    return DeadLetter(**values, **history)


_ATTEMPTS = text("""
-- Where the letter comes from: the chunks of its outcomes, chunks that it closed whole, and every attempt at it.
WITH RECURSIVE roots AS (
    SELECT chunk_id AS id FROM withdrawals.outcomes WHERE dead_letter_id = :id
    UNION SELECT id FROM withdrawals.job_chunks WHERE dead_letter_id = :id
    UNION SELECT id FROM withdrawals.letter_chunks WHERE letter_id = :id
-- A chunk may be a half of another: what failed or vanished before the split belongs to the story too.
), line AS (
    SELECT id FROM roots
    UNION SELECT c.parent_id FROM line JOIN withdrawals.chunks c ON c.id = line.id WHERE c.parent_id IS NOT NULL
)
SELECT a.started_at, a.ended_at, a.result, a.error_class, a.message, a.fingerprint, NULL AS asked_by, NULL AS job_id,
    a.started_at AS asked_at
FROM line JOIN withdrawals.attempts a ON a.chunk_id = line.id
UNION ALL
SELECT c.claimed_at, c.closed_at, c.state, NULL, c.counts::text, NULL, c.asked_by, c.job_id, c.created_at
FROM withdrawals.letter_chunks c WHERE c.letter_id = :id
ORDER BY 1 NULLS LAST, 2
""")


def find_enrolment(connection: Connection, organisation_id: int, enrolment_id: int) -> dict[str, Any] | None:
    """An enrolment as the platform has it now, with the learner's others in the same pathway as `siblings`.

    `protection`: `id`, `kind` and `until` of a live one about it or its learner; None: there is none.
    """
    statement = (
        select(
            enrolments.c.id,
            enrolments.c.organisation_id,
            enrolments.c.status,
            enrolments.c.learner_id,
            enrolments.c.pathway_id,
            pathways.c.title.label("pathway_title"),
            series.c.code.label("series_code"),
            series.c.title.label("series_title"),
            learners.c.external_id.label("learner_external_id"),
            learners.c.active.label("learner_active"),
            enrolments.c.enrolled_at,
            enrolments.c.withdrawn_at,
            enrolments.c.withdrawal_reason,
            enrolments.c.withdrawn_by,
        )
        .join(series, series.c.id == enrolments.c.series_id)
        .join(learners, learners.c.id == enrolments.c.learner_id)
        .outerjoin(pathways, pathways.c.id == enrolments.c.pathway_id)
        .where(enrolments.c.id == enrolment_id, enrolments.c.organisation_id == organisation_id)
    )
    row = connection.execute(statement).mappings().one_or_none()
    if row is None:
        return None
    siblings = (
        select(
            enrolments.c.id,
            series.c.code.label("series_code"),
            series.c.title.label("series_title"),
            enrolments.c.status,
        )
        .join(series, series.c.id == enrolments.c.series_id)
        .where(
            enrolments.c.learner_id == row["learner_id"],
            enrolments.c.pathway_id == row["pathway_id"],
            enrolments.c.id != row["id"],
        )
        .order_by(enrolments.c.id)
    )
    found = [dict(item) for item in connection.execute(siblings).mappings()] if row["pathway_id"] else []
    live = find_last(connection, organisation_id, enrolment_id)
    protection = live.model_dump(mode="json", include={"id", "kind", "until"}) if live else None
    return {**row, "siblings": found, "protection": protection}
