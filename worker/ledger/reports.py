"""What reports read: enrolments, outcomes and their sums, from statements composed of the conditions given.

Only conditions that are given stand in a statement, so that PostgreSQL plans for the question asked.
"""

from collections.abc import Generator, Sequence
from datetime import datetime
from itertools import pairwise
from typing import Any

from sqlalchemy import Connection, Row, column, text

from schemas.catalogue import Outcome
from schemas.reports import EnrolmentFilter, OutcomeFilter, StatusFilter

Rows = Sequence[Row[Any]]
BATCH = 2000
"""Rows fetched at a time."""


def _readable(column: str) -> str:
    # PostgreSQL keeps times ("infinity", the year 20000) that neither Python nor a spreadsheet can hold.
    return f"CASE WHEN {column} BETWEEN '0002-01-01' AND '9998-12-31' THEN {column} END"


# The outcome that withdrew an enrolment has its very time: both are the same transaction's. An enrolment that
# was withdrawn again since, or by the platform itself, has another. It is looked up for each row that is shown
# (OFFSET and IS TRUE keep the planner from joining all outcomes first, or by the time, which a thousand share).
_ENROLMENTS = f"""
SELECT e.id AS enrolment_id, l.external_id AS learner_external_id, s.code AS series_code, s.title AS series_title,
    p.title AS pathway_title, e.status, {_readable("e.enrolled_at")} AS enrolled_at,
    {_readable("e.due_at")} AS due_at, e.progress, {_readable("e.withdrawn_at")} AS withdrawn_at,
    e.withdrawal_reason, e.withdrawn_by, j.source, j.job_id
FROM lms.enrolments e JOIN lms.learners l ON l.id = e.learner_id JOIN lms.series s ON s.id = e.series_id
LEFT JOIN lms.pathways p ON p.id = e.pathway_id
LEFT JOIN LATERAL (
    SELECT o.job_id, w.source FROM withdrawals.outcomes o JOIN withdrawals.jobs w ON w.id = o.job_id
    WHERE o.enrolment_id = e.id AND o.organisation_id = e.organisation_id AND o.outcome = 'withdrawn'
        AND o.reinstated_by IS NULL AND e.status = 'withdrawn'
        AND (o.decided_at = e.withdrawn_at) IS TRUE OFFSET 0) j ON true
WHERE e.organisation_id = :organisation_id"""

# Chunks that were closed whole have no rows of outcomes; their ids are expanded here.
_OUTCOMES = """
SELECT o.job_id, o.enrolment_id, l.external_id AS learner_external_id, s.code AS series_code,
    s.title AS series_title, p.title AS pathway_title, e.status, o.outcome, o.prior_status, o.decided_at,
    j.reason, j.source, j.requested_by, o.dead_letter_id
FROM (
    SELECT job_id, enrolment_id, outcome, prior_status, pathway_id, decided_at, dead_letter_id
    FROM withdrawals.outcomes WHERE organisation_id = :organisation_id
    UNION ALL
    SELECT c.job_id, unnest(c.enrolment_ids), c.state, NULL, NULL, c.closed_at, NULL
    FROM withdrawals.chunks c
    WHERE c.organisation_id = :organisation_id AND c.state IN ('cancelled', 'superseded') AND c.redrives IS NULL
) o JOIN withdrawals.jobs j ON j.id = o.job_id
LEFT JOIN lms.enrolments e ON e.id = o.enrolment_id AND e.organisation_id = :organisation_id
LEFT JOIN lms.learners l ON l.id = e.learner_id LEFT JOIN lms.series s ON s.id = e.series_id
LEFT JOIN lms.pathways p ON p.id = coalesce(o.pathway_id, e.pathway_id)
WHERE true"""

# A page of each kind first, so that PostgreSQL may walk the key backwards and stop; the rest is looked up for its rows.
_PAGE_OF_OUTCOMES = """(SELECT o.*, j.reason, j.source, j.requested_by, e.learner_id, e.series_id, e.status,
        coalesce(o.pathway_id, e.pathway_id) AS pathway
    FROM {outcomes} o JOIN withdrawals.jobs j ON j.id = o.job_id
    LEFT JOIN lms.enrolments e ON e.id = o.enrolment_id AND e.organisation_id = :organisation_id
    WHERE {conditions} ORDER BY o.job_id DESC, o.enrolment_id DESC LIMIT :limit)"""
_DECIDED_ONE_BY_ONE = """(SELECT job_id, enrolment_id, outcome, prior_status, pathway_id, decided_at, dead_letter_id
    FROM withdrawals.outcomes WHERE organisation_id = :organisation_id)"""
_CLOSED_WHOLE = """(SELECT c.job_id, unnest(c.enrolment_ids) AS enrolment_id, c.state AS outcome, NULL AS prior_status,
        NULL::bigint AS pathway_id, c.closed_at AS decided_at, NULL::bigint AS dead_letter_id
    FROM withdrawals.chunks c
    WHERE c.organisation_id = :organisation_id AND c.state IN ('cancelled', 'superseded') AND c.redrives IS NULL)"""
