"""What there is to tell, a query for each kind: its organisation, its subject, when it happened, and a few facts.

Each query reads little: what is in a passing state, or what has happened since a time. The facts are codes and counts:
what they become is sent to other systems, so there are no names of learners in them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Integer,
    Select,
    Text,
    cast,
    column,
    func,
    literal,
    or_,
    select,
    text,
    union_all,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.sql.selectable import CompoundSelect, TextualSelect

from schemas.catalogue import JobState, LetterCode
from schemas.rosters import LEFT
from worker.ledger.fragments import LIVE, among, one_of, sql_list
from worker.ledger.heard import HEARD
from worker.ledger.letter_filter import Targets
from worker.models import Instant, approvals, jobs, limit_proposals, report_files, report_schedules, rosters, runs


@dataclass(frozen=True, slots=True)
class Scan:
    """What a query may need to know."""

    organisations: Sequence[int]
    """Those where somebody wants to be told."""
    since: datetime
    """What happened before was found by an earlier look."""
    targets: Targets
    """By code: how long a dead letter may stay open."""


Find = Callable[[Scan], Select[Any] | CompoundSelect[Any] | TextualSelect]
"""Makes the query of a kind. Its columns: `organisation_id`, `subject`, `at`, `detail`."""


def find_held_jobs(scan: Scan) -> Select[Any]:
    """Jobs that wait for a second person."""
    at = func.greatest(jobs.c.created_at, jobs.c.effective_at)
    facts = {"reason": jobs.c.reason, "learners": jobs.c.learners}
    held = among(jobs.c.organisation_id, scan.organisations), one_of(jobs.c.state, [JobState.HELD])
    return _found(jobs.c.organisation_id, jobs.c.id, at, facts).where(*held)


LIMITS = "limits "
"""What the subject of proposed limits begins with: their ids are others than those of approvals."""


def find_asked_approvals(scan: Scan) -> CompoundSelect[Any]:
    """Approvals, and limits of the brake, that wait for a second person. Held jobs are a kind of their own."""
    asked, proposed = approvals.c, limit_proposals.c
    acts = _found(asked.organisation_id, asked.id, asked.requested_at, {"act": asked.act, "size": asked.size}).where(
        among(asked.organisation_id, scan.organisations), asked.state == "pending", asked.expires_at > func.now()
    )
    subject = literal(LIMITS, Text).concat(cast(proposed.id, Text))
    limits = _found(proposed.organisation_id, subject, proposed.proposed_at, {}).where(
        among(proposed.organisation_id, scan.organisations),
        proposed.state == "pending",
        proposed.expires_at > func.now(),
    )
    return union_all(acts, limits)


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


# Told again when it was heard in between, so the subject names the time from which on nothing was heard.
_SILENT_SOURCES = text(f"""
SELECT h.organisation_id, concat_ws(' ', h.source, extract(epoch FROM h.quiet_since)) AS subject,
    h.quiet_since + make_interval(hours => h.silent_after_hours) AS at,
    jsonb_build_object('source', h.source, 'hours', h.silent_after_hours) AS detail
FROM ({HEARD}) h WHERE h.is_silent AND h.organisation_id = ANY(:organisations)
""")


def find_silent_sources(scan: Scan) -> TextualSelect:
    """Sources of HR events that have been silent for longer than their limit."""
    return _SILENT_SOURCES.bindparams(organisations=list(scan.organisations)).columns(*_COLUMNS)


def find_rosters_with_leavers(scan: Scan) -> Select[Any]:
    """Full rosters that are planned, or were accepted since then, and have found people who left."""
    roster = rosters.c
    left = sum((func.coalesce(cast(roster.findings[one].astext, Integer), 0) for one in LEFT), literal(0))
    recent = or_(roster.state == "planned", roster.accepted_at >= scan.since)
    own = among(roster.organisation_id, scan.organisations)
    at = func.coalesce(roster.accepted_at, roster.planned_at)
    return _found(roster.organisation_id, roster.id, at, {"left": left}).where(own, recent, left > 0)


def find_failed_rosters(scan: Scan) -> Select[Any]:
    """Full rosters that have failed since then, and are not tried again by themselves."""
    roster = rosters.c
    recent = roster.state == "failed", roster.failed_at >= scan.since
    own = among(roster.organisation_id, scan.organisations)
    facts = {"error_class": func.split_part(roster.failure, ":", 1)}
    return _found(roster.organisation_id, roster.id, roster.failed_at, facts).where(own, *recent)


SCHEDULES = "schedule "
"""How the subject of a schedule that has ended begins; of a file it is the number alone."""


def find_ready_reports(scan: Scan) -> Select[Any]:
    """Files of scheduled reports that were made since then."""
    return _files(scan, "ready", rows=report_files.c.row_count)


def find_failed_reports(scan: Scan) -> CompoundSelect[Any]:
    """Files of scheduled reports that have failed since then, and schedules that have ended by themselves."""
    ended = report_schedules.c
    subject = func.concat(literal(SCHEDULES, Text), cast(ended.id, Text))
    schedules = _found(ended.organisation_id, subject, ended.ended_at, {}).where(
        among(ended.organisation_id, scan.organisations),
        ended.ended_because.is_not(None),
        ended.ended_at >= scan.since,
    )
    return union_all(_files(scan, "failed"), schedules)


def _files(scan: Scan, state: str, **facts: ColumnElement[Any]) -> Select[Any]:
    file = report_files.c
    shown = {"report": report_schedules.c.report, "every": report_schedules.c.every, **facts}
    found = _found(file.organisation_id, file.id, file.ended_at, shown)
    return found.join(report_schedules, report_schedules.c.id == file.schedule_id).where(
        among(file.organisation_id, scan.organisations), file.state == state, file.ended_at >= scan.since
    )


def _letters(statement: str, scan: Scan, allowed: Targets) -> TextualSelect:
    values = {"organisations": list(scan.organisations), "since": scan.since}
    values |= {"codes": list(allowed), "allowed": list(allowed.values())}
    return text(statement).bindparams(**values).columns(*_COLUMNS)


_COLUMNS = (
    column("organisation_id", BigInteger),
    column("subject", Text),
    column("at", Instant),
    column("detail", JSONB),
)


def _found(
    organisation_id: ColumnElement[int], row_id: ColumnElement[Any], at: ColumnElement[Any], facts: dict[str, Any]
) -> Select[Any]:
    pairs = [item for name, column in facts.items() for item in (literal(name, Text), column)]
    return select(
        cast(organisation_id, BigInteger).label("organisation_id"),
        cast(row_id, Text).label("subject"),
        at.label("at"),
        func.jsonb_build_object(*pairs).label("detail"),
    )
