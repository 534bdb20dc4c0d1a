"""Runs over many letters: freeze what matches, drive it in batches, see what became of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

from schemas.dead_letters import LetterFilter
from worker.ledger.dead_letters import FILTERED, by_filter
from worker.ledger.decide import RULES
from worker.rules import ACTIVE

_MOST_STATES = ", ".join(f"'{status}'" for status in ACTIVE)


@dataclass(frozen=True, slots=True)
class Run:
    """A run with its counts."""

    id: int
    organisation_id: int
    act: str
    filter: dict[str, Any]
    actor: str
    note: str | None
    rate: int
    canary: int
    state: str
    because: str | None
    letters: int
    waiting: int
    in_flight: int
    resolved: int
    came_back: int
    held_back: int
    passed: int
    created_at: datetime
    finished_at: datetime | None


_INSERT = text("""
INSERT INTO withdrawals.runs (organisation_id, act, filter, actor, note, rate, canary, state)
VALUES (:organisation_id, :act, CAST(:filter AS jsonb), :actor, :note, :rate, :canary, 'canary')
ON CONFLICT (organisation_id, md5(filter::text)) WHERE finished_at IS NULL DO NOTHING RETURNING id
""")
_LIVE = text("""
SELECT id FROM withdrawals.runs WHERE organisation_id = :organisation_id AND finished_at IS NULL
    AND filter = CAST(:filter AS jsonb)
""")


def insert(connection: Connection, **values: Any) -> int | None:
    """A new run; None when one over the same filter is under way."""
    found = connection.scalar(_INSERT, values)
    return None if found is None else int(found)


def live_over(connection: Connection, organisation_id: int, filter_json: str) -> int | None:
    """The run that is under way over a filter."""
    found = connection.scalar(_LIVE, {"organisation_id": organisation_id, "filter": filter_json})
    return None if found is None else int(found)


_FREEZE = text(f"""
WITH matching AS (
    SELECT d.id, d.fingerprint, row_number() OVER (PARTITION BY d.fingerprint ORDER BY d.id) AS place
    FROM withdrawals.dead_letters d WHERE {FILTERED} AND d.state = 'open' AND (:any_code OR d.code = ANY(:codes))
), frozen AS (
    INSERT INTO withdrawals.run_letters (run_id, dead_letter_id, fingerprint, canary)
    SELECT :run_id, id, fingerprint, place <= :canary FROM matching RETURNING canary
)
UPDATE withdrawals.runs SET letters = (SELECT count(*) FROM frozen),
    state = CASE WHEN EXISTS (SELECT 1 FROM frozen WHERE canary) THEN 'canary' ELSE 'running' END
WHERE id = :run_id RETURNING letters
""")


def freeze(
    connection: Connection,
    organisation_id: int,
    run_id: int,
    wanted: LetterFilter,
    *,
    canary: int,
    codes: Sequence[str] | None,
) -> int:
    """Put every open letter that matches (of these codes alone) on the run's list; how many."""
    values = {**by_filter(organisation_id, wanted), "run_id": run_id, "canary": canary}
    found = connection.scalar(_FREEZE, {**values, "any_code": codes is None, "codes": list(codes or [])})
    return int(found or 0)


_COUNTS = """
SELECT r.id, r.organisation_id, r.act, r.filter, r.actor, r.note, r.rate, r.canary, r.state, r.because, r.letters,
    r.created_at, r.finished_at, c.waiting, c.in_flight, c.resolved, c.came_back, c.held_back, c.passed
FROM withdrawals.runs r CROSS JOIN LATERAL (
    SELECT count(*) FILTER (WHERE driven_at IS NULL AND result IS NULL) AS waiting,
        count(*) FILTER (WHERE driven_at IS NOT NULL AND result IS NULL) AS in_flight,
        count(*) FILTER (WHERE result IN ('resolved', 'discarded')) AS resolved,
        count(*) FILTER (WHERE result = 'open') AS came_back,
        count(*) FILTER (WHERE result = 'held_back') AS held_back,
        count(*) FILTER (WHERE result = 'passed') AS passed
    FROM withdrawals.run_letters WHERE run_id = r.id) c
WHERE r.organisation_id = :organisation_id
"""
_ONE = text(f"{_COUNTS} AND r.id = :id")
_LIST = text(f"{_COUNTS} AND (CAST(:before AS bigint) IS NULL OR r.id < :before) ORDER BY r.id DESC LIMIT :limit")