_OUTCOMES_PAGE = """
SELECT o.job_id, o.enrolment_id, l.external_id AS learner_external_id, s.code AS series_code,
    s.title AS series_title, p.title AS pathway_title, o.status, o.outcome, o.prior_status, o.decided_at,
    o.reason, o.source, o.requested_by, o.dead_letter_id
FROM ({decided} UNION ALL {closed}) o
LEFT JOIN lms.learners l ON l.id = o.learner_id LEFT JOIN lms.series s ON s.id = o.series_id
LEFT JOIN lms.pathways p ON p.id = o.pathway
ORDER BY o.job_id DESC, o.enrolment_id DESC LIMIT :limit"""

_DECIDED = """
FROM withdrawals.outcomes o JOIN withdrawals.jobs j ON j.id = o.job_id {enrolments}
WHERE o.organisation_id = :organisation_id AND j.kind = 'withdraw'"""


def enrolments(
    connection: Connection,
    organisation_id: int,
    wanted: EnrolmentFilter,
    span: tuple[datetime | None, datetime | None],
    *,
    before: int | None,
    limit: int,
) -> Rows:
    """A page of enrolments by falling id; `span` is when they were withdrawn."""
    conditions, values = _conditions(wanted, span, reason="e.withdrawal_reason", at="e.withdrawn_at")
    if before is not None:
        conditions.append("e.id < :before")
    statement = " AND ".join([_ENROLMENTS, *conditions]) + " ORDER BY e.id DESC LIMIT :limit"
    values |= {"organisation_id": organisation_id, "before": before, "limit": limit}
    return connection.execute(text(statement), values).all()


def every_enrolment(
    connection: Connection,
    organisation_id: int,
    wanted: EnrolmentFilter,
    span: tuple[datetime | None, datetime | None],
) -> Generator[Rows, None, None]:
    """All enrolments by rising id, in batches through a cursor of the server."""
    conditions, values = _conditions(wanted, span, reason="e.withdrawal_reason", at="e.withdrawn_at")
    statement = " AND ".join([_ENROLMENTS, *conditions]) + " ORDER BY e.id"
    return _batches(connection, statement, {"organisation_id": organisation_id, **values})


def outcomes(
    connection: Connection,
    organisation_id: int,
    wanted: OutcomeFilter,
    span: tuple[datetime | None, datetime | None],
    *,
    before: tuple[int, int] | None,
    limit: int,
) -> Rows:
    """A page of outcomes, by falling job and enrolment; `before` is those of the last row of the page before."""
    conditions, values = _conditions(wanted, span, reason="j.reason", at="o.decided_at")
    if wanted.job_id is not None:
        conditions.append("o.job_id = :job_id")
    if wanted.outcome:
        conditions.append("o.outcome = ANY(:outcome)")
    if before is not None:
        conditions.append("(o.job_id, o.enrolment_id) < (:job, :enrolment)")
        values |= {"job": before[0], "enrolment": before[1]}
    such = " AND ".join(["true", *conditions])
    statement = _OUTCOMES_PAGE.format(
        decided=_PAGE_OF_OUTCOMES.format(outcomes=_DECIDED_ONE_BY_ONE, conditions=such),
        closed=_PAGE_OF_OUTCOMES.format(outcomes=_CLOSED_WHOLE, conditions=such),
    )
    values |= {"job_id": wanted.job_id, "outcome": wanted.outcome, "limit": limit}
    return connection.execute(text(statement), {"organisation_id": organisation_id, **values}).all()


def every_outcome(
    connection: Connection, organisation_id: int, wanted: OutcomeFilter, span: tuple[datetime | None, datetime | None]
) -> Generator[Rows, None, None]:
    """All outcomes by job and enrolment, in batches through a cursor of the server."""
    conditions, values = _conditions(wanted, span, reason="j.reason", at="o.decided_at")
    if wanted.job_id is not None:
        conditions.append("o.job_id = :job_id")
    if wanted.outcome:
        conditions.append("o.outcome = ANY(:outcome)")
    values |= {"organisation_id": organisation_id, "job_id": wanted.job_id, "outcome": wanted.outcome}
    statement = " AND ".join([_OUTCOMES, *conditions]) + " ORDER BY o.job_id, o.enrolment_id"
    return _batches(connection, statement, values)


def snapshot(connection: Connection) -> None:
    """Make this transaction, which has read nothing yet, one picture that may take its time (and no lock).

    `statement_timeout` is for each fetch; the time between two of them is spent on writing the rows of one.
    """
    connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))
    connection.execute(text("SET LOCAL statement_timeout = '10min'"))
    connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = '2min'"))


def room_for_sums(connection: Connection) -> None:
    """Let a million outcomes be counted and sorted in memory, in this transaction."""
    connection.execute(text("SET LOCAL work_mem = '64MB'"))


