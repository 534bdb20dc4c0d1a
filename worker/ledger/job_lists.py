"""Jobs as people and producers read them, with the counts of their chunks."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import (
    ColumnElement,
    CompoundSelect,
    Connection,
    Executable,
    Integer,
    Select,
    and_,
    case,
    cast,
    extract,
    func,
    literal_column,
    select,
    true,
    union,
    union_all,
)

from schemas.catalogue import JobState
from schemas.job_filter import JobConditions, JobFilter
from worker.ledger.fragments import CLOSED_WHOLE, LIVE, UNFINISHED, load_sql, one_of, plan_by_index, sql_list
from worker.models import chunks, dead_letters, enrolments, job_chunks, jobs, learners, outcomes, series
from worker.records import Job

SMALL = 100
"""Ids of a job whose Series is looked up when it is read."""

# What the chunks of a job say about it.
_TOTALS = (
    select(
        func.sum(job_chunks.c.size).filter(job_chunks.c.state != "split").label("size"),
        func.sum(job_chunks.c.size).filter(job_chunks.c.state.in_(UNFINISHED)).label("unfinished"),
        func.bool_or(job_chunks.c.state.not_in(("waiting", "ready"))).label("begun"),
    )
    .where(job_chunks.c.job_id == jobs.c.id)
    .lateral("totals")
)
_WINDOW = timedelta(seconds=30)
_BEGUN = func.coalesce(_TOTALS.c.begun, False)


def _in_state(state: JobState) -> ColumnElement[bool]:
    """`running` is not stored: it is a queued job of which a chunk has begun."""
    if state is JobState.RUNNING:
        return and_(jobs.c.state == JobState.QUEUED, _BEGUN)
    if state is JobState.QUEUED:
        return and_(jobs.c.state == JobState.QUEUED, ~_BEGUN)
    return jobs.c.state == state


def _may_run(
    organisation_id: int, wanted: JobFilter, beyond: list[ColumnElement[bool]], order: ColumnElement[Any], limit: int
) -> ColumnElement[bool]:
    """The first jobs of the page that can be `running`, found without those that wait, of which there may be very many.

    A worker has claimed it, or a part of it is decided. One that has begun a moment ago may not be marked yet.
    """
    claimed = select(job_chunks.c.job_id).where(
        job_chunks.c.organisation_id == organisation_id, job_chunks.c.state == literal_column("'claimed'")
    )
    begun = (
        select(jobs.c.id)
        .where(
            jobs.c.organisation_id == organisation_id,
            jobs.c.state == literal_column("'queued'"),
            jobs.c.begun,
            *job_conditions(organisation_id, wanted),
            *beyond,
        )
        .order_by(order)
        .limit(limit)
    )
    first = union_all(claimed, select(begun.subquery().c.id)).subquery("may_run")
    return jobs.c.id.in_(select(first.c.job_id))


def _select_jobs() -> Select[*tuple[Any, ...]]:
    """Jobs with their counts, as `Job` names them."""
    held = jobs.c.state == JobState.HELD
    of_person = jobs.c.learner_external_id.is_not(None)
    return select(
        jobs.c.id,
        jobs.c.organisation_id,
        jobs.c.kind,
        jobs.c.reason,
        jobs.c.source,
        jobs.c.requested_by,
        jobs.c.note,
        jobs.c.file_name,
        jobs.c.idempotency_key,
        jobs.c.learner_external_id,
        jobs.c.created_at,
        jobs.c.effective_at,
        jobs.c.finished_at,
        jobs.c.duplicates,
        jobs.c.reinstates,
        case((held, jobs.c.held_because)).label("held_because"),
        case((held, jobs.c.brake)).label("brake"),
        case((_in_state(JobState.RUNNING), JobState.RUNNING.value), else_=jobs.c.state).label("state"),
        case(
            (~of_person, jobs.c.accepted),
            (jobs.c.prune_id.is_(None), func.coalesce(_TOTALS.c.size, 0)),
            else_=_pruned(),
        ).label("accepted"),
        func.coalesce(_TOTALS.c.unfinished, 0).label("in_flight"),
        func.coalesce(jobs.c.pruned_counts, _outcomes()).label("outcomes"),
        _reinstated().label("reinstated"),
        count_open_letters().label("open_dead_letters"),
        jobs.c.prune_id.is_not(None).label("pruned"),
        _series_title().label("series_title"),
    ).join(_TOTALS, true())


def _pruned() -> ColumnElement[int]:
    """How many ids a pruned job had an outcome for."""
    count = func.jsonb_each_text(jobs.c.pruned_counts).table_valued("key", "value").lateral("pruned_count")
    total = func.coalesce(func.sum(cast(count.c.value, Integer)), 0)
    return select(total).select_from(count).correlate(jobs).scalar_subquery()


def _outcomes() -> ColumnElement[Any]:
    """The job's outcomes, counted. Each chunk's counts were written by the transaction that decided it; those of a
    letter chunk are changes."""
    count = func.jsonb_each_text(chunks.c.counts).table_valued("key", "value").lateral("count")
    total = func.sum(cast(count.c.value, Integer))
    totals = (
        select(count.c.key.label("outcome"), total.label("total"))
        .select_from(chunks.join(count, true()))
        .where(chunks.c.job_id == jobs.c.id)
        .group_by(count.c.key)
        .having(total != 0)
        .correlate(jobs)
        .subquery("outcome_totals")
    )
    collected = func.jsonb_object_agg(totals.c.outcome, totals.c.total)
    return select(func.coalesce(collected, literal_column("'{}'::jsonb"))).scalar_subquery()


def _reinstated() -> ColumnElement[int]:
    """How many of the job's withdrawals other jobs took back."""
    undo = jobs.alias("undo")
    count = cast(chunks.c.counts["reinstated"].astext, Integer)
    by_chunks = (
        select(func.coalesce(func.sum(count), 0))
        .select_from(undo.join(chunks, chunks.c.job_id == undo.c.id))
        .where(undo.c.reinstates == jobs.c.id, undo.c.prune_id.is_(None))
        .correlate(jobs)
        .scalar_subquery()
    )
    by_record = (
        select(func.coalesce(func.sum(cast(undo.c.pruned_counts["reinstated"].astext, Integer)), 0))
        .where(undo.c.reinstates == jobs.c.id)
        .correlate(jobs)
        .scalar_subquery()
    )
    return by_chunks + by_record


