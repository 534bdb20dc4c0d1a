"""What a job would do: the rules of `decide` over a selection, counted; nothing is locked or written."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, text

from worker.ledger import jobs
from worker.ledger.decide import RULES
from worker.rules import ENDED, WITHDRAWN

SAMPLES = 5
"""Enrolments shown for each outcome."""


@dataclass(frozen=True, slots=True)
class Preview:
    """The outcomes that a selection would have now, some of its enrolments for each, and its distinct learners."""

    outcomes: dict[str, int]
    samples: dict[str, list[int]]
    learners: int

    @property
    def accepted(self) -> int:
        return sum(self.outcomes.values())


# Grouped twice in the one pass: the learners' number needs no second look at every id.
_COUNT = """
WITH ids AS ({ids}), verdicts AS (
    SELECT a.id, e.learner_id, {rules} AS outcome
    FROM (SELECT id, false AS superseded, false AS override,
        CAST(NULL AS bigint) AS override_pathway FROM ids) a
    LEFT JOIN lms.enrolments e ON e.id = a.id AND e.organisation_id = :organisation_id
), groups AS MATERIALIZED (
    SELECT outcome, learner_id, grouping(learner_id) = 1 AS is_outcome, count(*) AS n,
        (array_agg(id))[1:{samples}] AS sample
    FROM verdicts GROUP BY GROUPING SETS ((outcome), (learner_id))
)
SELECT outcome, n, sample,
    (SELECT count(*) FROM groups WHERE NOT is_outcome AND learner_id IS NOT NULL) AS learners
FROM groups WHERE is_outcome ORDER BY outcome
"""


def _count(ids: str) -> Any:
    return text(_COUNT.format(ids=ids, rules=RULES, samples=SAMPLES))


_BY_LIST = _count("SELECT DISTINCT unnest(CAST(:ids AS bigint[])) AS id")
_BY_STAGED = _count("SELECT DISTINCT enrolment_id AS id FROM pg_temp.staged")
_BY_FILTER = _count(jobs.FILTERED)
_BY_JOB = _count("""SELECT unnest(c.enrolment_ids) AS id FROM withdrawals.chunks c
    WHERE c.job_id = :job_id AND c.redrives IS NULL AND c.state IN ('waiting', 'ready', 'claimed')""")
_BY_PERSON = _count(f"""SELECT p.id FROM lms.learners l JOIN lms.enrolments p ON p.learner_id = l.id
    AND p.organisation_id = l.organisation_id AND p.status NOT IN ({", ".join(f"'{s}'" for s in (WITHDRAWN, *ENDED))})
    WHERE l.organisation_id = :organisation_id AND l.external_id = :external_id""")
_KNOWN = text("SELECT 1 FROM lms.learners WHERE organisation_id = :organisation_id AND external_id = :external_id")


def by_list(connection: Connection, organisation_id: int, ids: Sequence[int]) -> Preview:
    """A job over these ids."""
    return _preview(connection, _BY_LIST, {"organisation_id": organisation_id, "ids": list(ids)})


def by_staged(connection: Connection, organisation_id: int) -> Preview:
    """A job over the staged ids."""
    return _preview(connection, _BY_STAGED, {"organisation_id": organisation_id})


def by_filter(connection: Connection, organisation_id: int, conditions: dict[str, Any]) -> Preview:
    """A job over what this filter finds."""
    return _preview(connection, _BY_FILTER, {"organisation_id": organisation_id, **conditions})


def by_person(connection: Connection, organisation_id: int, external_id: str) -> Preview:
    """A job over a learner; one whom the platform does not know goes to support as `failed`."""
    values = {"organisation_id": organisation_id, "external_id": external_id}
    found = _preview(connection, _BY_PERSON, values)
    known = connection.execute(_KNOWN, values).one_or_none() is not None
    return Preview(found.outcomes if known else {"failed": 1}, found.samples, 1)


def by_job(connection: Connection, organisation_id: int, job_id: int) -> Preview:
    """What of a job over ids is not decided yet."""
    return _preview(connection, _BY_JOB, {"organisation_id": organisation_id, "job_id": job_id})


def _preview(connection: Connection, statement: Any, values: dict[str, Any]) -> Preview:
    rows = connection.execute(statement, values).all()
    return Preview(
        {row.outcome: int(row.n) for row in rows},
        {row.outcome: sorted(row.sample) for row in rows},
        int(rows[0].learners) if rows else 0,
    )


_NAMES = text("""
SELECT e.id, s.title AS series_title, p.title AS pathway_title FROM lms.enrolments e
JOIN lms.series s ON s.id = e.series_id LEFT JOIN lms.pathways p ON p.id = e.pathway_id
WHERE e.id = ANY(:ids) AND e.organisation_id = :organisation_id
""")


def names(connection: Connection, organisation_id: int, ids: Sequence[int]) -> dict[int, tuple[str, str | None]]:
    """Titles of the Series and the pathway, if any, of enrolments of an organisation."""
    rows = connection.execute(_NAMES, {"organisation_id": organisation_id, "ids": list(ids)})
    return {row.id: (row.series_title, row.pathway_title) for row in rows}