def read(connection: Connection, organisation_id: int, run_id: int) -> Run | None:
    """One run of an organisation."""
    row = connection.execute(_ONE, {"organisation_id": organisation_id, "id": run_id}).mappings().one_or_none()
    return Run(**row) if row else None


def list_runs(connection: Connection, organisation_id: int, *, before: int | None = None, limit: int = 50) -> list[Run]:
    """Runs of an organisation, newest first."""
    parameters = {"organisation_id": organisation_id, "before": before, "limit": limit}
    return [Run(**row) for row in connection.execute(_LIST, parameters).mappings()]


_STOP = text("""
UPDATE withdrawals.runs SET state = 'stopped', finished_at = now()
WHERE id = :id AND organisation_id = :organisation_id AND finished_at IS NULL
""")


def stop(connection: Connection, organisation_id: int, run_id: int) -> bool:
    """End a run that is under way; what is in flight comes back by itself."""
    return connection.execute(_STOP, {"organisation_id": organisation_id, "id": run_id}).rowcount == 1


@dataclass(frozen=True, slots=True)
class Step:
    """A run that is locked for one step."""

    id: int
    organisation_id: int
    act: str
    actor: str
    note: str | None
    state: str
    rate: int
    allowance: int


_DUE = text("SELECT id, organisation_id FROM withdrawals.runs WHERE finished_at IS NULL ORDER BY id")
_LOCK = text("""
SELECT id, organisation_id, act, actor, note, state, rate,
    floor(least(extract(epoch FROM clock_timestamp() - stepped_at) * rate, rate, 1000))::integer AS allowance
FROM withdrawals.runs WHERE id = :id AND finished_at IS NULL FOR UPDATE SKIP LOCKED
""")


def under_way(connection: Connection) -> list[tuple[int, int]]:
    """Runs that are not finished: id and organisation."""
    return [(row.id, row.organisation_id) for row in connection.execute(_DUE)]


def lock(connection: Connection, run_id: int) -> Step | None:
    """Lock a run for a step, with how many letters its rate allows now; None: finished, or another has it."""
    row = connection.execute(_LOCK, {"id": run_id}).mappings().one_or_none()
    return Step(**row) if row else None


_SEE = text("""
UPDATE withdrawals.run_letters r SET result = d.state, ended_at = clock_timestamp()
FROM withdrawals.dead_letters d
WHERE r.run_id = :run_id AND r.driven_at IS NOT NULL AND r.result IS NULL
    AND d.id = r.dead_letter_id AND d.state <> 'redriven'
""")


def see_results(connection: Connection, run_id: int) -> None:
    """Record what became of driven letters whose attempt is over."""
    connection.execute(_SEE, {"run_id": run_id})


_SEE_ENDED = text("""
UPDATE withdrawals.run_letters r SET result = d.state, ended_at = clock_timestamp()
FROM withdrawals.dead_letters d, withdrawals.runs ended
WHERE ended.id = r.run_id AND ended.finished_at IS NOT NULL AND r.driven_at IS NOT NULL AND r.result IS NULL
    AND d.id = r.dead_letter_id AND d.state <> 'redriven'
""")


def see_results_of_ended(connection: Connection) -> None:
    """Record what became of letters that were in flight when their run was stopped or halted."""
    connection.execute(_SEE_ENDED)


_HOLD_BACK = text("""
WITH bad AS (
    SELECT DISTINCT fingerprint FROM withdrawals.run_letters WHERE run_id = :run_id AND canary AND result = 'open'
)
UPDATE withdrawals.run_letters r SET result = 'held_back', ended_at = clock_timestamp()
FROM bad WHERE r.run_id = :run_id AND r.fingerprint = bad.fingerprint AND r.driven_at IS NULL AND r.result IS NULL
""")
_CANARIES_OUT = text("""
SELECT EXISTS (SELECT 1 FROM withdrawals.run_letters WHERE run_id = :run_id AND canary AND result IS NULL)
""")
_GO = text("UPDATE withdrawals.runs SET state = 'running' WHERE id = :run_id AND state = 'canary'")


def end_canary(connection: Connection, run_id: int) -> bool:
    """Once every canary has come back: hold the rest of each fingerprint back whose canary is open again, and go on."""
    if connection.scalar(_CANARIES_OUT, {"run_id": run_id}):
        return False
    connection.execute(_HOLD_BACK, {"run_id": run_id})
    connection.execute(_GO, {"run_id": run_id})
    return True


_RECENT = text("""
SELECT count(*) AS ended, count(*) FILTER (WHERE result = 'open') AS open FROM (
    SELECT result FROM withdrawals.run_letters WHERE run_id = :run_id AND driven_at IS NOT NULL AND NOT canary
        AND result IS NOT NULL ORDER BY ended_at DESC LIMIT :window) recent
""")


