"""Enrolments and outcomes as reports list them: a page by falling key, or all rows through a cursor of the server."""

from collections.abc import Generator, Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    FromClause,
    Row,
    Select,
    Subquery,
    Text,
    and_,
    bindparam,
    case,
    cast,
    exists,
    func,
    literal_column,
    null,
    select,
    text,
    true,
    tuple_,
    union_all,
)

from schemas.catalogue import Outcome
from schemas.reports import EnrolmentFilter, OutcomeFilter
from worker.ledger.fragments import one_of
from worker.ledger.report_conditions import Period, enrolment_conditions, outcome_conditions
from worker.models import enrolments, job_chunks, jobs, learners, outcomes, pathways, series
from worker.rules import WITHDRAWN

Rows = Sequence[Row[Any]]

BATCH = 2000
"""Rows that are fetched at a time."""

_PERSON = (learners.c.display_name.label("learner_name"), learners.c.email.label("learner_email"))

_ORGANISATION = bindparam("organisation_id", type_=BigInteger)


def enrolment_page(
    connection: Connection,
    organisation_id: int,
    wanted: EnrolmentFilter,
    period: Period,
    *,
    before: int | None,
    limit: int,
    names: bool = False,
) -> Rows:
    """A page of enrolments by falling id, those withdrawn in `period`. `before`: the last id of the page before.

    `names`: with the learner's name and e-mail address.
    """
    page = _enrolments(wanted, period, names).order_by(enrolments.c.id.desc()).limit(limit)
    if before is not None:
        page = page.where(enrolments.c.id < before)
    return connection.execute(page, {"organisation_id": organisation_id}).all()


def count_enrolments(
    connection: Connection, organisation_id: int, wanted: EnrolmentFilter, period: Period, *, most: int
) -> int:
    """How many enrolments a filter finds; `most` and one more where there are more."""
    withdrawn_by_job = _job_that_withdrew()
    rows: FromClause = enrolments
    if wanted.source is not None:
        rows = rows.outerjoin(withdrawn_by_job, true())
    matching = select(enrolments.c.id).select_from(rows).where(enrolments.c.organisation_id == _ORGANISATION)
    matching = matching.where(*enrolment_conditions(wanted, period, source=withdrawn_by_job.c.source))
    found = matching.limit(most + 1).subquery()
    return int(
        connection.scalar(select(func.count()).select_from(found), {"organisation_id": organisation_id}) or 0
    )  # fmt: skip


def count_outcomes(
    connection: Connection, organisation_id: int, wanted: OutcomeFilter, period: Period, *, most: int
) -> int:
    """How many outcomes a filter finds; `most` and one more where there are more."""
    kinds = [
        rows.where(*outcome_conditions(wanted, period, o)).limit(most + 1)
        for o, rows in _kinds_of_outcomes(wanted.standing)
    ]  # fmt: skip
    found = union_all(*kinds).subquery()
    count = connection.scalar(select(func.count()).select_from(found), {"organisation_id": organisation_id}) or 0
    return min(int(count), most + 1)


def every_enrolment(
    connection: Connection, organisation_id: int, wanted: EnrolmentFilter, period: Period, *, names: bool = False
) -> Generator[Rows, None, None]:
    """All enrolments by rising id, in batches."""
    return _batches(connection, organisation_id, _enrolments(wanted, period, names).order_by(enrolments.c.id))


def outcome_page(
    connection: Connection,
    organisation_id: int,
    wanted: OutcomeFilter,
    period: Period,
    *,
    before: tuple[int, int] | None,
    limit: int,
    names: bool = False,
) -> Rows:
    """A page of outcomes by falling job and enrolment. `before`: those two of the last row of the page before."""
    # A page of each kind first, so that PostgreSQL can walk the key backwards and stop at the limit. Learner, Series
    # and pathway are looked up for the rows of the page alone.
    pages = []
    for o, rows in _kinds_of_outcomes(wanted.standing):
        conditions = outcome_conditions(wanted, period, o)
        if before is not None:
            conditions.append(tuple_(o.c.job_id, o.c.enrolment_id) < before)
        pages.append(rows.where(*conditions).order_by(o.c.job_id.desc(), o.c.enrolment_id.desc()).limit(limit))
    o = union_all(*pages).subquery("o")
    page = _outcome_columns(o, job=o, status=o.c.status, names=names).select_from(
        _with_names(o, learner_id=o.c.learner_id, series_id=o.c.series_id, pathway_id=o.c.shown_pathway_id)
    )
    page = page.order_by(o.c.job_id.desc(), o.c.enrolment_id.desc()).limit(limit)
    return connection.execute(page, {"organisation_id": organisation_id}).all()


