"""The outcomes of a job as a list: those with rows, and the ids of chunks that were closed whole."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Select,
    Text,
    and_,
    any_,
    func,
    literal,
    select,
    true,
    union_all,
)

from schemas.catalogue import Outcome
from worker.ledger.fragments import CLOSED_WHOLE
from worker.models import Ids, enrolments, job_chunks, learners, outcomes, pathways, series

Rows = Select[*tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class ListedOutcome:
    """What happened to one enrolment of a job; to the person of a job that was closed whole (no enrolment)."""

    enrolment_id: int | None
    learner_external_id: str | None
    outcome: str
    prior_status: str | None
    pathway_id: int | None
    dead_letter_id: int | None
    decided_at: datetime | None
    reinstated_by: int | None
    """The job that took it back."""


def list_outcomes(
    connection: Connection, organisation_id: int, job_id: int, *, outcome: str | None, after: int, limit: int
) -> list[ListedOutcome]:
    """Outcomes by rising enrolment id, from the one behind `after` (0: from the first).

    An id has a row or lies in one chunk that was closed whole, never both.
    """
    parts = [
        _decided(organisation_id, job_id, outcome, after, limit),
        _closed_whole(organisation_id, job_id, outcome, after, limit),
    ]
    if after == 0:
        parts.append(_persons(organisation_id, job_id, outcome))
    found = union_all(*parts).subquery("found")
    rows = connection.execute(select(found).order_by(found.c.enrolment_id.nulls_first()).limit(limit))
    return [ListedOutcome(**row) for row in rows.mappings()]


def _decided(organisation_id: int, job_id: int, outcome: str | None, after: int, limit: int) -> Rows:
    """Outcomes that have a row."""
    conditions = [
        outcomes.c.job_id == job_id,
        outcomes.c.organisation_id == organisation_id,
        outcomes.c.enrolment_id > after,
    ]
    if outcome is not None:
        conditions.append(outcomes.c.outcome == outcome)
    page = select(outcomes).where(*conditions).order_by(outcomes.c.enrolment_id).limit(limit).subquery("decided")
    return select(
        page.c.enrolment_id,
        literal(None, Text).label("learner_external_id"),
        page.c.outcome,
        page.c.prior_status,
        page.c.pathway_id,
        page.c.dead_letter_id,
        page.c.decided_at,
        page.c.reinstated_by,
    )


def _closed_whole(organisation_id: int, job_id: int, outcome: str | None, after: int, limit: int) -> Rows:
    """The ids of chunks that were cancelled or superseded; one that failed has a row for its id.

    A chunk's ids are sorted and no two chunks of a job overlap, so the first `limit` of those chunks that reach beyond
    the cursor hold the page.
    """
    last_id = job_chunks.c.enrolment_ids[func.cardinality(job_chunks.c.enrolment_ids)]
    chunks = (
        select(job_chunks.c.enrolment_ids, job_chunks.c.state, job_chunks.c.closed_at)
        .where(*_closed(organisation_id, job_id, outcome), job_chunks.c.state != "failed", last_id > after)
        .order_by(job_chunks.c.enrolment_ids[1])
        .limit(limit)
        .subquery("whole")
    )
    ids = func.unnest(chunks.c.enrolment_ids).table_valued("id").render_derived(name="ids")
    return (
        select(
            ids.c.id,
            literal(None, Text),
            chunks.c.state,
            literal(None, Text),
            literal(None, BigInteger),
            literal(None, BigInteger),
            chunks.c.closed_at,
            literal(None, BigInteger),
        )
        .select_from(chunks.join(ids, true()))
        .where(ids.c.id > after)
    )


def _persons(organisation_id: int, job_id: int, outcome: str | None) -> Rows:
    """The person of a job that was closed whole."""
    return select(
        literal(None, BigInteger),
        job_chunks.c.learner_external_id,
        job_chunks.c.state,
        literal(None, Text),
        literal(None, BigInteger),
        job_chunks.c.dead_letter_id,
        job_chunks.c.closed_at,
        literal(None, BigInteger),
    ).where(*_closed(organisation_id, job_id, outcome), job_chunks.c.learner_external_id.is_not(None))


def _closed(organisation_id: int, job_id: int, outcome: str | None) -> list[ColumnElement[bool]]:
    conditions = [
        job_chunks.c.job_id == job_id,
        job_chunks.c.organisation_id == organisation_id,
        job_chunks.c.state.in_(CLOSED_WHOLE),
    ]
    if outcome is not None:
        conditions.append(job_chunks.c.state == outcome)
    return conditions


@dataclass(frozen=True, slots=True)
class NamedEnrolment:
    """An enrolment that a job is about, as the platform has it now; only its id where the platform has deleted it."""

    enrolment_id: int
    learner: str | None
    """The external id."""
    learner_name: str | None
    series_id: int | None
    series_title: str | None
    pathway_title: str | None
    status: str | None


def list_enrolments(
    connection: Connection, organisation_id: int, job_id: int, *, after: int, limit: int
) -> list[NamedEnrolment]:
    """The enrolments that a job's chunks name, decided or not, by rising id, from the one behind `after`.

    A chunk that was split is left out, since its halves name the same. As in `_closed_whole`, the first `limit` chunks
    that reach beyond the cursor hold the page.
    """
    last_id = job_chunks.c.enrolment_ids[func.cardinality(job_chunks.c.enrolment_ids)]
    chunks = (
        select(job_chunks.c.enrolment_ids)
        .where(
            job_chunks.c.job_id == job_id,
            job_chunks.c.organisation_id == organisation_id,
            job_chunks.c.state != "split",
            last_id > after,
        )
        .order_by(job_chunks.c.enrolment_ids[1])
        .limit(limit)
        .subquery("chunks_behind")
    )
    ids = func.unnest(chunks.c.enrolment_ids).table_valued("id").render_derived(name="ids")
    page = (
        select(ids.c.id)
        .select_from(chunks.join(ids, true()))
        .where(ids.c.id > after)
        .order_by(ids.c.id)
        .limit(limit)
        .subquery("page")
    )
    same = and_(enrolments.c.id == page.c.id, enrolments.c.organisation_id == organisation_id)
    statement = (
        select(
            page.c.id.label("enrolment_id"),
            learners.c.external_id.label("learner"),
            learners.c.display_name.label("learner_name"),
            series.c.id.label("series_id"),
            series.c.title.label("series_title"),
            pathways.c.title.label("pathway_title"),
            enrolments.c.status,
        )
        .select_from(
            page.outerjoin(enrolments, same)
            .outerjoin(learners, learners.c.id == enrolments.c.learner_id)
            .outerjoin(series, series.c.id == enrolments.c.series_id)
            .outerjoin(pathways, pathways.c.id == enrolments.c.pathway_id)
        )
        .order_by(page.c.id)
    )
    return [NamedEnrolment(**row) for row in connection.execute(statement).mappings()]


def count_statuses(connection: Connection, organisation_id: int, job_id: int) -> dict[str | None, int]:
    """How many of the enrolments that a job's chunks name have each status now; None: not on the platform.

    It reads all of them.
    """
    chunks = select(job_chunks.c.enrolment_ids).where(
        job_chunks.c.job_id == job_id, job_chunks.c.organisation_id == organisation_id, job_chunks.c.state != "split"
    )
    named = chunks.subquery("named")
    ids = func.unnest(named.c.enrolment_ids).table_valued("id").render_derived(name="ids")
    same = and_(enrolments.c.id == ids.c.id, enrolments.c.organisation_id == organisation_id)
    count = func.count()
    statement = (
        select(enrolments.c.status, count)
        .select_from(named.join(ids, true()).outerjoin(enrolments, same))
        .group_by(enrolments.c.status)
        .order_by(count.desc(), enrolments.c.status)
    )
    return {row[0]: row[1] for row in connection.execute(statement)}


@dataclass(frozen=True, slots=True)
class EnrolmentNames:
    """Whose enrolment it is, and in what."""

    learner: str
    """The external id."""
    learner_name: str | None
    series_id: int
    series_title: str
    status: str


def find_names(connection: Connection, organisation_id: int, enrolment_ids: Sequence[int]) -> dict[int, EnrolmentNames]:
    """Learner and Series of enrolments of an organisation; without those that the platform has deleted."""
    statement = (
        select(
            enrolments.c.id,
            learners.c.external_id.label("learner"),
            learners.c.display_name.label("learner_name"),
            series.c.id.label("series_id"),
            series.c.title.label("series_title"),
            enrolments.c.status,
        )
        .join(learners, learners.c.id == enrolments.c.learner_id)
        .join(series, series.c.id == enrolments.c.series_id)
        .where(
            enrolments.c.id == any_(literal(list(enrolment_ids), Ids)), enrolments.c.organisation_id == organisation_id
        )
    )
    rows = connection.execute(statement).mappings()
    return {row["id"]: EnrolmentNames(**{name: row[name] for name in EnrolmentNames.__slots__}) for row in rows}


def list_series(connection: Connection, organisation_id: int, job_id: int) -> list[tuple[int, str, int]]:
    """The Series that a job withdrew from: id, title, and how many of its withdrawals were not taken back.

    The first 500 by title.
    """
    same = and_(enrolments.c.id == outcomes.c.enrolment_id, enrolments.c.organisation_id == outcomes.c.organisation_id)
    statement = (
        select(series.c.id, series.c.title, func.count())
        .select_from(outcomes.join(enrolments, same).join(series, series.c.id == enrolments.c.series_id))
        .where(
            outcomes.c.job_id == job_id,
            outcomes.c.organisation_id == organisation_id,
            outcomes.c.outcome == Outcome.WITHDRAWN,
            outcomes.c.reinstated_by.is_(None),
        )
        .group_by(series.c.id)
        .order_by(series.c.title, series.c.id)
        .limit(500)
    )
    return [(id_, title, count) for id_, title, count in connection.execute(statement)]


def find_learner_id(connection: Connection, organisation_id: int, external_id: str) -> int | None:
    """The learner of an external id."""
    return connection.scalar(
        select(learners.c.id).where(
            learners.c.organisation_id == organisation_id, learners.c.external_id == external_id
        )
    )