def recent(connection: Connection, run_id: int, *, window: int) -> tuple[int, int]:
    """Of the last letters that ended, canaries apart: how many there are, and how many are open again."""
    row = connection.execute(_RECENT, {"run_id": run_id, "window": window}).one()
    return int(row.ended), int(row.open)


_NEXT = text("""
SELECT dead_letter_id FROM withdrawals.run_letters
WHERE run_id = :run_id AND driven_at IS NULL AND result IS NULL AND (canary OR NOT :canaries)
ORDER BY dead_letter_id LIMIT :most
""")


def next_letters(connection: Connection, run_id: int, *, canaries: bool, most: int) -> list[int]:
    """Letters to drive next, by id; `canaries` alone, or all."""
    return list(connection.scalars(_NEXT, {"run_id": run_id, "canaries": canaries, "most": most}))


_DRIVEN = text("""
UPDATE withdrawals.run_letters SET driven_at = clock_timestamp()
WHERE run_id = :run_id AND dead_letter_id = ANY(:driven)
""")
_PASSED = text("""
UPDATE withdrawals.run_letters SET result = 'passed', ended_at = clock_timestamp()
WHERE run_id = :run_id AND dead_letter_id = ANY(:passed)
""")
_STEPPED = text("UPDATE withdrawals.runs SET stepped_at = clock_timestamp() WHERE id = :run_id")


def record(connection: Connection, run_id: int, *, driven: Sequence[int], passed: Sequence[int]) -> None:
    """Record letters as driven, or as passed over because somebody had acted on them; the rate counts on from now."""
    connection.execute(_DRIVEN, {"run_id": run_id, "driven": list(driven)})
    connection.execute(_PASSED, {"run_id": run_id, "passed": list(passed)})
    connection.execute(_STEPPED, {"run_id": run_id})


_FINISH = text("""
UPDATE withdrawals.runs r SET state = 'done', finished_at = now() WHERE r.id = :run_id AND r.finished_at IS NULL
    AND NOT EXISTS (SELECT 1 FROM withdrawals.run_letters l WHERE l.run_id = r.id AND l.result IS NULL)
""")
_HALT = text("""
UPDATE withdrawals.runs SET state = 'halted', because = :because, finished_at = now()
WHERE id = :run_id AND finished_at IS NULL
""")


def finish(connection: Connection, run_id: int) -> bool:
    """End a run whose letters all have a result."""
    return connection.execute(_FINISH, {"run_id": run_id}).rowcount == 1


def halt(connection: Connection, run_id: int, because: str) -> None:
    """End a run that does more harm than good."""
    connection.execute(_HALT, {"run_id": run_id, "because": because})


_SIBLINGS = text(f"""
SELECT d.id AS letter_id, d.job_id, j.reason, e.pathway_id, array_agg(s.id ORDER BY s.id) AS ids
FROM withdrawals.dead_letters d
JOIN withdrawals.jobs j ON j.id = d.job_id
JOIN lms.enrolments e ON e.id = d.enrolment_id AND e.organisation_id = d.organisation_id
JOIN lms.enrolments s ON s.learner_id = e.learner_id AND s.organisation_id = e.organisation_id
    AND s.pathway_id = e.pathway_id AND s.id <> e.id
    AND s.pathway_id = coalesce(CAST(d.evidence ->> 'pathway_id' AS bigint), s.pathway_id)
    AND s.status IN ({_MOST_STATES})
WHERE d.id = ANY(:ids) GROUP BY d.id, d.job_id, j.reason, e.pathway_id ORDER BY d.id
""")


@dataclass(frozen=True, slots=True)
class Siblings:
    """The learner's other active enrolments in the pathway of a letter's enrolment."""

    letter_id: int
    job_id: int
    reason: str
    pathway_id: int
    ids: list[int]


def siblings(connection: Connection, letter_ids: Sequence[int]) -> list[Siblings]:
    """What a cascade of these letters withdraws as well; letters without any are left out."""
    return [Siblings(**row) for row in connection.execute(_SIBLINGS, {"ids": list(letter_ids)}).mappings()]


_LEARNERS = text("""
SELECT count(DISTINCT coalesce(e.learner_id::text, d.learner_external_id)) FROM withdrawals.dead_letters d
LEFT JOIN lms.enrolments e ON e.id = d.enrolment_id AND e.organisation_id = d.organisation_id
WHERE d.id = ANY(:ids) AND d.organisation_id = :organisation_id
    AND (e.id IS NOT NULL OR d.learner_external_id IS NOT NULL)
""")