def every_outcome(
    connection: Connection, organisation_id: int, wanted: OutcomeFilter, period: Period, *, names: bool = False
) -> Generator[Rows, None, None]:
    """All outcomes by rising job and enrolment, in batches."""
    o = union_all(*_selections(wanted.standing)).subquery("o")
    rows = _with_names(
        _with_job_and_enrolment(o),
        learner_id=enrolments.c.learner_id,
        series_id=enrolments.c.series_id,
        pathway_id=func.coalesce(o.c.pathway_id, enrolments.c.pathway_id),
    )
    every = _outcome_columns(o, job=jobs, status=enrolments.c.status, names=names).select_from(rows)
    every = every.where(*outcome_conditions(wanted, period, o)).order_by(o.c.job_id, o.c.enrolment_id)
    return _batches(connection, organisation_id, every)


def use_snapshot(connection: Connection) -> None:
    """Let this transaction, which has read nothing yet, see one snapshot and take longer than others.

    `statement_timeout` is for each fetch. Between two fetches, the rows of the first are written. No locks are held.
    """
    connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))
    connection.execute(text("SET LOCAL statement_timeout = '10min'"))
    connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = '2min'"))


def _enrolments(wanted: EnrolmentFilter, period: Period, names: bool) -> Select[Any]:
    source = _job_that_withdrew().c.source
    return _enrolments_with_names(names).where(*enrolment_conditions(wanted, period, source=source))


@cache
def _enrolments_with_names(names: bool) -> Select[Any]:
    withdrawn_by_job = _job_that_withdrew()
    rows = _with_names(
        enrolments,
        learner_id=enrolments.c.learner_id,
        series_id=enrolments.c.series_id,
        pathway_id=enrolments.c.pathway_id,
        outer=False,
    ).outerjoin(withdrawn_by_job, true())
    return (
        select(
            enrolments.c.id.label("enrolment_id"),
            learners.c.external_id.label("learner_external_id"),
            series.c.code.label("series_code"),
            series.c.title.label("series_title"),
            pathways.c.title.label("pathway_title"),
            enrolments.c.status,
            _readable(enrolments.c.enrolled_at).label("enrolled_at"),
            _readable(enrolments.c.due_at).label("due_at"),
            enrolments.c.progress,
            _readable(enrolments.c.withdrawn_at).label("withdrawn_at"),
            enrolments.c.withdrawal_reason,
            enrolments.c.withdrawn_by,
            withdrawn_by_job.c.source,
            withdrawn_by_job.c.job_id,
            *(_PERSON if names else ()),
        )
        .select_from(rows)
        .where(enrolments.c.organisation_id == _ORGANISATION)
    )


@cache
def _job_that_withdrew() -> FromClause:
    """The job that withdrew the enrolment of the row.

    The outcome that withdrew it has the same time, because one transaction wrote both. An enrolment that was withdrawn
    again since, or by the platform itself, has another. OFFSET and IS TRUE are for the planner: it looks the outcome up
    for each row that is shown, instead of joining all outcomes first, or by the time, which a thousand of them share.
    """
    return (
        select(outcomes.c.job_id, jobs.c.source)
        .join(jobs, jobs.c.id == outcomes.c.job_id)
        .where(
            outcomes.c.enrolment_id == enrolments.c.id,
            outcomes.c.organisation_id == enrolments.c.organisation_id,
            one_of(outcomes.c.outcome, [Outcome.WITHDRAWN]),
            outcomes.c.reinstated_by.is_(None),
            one_of(enrolments.c.status, [WITHDRAWN]),
            (outcomes.c.decided_at == enrolments.c.withdrawn_at).is_(true()),
        )
        .offset(literal_column("0"))
        .correlate(enrolments)
        .lateral("withdrawn_by_job")
    )


@cache
def _kinds_of_outcomes(standing: bool) -> list[tuple[Subquery, Select[Any]]]:
    """Each kind of outcomes, and its rows with their job and enrolment. `standing`: only what the summary counts."""
    kinds = [kind.subquery("o") for kind in _selections(standing)]
    return [(o, _with_details(o)) for o in kinds]