def count_open_letters() -> ColumnElement[int]:
    """Letters that are not closed, of the job's outcomes and of its chunks."""
    of_outcomes = select(outcomes.c.dead_letter_id).where(
        outcomes.c.job_id == jobs.c.id, outcomes.c.dead_letter_id.is_not(None)
    )
    of_chunks = select(chunks.c.dead_letter_id).where(chunks.c.job_id == jobs.c.id)
    letters = of_outcomes.correlate(jobs).union(of_chunks.correlate(jobs))
    return (
        select(func.count())
        .select_from(dead_letters)
        .where(dead_letters.c.state.in_(LIVE), dead_letters.c.id.in_(letters))
        .correlate(jobs)
        .scalar_subquery()
    )


def _series_title() -> ColumnElement[str]:
    """Of the one Series that a job was asked for, or that all enrolments of a small one are in."""
    of_small = (
        select(enrolments.c.series_id)
        .join(job_chunks, enrolments.c.id == func.any(job_chunks.c.enrolment_ids))
        .where(job_chunks.c.job_id == jobs.c.id, enrolments.c.organisation_id == jobs.c.organisation_id)
        .where(jobs.c.accepted <= SMALL)
        .correlate(jobs)
        .distinct()
        .subquery("of_small")
    )
    found = select(func.min(of_small.c.series_id)).having(func.count() == 1).scalar_subquery()
    return (
        select(series.c.title)
        .where(
            series.c.id == func.coalesce(jobs.c.series_id, found), series.c.organisation_id == jobs.c.organisation_id
        )
        .correlate(jobs)
        .scalar_subquery()
    )


_JOBS = _select_jobs()
_FIND_JOB = load_sql("job.sql", unfinished=sql_list(UNFINISHED), live=sql_list(LIVE), small=str(SMALL))


def find_job(connection: Connection, organisation_id: int, job_id: int) -> Job | None:
    """One job of an organisation, with its counts."""
    found = _read(connection, _FIND_JOB, {"job_id": job_id, "organisation_id": organisation_id})
    return found[0] if found else None


def find_jobs(connection: Connection, job_ids: Sequence[int]) -> list[Job]:
    """Jobs of any organisation, with their counts; for callers who have checked that they may be seen."""
    return _read(connection, _JOBS.where(jobs.c.id.in_(job_ids)))