def learners(connection: Connection, organisation_id: int, letter_ids: Sequence[int]) -> int:
    """How many learners these letters of an organisation are about."""
    return int(connection.scalar(_LEARNERS, {"ids": list(letter_ids), "organisation_id": organisation_id}) or 0)


_PREVIEW = text(f"""
WITH matching AS (
    SELECT d.id, d.code, d.enrolment_id, d.learner_external_id, d.organisation_id, :override AS override,
        CAST(d.evidence ->> 'pathway_id' AS bigint) AS override_pathway,
        coalesce((SELECT bool_and(j.epoch IS NOT NULL AND p.epoch IS NOT NULL AND j.epoch <> p.epoch)
            FROM withdrawals.jobs j LEFT JOIN withdrawals.persons p ON p.organisation_id = j.organisation_id
                AND p.external_id = j.learner_external_id
            WHERE j.id = d.job_id AND j.epoch IS NOT NULL), false) AS superseded
    FROM withdrawals.dead_letters d WHERE {FILTERED} AND d.state = 'open' AND (:any_code OR d.code = ANY(:codes))
), verdicts AS (
    SELECT a.id, CASE
        WHEN a.code = 'invalid_event' THEN 'nothing_to_try'
        WHEN a.enrolment_id IS NULL THEN CASE
            WHEN a.superseded THEN 'superseded'
            WHEN EXISTS (SELECT 1 FROM lms.learners l WHERE l.organisation_id = a.organisation_id
                AND l.external_id = a.learner_external_id) THEN 'withdrawn' ELSE 'not_known' END
        ELSE {RULES} END AS outcome
    FROM matching a LEFT JOIN lms.enrolments e ON e.id = a.enrolment_id AND e.organisation_id = a.organisation_id
)
SELECT outcome, count(*) AS letters, (array_agg(id ORDER BY id))[1:5] AS sample FROM verdicts GROUP BY outcome
""")
_ALSO = text(f"""
SELECT count(DISTINCT s.id) FROM withdrawals.dead_letters d
JOIN lms.enrolments e ON e.id = d.enrolment_id AND e.organisation_id = d.organisation_id
JOIN lms.enrolments s ON s.learner_id = e.learner_id AND s.organisation_id = e.organisation_id
    AND s.pathway_id = e.pathway_id AND s.id <> e.id
    AND s.pathway_id = coalesce(CAST(d.evidence ->> 'pathway_id' AS bigint), s.pathway_id)
    AND s.status IN ({_MOST_STATES})
WHERE {FILTERED} AND d.state = 'open' AND d.code = 'pathway_owned' AND NOT EXISTS (
    SELECT 1 FROM withdrawals.dead_letters o WHERE o.enrolment_id = s.id AND o.organisation_id = d.organisation_id
        AND o.state = 'open' AND o.code = 'pathway_owned')
""")


def preview(
    connection: Connection,
    organisation_id: int,
    wanted: LetterFilter,
    *,
    override: bool,
    codes: Sequence[str] | None,
) -> list[tuple[str, int, list[int]]]:
    """What attempts at all letters that match would find now: outcome, letters, a few of their ids."""
    values = {**by_filter(organisation_id, wanted), "override": override}
    rows = connection.execute(_PREVIEW, {**values, "any_code": codes is None, "codes": list(codes or [])})
    return [(row.outcome, int(row.letters), list(row.sample)) for row in rows]


def count_siblings(connection: Connection, organisation_id: int, wanted: LetterFilter) -> int:
    """How many enrolments a cascade of all that match would withdraw beside those of the letters."""
    return int(connection.scalar(_ALSO, by_filter(organisation_id, wanted)) or 0)


_TO_GO_THROUGH = text("""
SELECT organisation_id FROM withdrawals.organisation_settings WHERE passed_at < now() - interval '1 day'
ORDER BY passed_at
""")
_PASS = text("""
UPDATE withdrawals.organisation_settings SET passed_at = now()
WHERE organisation_id = :organisation_id AND passed_at < now() - interval '1 day'
""")


def to_go_through(connection: Connection) -> list[int]:
    """Organisations whose letters were not gone through for a day."""
    return list(connection.scalars(_TO_GO_THROUGH))


def take_daily_turn(connection: Connection, organisation_id: int) -> bool:
    """Mark an organisation as gone through today; False when somebody was faster."""
    return connection.execute(_PASS, {"organisation_id": organisation_id}).rowcount == 1