def _selections(standing: bool) -> list[Select[Any]]:
    """The same rows as `report_summary` counts, or all."""
    if not standing:
        return [_decided_one_by_one(), _closed_whole()]
    of_withdrawal = exists().where(jobs.c.id == outcomes.c.job_id, jobs.c.kind == "withdraw")
    return [_decided_one_by_one().where(outcomes.c.reinstated_by.is_(None), of_withdrawal)]


def _with_details(o: Subquery) -> Select[Any]:
    return select(
        *o.c,
        jobs.c.reason,
        jobs.c.source,
        jobs.c.requested_by,
        enrolments.c.learner_id,
        enrolments.c.series_id,
        enrolments.c.status,
        func.coalesce(o.c.pathway_id, enrolments.c.pathway_id).label("shown_pathway_id"),
    ).select_from(_with_job_and_enrolment(o))


def _decided_one_by_one() -> Select[*tuple[Any, ...]]:
    """Outcomes with a row of their own."""
    return select(
        outcomes.c.job_id,
        outcomes.c.enrolment_id,
        outcomes.c.outcome,
        outcomes.c.prior_status,
        outcomes.c.pathway_id,
        outcomes.c.decided_at,
        outcomes.c.dead_letter_id,
    ).where(outcomes.c.organisation_id == _ORGANISATION)


def _closed_whole() -> Select[Any]:
    """Outcomes of chunks that were closed whole: they have no rows, so the ids of the chunk are expanded."""
    return select(
        job_chunks.c.job_id,
        func.unnest(job_chunks.c.enrolment_ids).label("enrolment_id"),
        job_chunks.c.state.label("outcome"),
        cast(null(), Text).label("prior_status"),
        cast(null(), BigInteger).label("pathway_id"),
        job_chunks.c.closed_at.label("decided_at"),
        cast(null(), BigInteger).label("dead_letter_id"),
    ).where(
        job_chunks.c.organisation_id == _ORGANISATION,
        one_of(job_chunks.c.state, [Outcome.CANCELLED, Outcome.SUPERSEDED]),
    )


def _outcome_columns(o: Subquery, *, job: FromClause, status: ColumnElement[Any], names: bool) -> Select[Any]:
    return select(
        o.c.job_id,
        o.c.enrolment_id,
        learners.c.external_id.label("learner_external_id"),
        series.c.code.label("series_code"),
        series.c.title.label("series_title"),
        pathways.c.title.label("pathway_title"),
        status.label("status"),
        o.c.outcome,
        o.c.prior_status,
        o.c.decided_at,
        job.c.reason,
        job.c.source,
        job.c.requested_by,
        o.c.dead_letter_id,
        *(_PERSON if names else ()),
    )


def _with_job_and_enrolment(o: Subquery) -> FromClause:
    """Outcomes with their job and, if it exists in this organisation, their enrolment."""
    own = and_(enrolments.c.id == o.c.enrolment_id, enrolments.c.organisation_id == _ORGANISATION)
    return o.join(jobs, and_(jobs.c.id == o.c.job_id, jobs.c.organisation_id == _ORGANISATION)).outerjoin(
        enrolments, own
    )


def _with_names(
    rows: FromClause,
    *,
    learner_id: ColumnElement[Any],
    series_id: ColumnElement[Any],
    pathway_id: ColumnElement[Any],
    outer: bool = True,
) -> FromClause:
    """Rows with their learner, Series and pathway. `outer`: also rows without a learner or Series."""
    named = rows.join(learners, learners.c.id == learner_id, isouter=outer)
    named = named.join(series, series.c.id == series_id, isouter=outer)
    return named.outerjoin(pathways, pathways.c.id == pathway_id)


def _readable(at: ColumnElement[Any]) -> ColumnElement[Any]:
    """A time as a spreadsheet and Python can hold it: PostgreSQL also has "infinity" and the year 20000."""
    first, last = datetime(2, 1, 1, tzinfo=UTC), datetime(9998, 12, 31, tzinfo=UTC)
    return case((at.between(first, last), at))


def _batches(connection: Connection, organisation_id: int, rows: Select[Any]) -> Generator[Rows, None, None]:
    values = {"organisation_id": organisation_id}
    with connection.execute(rows, values, execution_options={"yield_per": BATCH}) as result:
        yield from result.partitions()