def _of_learner(organisation_id: int, external_id: str) -> CompoundSelect[int]:
    """Ids of the jobs that name a learner or have decided an enrolment of theirs: each part has an index."""
    deactivations = select(jobs.c.id).where(
        jobs.c.organisation_id == organisation_id,
        jobs.c.learner_external_id == external_id,
        jobs.c.source == literal_column("'hr'"),
    )
    undecided = [
        select(job_chunks.c.job_id).where(
            one_of(job_chunks.c.state, states),
            job_chunks.c.organisation_id == organisation_id,
            job_chunks.c.learner_external_id == external_id,
        )
        for states in (UNFINISHED, CLOSED_WHOLE)
    ]
    decided = (
        select(outcomes.c.job_id)
        .join(enrolments, enrolments.c.id == outcomes.c.enrolment_id)
        .join(learners, learners.c.id == enrolments.c.learner_id)
        .where(
            learners.c.organisation_id == organisation_id,
            learners.c.external_id == external_id,
            outcomes.c.organisation_id == organisation_id,
        )
    )
    return union(deactivations, *undecided, decided)


def list_jobs(
    connection: Connection,
    organisation_id: int,
    wanted: JobFilter,
    *,
    last: int | None = None,
    limit: int = 50,
    oldest_first: bool = False,
) -> list[Job]:
    """Jobs that match, newest first unless `oldest_first`; `last`: the last id of the page before."""
    order = jobs.c.id if oldest_first else jobs.c.id.desc()
    beyond = [] if last is None else [jobs.c.id > last if oldest_first else jobs.c.id < last]
    conditions = [jobs.c.organisation_id == organisation_id, *job_conditions(organisation_id, wanted)]
    if wanted.state is not None:
        conditions.append(_in_state(wanted.state))
    if wanted.state is JobState.RUNNING:
        plan_by_index(connection)
        conditions.append(_may_run(organisation_id, wanted, beyond, order, limit))
    return _read(connection, _JOBS.where(*conditions, *beyond).order_by(order).limit(limit))


def job_conditions(organisation_id: int, wanted: JobConditions) -> list[ColumnElement[bool]]:
    """What a filter says about jobs of an organisation, their state aside."""
    conditions: list[ColumnElement[bool]] = []
    if wanted.reason is not None:
        conditions.append(jobs.c.reason == wanted.reason)
    if wanted.series_id is not None:
        conditions.append(jobs.c.series_id == wanted.series_id)
    if wanted.learner_external_id is not None:
        conditions.append(jobs.c.id.in_(_of_learner(organisation_id, wanted.learner_external_id)))
    if wanted.source is not None:
        conditions.append(jobs.c.source == wanted.source)
    if wanted.requested_by is not None:
        conditions.append(jobs.c.requested_by == wanted.requested_by)
    if wanted.held_because is not None:
        conditions.append(jobs.c.held_because == wanted.held_because)
    if wanted.created_before is not None:
        conditions.append(jobs.c.created_at < wanted.created_before)
    if wanted.created_after is not None:
        conditions.append(jobs.c.created_at > wanted.created_after)
    return conditions


def decided_per_second(connection: Connection, job_id: int) -> float:
    """How many enrolments of a job were decided each second, over the last half minute."""
    running = extract("epoch", func.least(func.now() - jobs.c.admitted_at, _WINDOW))
    statement = (
        select(func.coalesce(func.sum(job_chunks.c.size), 0) / func.greatest(running, 1))
        .join(job_chunks, job_chunks.c.job_id == jobs.c.id)
        .where(
            jobs.c.id == job_id,
            job_chunks.c.state.in_(("done", "failed")),
            job_chunks.c.closed_at > func.now() - _WINDOW,
        )
        .group_by(jobs.c.id)
    )
    return float(connection.scalar(statement) or 0)


def jobs_that_reinstate(connection: Connection, job_id: int) -> list[int]:
    """The jobs that take a job back, the first hundred."""
    statement = select(jobs.c.id).where(jobs.c.reinstates == job_id).order_by(jobs.c.id).limit(100)
    return list(connection.scalars(statement))


def _read(connection: Connection, statement: Executable, values: dict[str, Any] | None = None) -> list[Job]:
    rows = connection.execute(statement, values).mappings()
    return [Job(**{**row, "state": JobState(row["state"])}) for row in rows]