def decided(
    connection: Connection,
    organisation_id: int,
    wanted: EnrolmentFilter,
    span: tuple[datetime | None, datetime | None],
) -> Rows:
    """Outcomes that stand, counted by `week` (a Monday, UTC; None but for withdrawals), `reason` and `outcome`."""
    statement, values = _over_outcomes(
        """SELECT CASE WHEN o.outcome = 'withdrawn' THEN date_trunc('week', o.decided_at AT TIME ZONE 'UTC')::date END
        AS week, j.reason, o.outcome, count(*) AS n""",
        wanted,
        span,
    )
    values |= {"organisation_id": organisation_id, "clean": [Outcome.ALREADY_WITHDRAWN, Outcome.CANCELLED]}
    return connection.execute(
        text(
            f"{statement} AND j.kind = 'withdraw' AND o.reinstated_by IS NULL AND o.outcome <> ALL(:clean)"
            " GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"
        ),
        values,
    ).all()


BANDS = (
    ("under_10_seconds", 10),
    ("under_1_minute", 60),
    ("under_10_minutes", 600),
    ("under_1_hour", 3600),
    ("under_1_day", 86_400),
    ("over_1_day", "infinity"),
)
"""Lengths of time, from the shortest: what is below so many seconds."""


def durations(
    connection: Connection,
    organisation_id: int,
    wanted: EnrolmentFilter,
    span: tuple[datetime | None, datetime | None],
) -> tuple[list[int], list[float] | None]:
    """How many were withdrawn in each of `BANDS`, and the seconds it took from the request: p50, p95 and p99."""
    below = ", ".join(f"count(*) FILTER (WHERE took < '{most}')" for _, most in BANDS)
    statement, values = _over_outcomes(
        "SELECT extract(epoch FROM o.decided_at - greatest(j.created_at, j.effective_at))::float8 AS took", wanted, span
    )
    row = connection.execute(
        text(f"""SELECT ARRAY[{below}] AS below, percentile_cont(ARRAY[0.5, 0.95, 0.99])
            WITHIN GROUP (ORDER BY took) AS seconds
            FROM ({statement} AND o.outcome = 'withdrawn' AND o.reinstated_by IS NULL OFFSET 0) withdrawals"""),
        {"organisation_id": organisation_id, **values},
    ).one()
    return [most - least for least, most in pairwise([0, *row.below])], row.seconds


_OPEN_LETTERS = text("""
SELECT CASE WHEN opened_at > now() - interval '1 hour' THEN 'under_1_hour'
    WHEN opened_at > now() - interval '1 day' THEN 'under_1_day'
    WHEN opened_at > now() - interval '7 days' THEN 'under_1_week' ELSE 'over_1_week' END AS age, code, count(*) AS n
FROM withdrawals.dead_letters
WHERE organisation_id = :organisation_id AND state IN ('open', 'redriven') GROUP BY 1, 2 ORDER BY min(opened_at) DESC, 2
""")


def open_letters(connection: Connection, organisation_id: int) -> Rows:
    """Dead letters that wait for somebody, counted by age and code."""
    return connection.execute(_OPEN_LETTERS, {"organisation_id": organisation_id}).all()


_SERIES = text("SELECT id FROM lms.series WHERE organisation_id = :organisation_id AND code = :code")


def series_id(connection: Connection, organisation_id: int, code: str) -> int | None:
    """The Series of an organisation that has this code."""
    found = connection.scalar(_SERIES, {"organisation_id": organisation_id, "code": code})
    return None if found is None else int(found)


def _over_outcomes(
    select: str, wanted: EnrolmentFilter, span: tuple[datetime | None, datetime | None]
) -> tuple[str, dict[str, Any]]:
    conditions, values = _conditions(wanted, span, reason="j.reason", at="o.decided_at")
    needed = wanted.status or wanted.exclude_status or wanted.series_id is not None
    enrolments = "LEFT JOIN lms.enrolments e ON e.id = o.enrolment_id AND e.organisation_id = :organisation_id"
    return " AND ".join([select + _DECIDED.format(enrolments=enrolments if needed else ""), *conditions]), values


def _conditions(
    wanted: StatusFilter, span: tuple[datetime | None, datetime | None], *, reason: str, at: str
) -> tuple[list[str], dict[str, Any]]:
    """Conditions and their values; an outcome without an enrolment has no status, so it is not excluded by one."""
    values = {**wanted.model_dump(include={"status", "exclude_status", "series_id", "source", "reason"})}
    values |= {"from": span[0], "to": span[1]}
    known = {
        "status": "e.status = ANY(:status)",
        "exclude_status": "coalesce(e.status <> ALL(:exclude_status), true)",
        "series_id": "e.series_id = :series_id",
        "source": "j.source = :source",
        "reason": f"{reason} = :reason",
        "from": f"{at} >= :from",
        "to": f"{at} < :to",
    }
    given = {name: value for name, value in values.items() if value not in (None, [])}
    return [known[name] for name in known if name in given], given


def _batches(connection: Connection, statement: str, values: dict[str, Any]) -> Generator[Rows, None, None]:
    # `columns` makes it a SELECT to SQLAlchemy, which fetches plain text whole, whatever it is told.
    select = text(statement).columns(column("status"))
    with connection.execute(select, values, execution_options={"yield_per": BATCH}) as result:
        yield from result.partitions()
