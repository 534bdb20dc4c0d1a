"""What there is to tell, a query for each kind: its organisation, its subject, when it happened, and a few facts.

Each query reads little: what is in a passing state, or what has happened since a time. The facts are codes and counts:
what they become is sent to other systems, so there are no names of learners in them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Select, Text, cast, column, func, literal, select, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.sql.selectable import TextualSelect

from schemas.catalogue import JobState, LetterCode
from worker.ledger.fragments import LIVE, among, one_of, sql_list
from worker.ledger.letter_filter import Targets
from worker.models import Instant, jobs, limit_proposals, runs


@dataclass(frozen=True, slots=True)
class Scan:
    """What a query may need to know."""

    organisations: Sequence[int]
    """Those where somebody wants to be told."""
    since: datetime
    """What happened before was found by an earlier look."""
    targets: Targets
    """By code: how long a dead letter may stay open."""


Find = Callable[[Scan], Select[Any] | TextualSelect]
"""Makes the query of a kind. Its columns: `organisation_id`, `subject`, `at`, `detail`."""


def find_held_jobs(scan: Scan) -> Select[Any]:
    """Jobs that wait for a second person."""
    at = func.greatest(jobs.c.created_at, jobs.c.effective_at)
    facts = {"reason": jobs.c.reason, "learners": jobs.c.learners}
    held = among(jobs.c.organisation_id, scan.organisations), one_of(jobs.c.state, [JobState.HELD])
    return _found(jobs.c.organisation_id, jobs.c.id, at, facts).where(*held)


def find_proposed_limits(scan: Scan) -> Select[Any]:
    """Limits of the brake that wait for a second person."""
    proposed = limit_proposals.c
    waits = proposed.state == "pending", proposed.expires_at > func.now()
    own = among(proposed.organisation_id, scan.organisations)
    return _found(proposed.organisation_id, proposed.id, proposed.proposed_at, {}).where(own, *waits)


# For each organisation and code a range of the index by code and age. A protected enrolment waits for nobody until the
# protection that its letter saw has ended, which is not in the index: of that code all live letters are looked at.
_LETTERS = """
SELECT l.organisation_id, CAST(l.id AS text) AS subject, l.at, jsonb_build_object('code', l.code) AS detail
FROM unnest(CAST(:organisations AS bigint[])) AS o(id)
CROSS JOIN unnest(CAST(:codes AS text[]), CAST(:allowed AS interval[])) AS s(code, allowed)
CROSS JOIN LATERAL (
    SELECT d.organisation_id, d.id, d.code, greatest(d.opened_at, {free_since}) + s.allowed AS at
    FROM withdrawals.dead_letters d
    WHERE d.organisation_id = o.id AND d.code = s.code AND d.state IN ({live})
        AND d.opened_at >= CASE WHEN s.code = '{protected}' THEN '-infinity'
            ELSE CAST(:since AS timestamptz) - s.allowed END
        AND d.opened_at < {before}
    OFFSET 0) l
WHERE l.at >= :since AND l.at < {before_all}
"""
_OPENED = _LETTERS.format(
    live=sql_list(LIVE), protected=LetterCode.PROTECTED, free_since="NULL", before="'infinity'", before_all="'infinity'"
)
_OVERDUE = _LETTERS.format(
    live=sql_list(LIVE),
    protected=LetterCode.PROTECTED,
    free_since=f"""CASE WHEN d.code = '{LetterCode.PROTECTED}'
        THEN coalesce(CAST(d.evidence ->> 'protected_until' AS timestamptz), 'infinity') END""",
    before="now() - s.allowed",
    before_all="now()",
)


def find_opened_letters(scan: Scan) -> TextualSelect:
    """Live dead letters that were opened since then."""
    return _letters(_OPENED, scan, dict.fromkeys(map(str, LetterCode), timedelta()))


def find_overdue_letters(scan: Scan) -> TextualSelect:
    """Live dead letters that have become overdue since then (`letter_filter.is_overdue`)."""
    return _letters(_OVERDUE, scan, scan.targets)


def find_halted_runs(scan: Scan) -> Select[Any]:
    """Runs over dead letters that have stopped by themselves since then."""
    recent = runs.c.state == "halted", runs.c.finished_at >= scan.since
    facts = {"act": runs.c.act, "letters": runs.c.letters}
    own = among(runs.c.organisation_id, scan.organisations)
    return _found(runs.c.organisation_id, runs.c.id, runs.c.finished_at, facts).where(own, *recent)


def _letters(statement: str, scan: Scan, allowed: Targets) -> TextualSelect:
    values = {"organisations": list(scan.organisations), "since": scan.since}
    values |= {"codes": list(allowed), "allowed": list(allowed.values())}
    columns = (column("organisation_id", BigInteger), column("subject", Text), column("at", Instant))
    return text(statement).bindparams(**values).columns(*columns, column("detail", JSONB))


def _found(
    organisation_id: ColumnElement[int], row_id: ColumnElement[int], at: ColumnElement[Any], facts: dict[str, Any]
) -> Select[Any]:
    pairs = [item for name, column in facts.items() for item in (literal(name, Text), column)]
    return select(
        cast(organisation_id, BigInteger).label("organisation_id"),
        cast(row_id, Text).label("subject"),
        at.label("at"),
        func.jsonb_build_object(*pairs).label("detail"),
    )
