"""What there is to tell, a query for each kind: its organisation, its subject, when it happened, and a few facts.

Each query reads little: what is in a passing state, or what has happened since a time. The facts are codes and counts:
what they become is sent to other systems, so there are no names of learners in them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Select, Text, and_, case, cast, func, literal, or_, select
from sqlalchemy.types import Interval

from schemas.catalogue import JobState, LetterCode
from worker.ledger.fragments import LIVE, one_of
from worker.ledger.letter_filter import Targets, is_overdue
from worker.models import dead_letters, jobs, limit_proposals, runs


@dataclass(frozen=True, slots=True)
class Scan:
    """What a query may need to know."""

    since: datetime
    """What happened before was found by an earlier look."""
    targets: Targets
    """By code: how long a dead letter may stay open."""


Find = Callable[[Scan], Select[Any]]
"""Makes the query of a kind. Its columns: `organisation_id`, `subject`, `at`, `detail`."""


def find_held_jobs(_: Scan) -> Select[Any]:
    """Jobs that wait for a second person."""
    at = func.greatest(jobs.c.created_at, jobs.c.effective_at)
    facts = {"reason": jobs.c.reason, "learners": jobs.c.learners}
    return _found(jobs.c.organisation_id, jobs.c.id, at, facts).where(one_of(jobs.c.state, [JobState.HELD]))


def find_proposed_limits(_: Scan) -> Select[Any]:
    """Limits of the brake that wait for a second person."""
    proposed = limit_proposals.c
    waits = proposed.state == "pending", proposed.expires_at > func.now()
    return _found(proposed.organisation_id, proposed.id, proposed.proposed_at, {}).where(*waits)


def find_opened_letters(scan: Scan) -> Select[Any]:
    """Live dead letters that were opened since then."""
    opened = dead_letters.c.opened_at
    recent = one_of(dead_letters.c.state, LIVE), one_of(dead_letters.c.code, LetterCode), opened >= scan.since
    return _letters(opened).where(*recent)


def find_overdue_letters(scan: Scan) -> Select[Any]:
    """Live dead letters that have become overdue since then."""
    targets = scan.targets.items()
    opened = dead_letters.c.opened_at
    # A protected enrolment is overdue some time after its protection ended, which is not in an index.
    fresh = [
        dead_letters.c.code == code
        if code == LetterCode.PROTECTED
        else and_(dead_letters.c.code == code, opened >= scan.since - target)
        for code, target in targets
    ]
    allowed = case(*((dead_letters.c.code == code, cast(literal(target), Interval)) for code, target in targets))
    at = case((dead_letters.c.code == LetterCode.PROTECTED, func.now()), else_=opened + allowed)
    return _letters(at).where(is_overdue(scan.targets), or_(*fresh))


def find_halted_runs(scan: Scan) -> Select[Any]:
    """Runs over dead letters that have stopped by themselves since then."""
    recent = runs.c.state == "halted", runs.c.finished_at >= scan.since
    facts = {"act": runs.c.act, "letters": runs.c.letters}
    return _found(runs.c.organisation_id, runs.c.id, runs.c.finished_at, facts).where(*recent)


def _letters(at: ColumnElement[Any]) -> Select[Any]:
    return _found(dead_letters.c.organisation_id, dead_letters.c.id, at, {"code": dead_letters.c.code})


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
