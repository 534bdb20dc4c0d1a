"""What a job would do: the rules of `decide` over a selection, counted; nothing is locked or written."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from sqlalchemy import (
    CTE,
    BigInteger,
    ColumnElement,
    Connection,
    Select,
    and_,
    exists,
    func,
    literal,
    literal_column,
    or_,
    select,
    text,
    tuple_,
    union_all,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.sql.expression import false

from schemas.catalogue import Outcome
from schemas.jobs import Filter
from worker.ledger import enrolment_filter, held_jobs, owned
from worker.ledger.decide import RULES
from worker.ledger.fragments import UNFINISHED
from worker.models import Ids, enrolments, job_chunks, learners, pathways, protections, series
from worker.rules import ENDED, WITHDRAWN

SAMPLES = 5
"""Enrolments shown for each outcome."""
SERIES = 3
"""Series shown of a held job."""


class AlsoHeld(NamedTuple):
    """Of what would be withdrawn, what a held job names as well: how many enrolments, and some of them."""

    enrolments: int
    sample: list[int]


@dataclass(frozen=True, slots=True)
class Preview:
    """The outcomes that a selection would have now, some of its enrolments for each, and its distinct learners."""

    outcomes: dict[str, int]
    samples: dict[str, list[int]]
    learners: int
    withdrawn_learners: int = 0
    """Those of whom anything would be withdrawn, which is what the brake counts."""
    withdrawn_of_series: Mapping[int, int] = field(default_factory=dict)
    """Enrolments of each Series that would be withdrawn; a learner has one at the most."""
    waiting: Mapping[int, AlsoHeld] = field(default_factory=dict)
    """By held job."""
    more_held: bool = False
    """Whether there are held jobs that were not looked at for it."""
    letters: Sequence[int] = ()
    """Live letters about those that a Learning Pathway owns, as many as are named."""
    more_letters: bool = False

    @property
    def accepted(self) -> int:
        return sum(self.outcomes.values())


def by_list(connection: Connection, organisation_id: int, given: Sequence[int]) -> Preview:
    """A job over these ids."""
    return _preview(connection, organisation_id, select(func.unnest(literal(list(given), Ids)).label("id")).distinct())


def by_staged(connection: Connection, organisation_id: int) -> Preview:
    """A job over the staged ids."""
    staged = select(literal_column("enrolment_id", BigInteger).label("id")).select_from(text("pg_temp.staged"))
    return _preview(connection, organisation_id, staged.distinct())


def by_query(connection: Connection, organisation_id: int, ids: Select[Any]) -> Preview:
    """A job over what a query finds (one column `id`, distinct)."""
    return _preview(connection, organisation_id, ids)


def by_filter(connection: Connection, organisation_id: int, conditions: Filter) -> Preview:
    """A job over what this filter finds."""
    return _preview(connection, organisation_id, enrolment_filter.ids(organisation_id, conditions))


def by_person(connection: Connection, organisation_id: int, external_id: str, *, is_job: bool = False) -> Preview:
    """A job over a learner; one whom the platform does not know goes to support as `failed`.

    `is_job`: it is a job already, so what waits in held jobs is not asked.
    """
    is_theirs = and_(learners.c.organisation_id == organisation_id, learners.c.external_id == external_id)
    ids = (
        select(enrolments.c.id)
        .join(learners, and_(learners.c.id == enrolments.c.learner_id))
        .where(is_theirs, enrolments.c.organisation_id == organisation_id)
        .where(enrolments.c.status.not_in([WITHDRAWN, *ENDED]))
    )
    found = _preview(connection, organisation_id, ids, is_job=is_job)
    known = connection.scalar(select(exists().where(is_theirs)))
    return replace(found, outcomes=found.outcomes if known else {"failed": 1}, learners=1)


def by_job(connection: Connection, organisation_id: int, job_id: int) -> Preview:
    """What of a job over ids is not decided yet."""
    ids = select(func.unnest(job_chunks.c.enrolment_ids).label("id")).where(
        job_chunks.c.job_id == job_id, job_chunks.c.state.in_(UNFINISHED)
    )
    return _preview(connection, organisation_id, ids, is_job=True)


@dataclass(frozen=True, slots=True)
class HeldPreview:
    """The outcomes that a held job would have now, and the titles of its Series, the largest first."""

    outcomes: dict[str, int] = field(default_factory=dict)
    series: list[str] = field(default_factory=list)
    more_series: int = 0
    """How many Series it has besides."""


def by_held_jobs(connection: Connection, organisation_id: int, job_ids: Sequence[int]) -> dict[int, HeldPreview]:
    """What each of some held jobs would do now; of as many as are looked at together."""
    fitting = held_jobs.list_fitting(connection, organisation_id, job_ids)
    if not fitting:
        return {}
    verdicts = _verdicts(organisation_id, held_jobs.named(organisation_id, fitting).cte("ids")).subquery("verdicts")
    job, outcome, of_series = verdicts.c.job_id, verdicts.c.outcome, verdicts.c.series_id
    number = func.count()
    groups = (
        select(job, outcome, of_series, (func.grouping(outcome) == 0).label("is_outcome"), number.label("n"))
        .group_by(func.grouping_sets(tuple_(job, outcome), tuple_(job, of_series)))
        .having(or_(func.grouping(outcome) == 0, of_series.is_not(None)))
        .subquery("groups")
    )
    its = (groups.c.job_id, groups.c.is_outcome)
    place = func.row_number().over(partition_by=its, order_by=(groups.c.n.desc(), groups.c.series_id))
    of_all = func.count().over(partition_by=its)
    ranked = select(*groups.c, place.label("place"), of_all.label("of_all")).subquery("ranked")
    title = select(series.c.title).where(series.c.organisation_id == organisation_id, series.c.id == ranked.c.series_id)
    shown = select(*ranked.c, title.scalar_subquery().label("title")).where(
        or_(ranked.c.is_outcome, ranked.c.place <= SERIES)
    )
    found = {job_id: HeldPreview() for job_id in fitting}
    for row in connection.execute(shown.order_by(ranked.c.job_id, ranked.c.place)):
        if row.is_outcome:
            found[row.job_id].outcomes[row.outcome] = int(row.n)
        else:
            found[row.job_id].series.append(row.title)
            found[row.job_id] = replace(found[row.job_id], more_series=max(0, row.of_all - SERIES))
    return found


def names(connection: Connection, organisation_id: int, ids: Sequence[int]) -> dict[int, tuple[str, str | None]]:
    """Titles of the Series and the pathway, if any, of enrolments of an organisation."""
    found = (
        select(enrolments.c.id, series.c.title, pathways.c.title)
        .join(series, series.c.id == enrolments.c.series_id)
        .outerjoin(pathways, pathways.c.id == enrolments.c.pathway_id)
        .where(enrolments.c.id.in_(ids), enrolments.c.organisation_id == organisation_id)
    )
    return {row[0]: (row[1], row[2]) for row in connection.execute(found)}


def _verdicts(organisation_id: int, ids: CTE) -> Select[Any]:
    """What the rules say of each id, beside the other columns of `ids`."""
    guarded = exists().where(protections.c.organisation_id == organisation_id, protections.c.ends_at > func.now())
    a = select(
        *ids.c,
        false().label("superseded"),
        false().label("override"),
        literal(None, BigInteger).label("override_pathway"),
        guarded.label("guarded"),
    ).subquery("a")
    e = enrolments.alias("e")
    of_organisation = and_(e.c.id == a.c.id, e.c.organisation_id == organisation_id)
    given = [a.c[column.name] for column in ids.c]
    return select(*given, e.c.learner_id, e.c.series_id, literal_column(RULES).label("outcome")).select_from(
        a.outerjoin(e, of_organisation)
    )


def _preview(connection: Connection, organisation_id: int, selected: Select[Any], *, is_job: bool = False) -> Preview:
    # Grouped three times in the one pass: the learners and the Series need no second look at every id.
    held, more_held = ([], False) if is_job else held_jobs.list_newest(connection, organisation_id)
    verdicts = _verdicts(organisation_id, selected.cte("ids")).cte("verdicts")
    outcome, learner, of_series = verdicts.c.outcome, verdicts.c.learner_id, verdicts.c.series_id
    groups = (
        select(
            outcome,
            learner,
            of_series,
            (func.grouping(outcome) == 0).label("is_outcome"),
            func.count().label("n"),
            func.array_agg(verdicts.c.id)[1:SAMPLES].label("sample"),
            func.count().filter(outcome == Outcome.WITHDRAWN).label("withdrawn"),
        )
        .group_by(func.grouping_sets(outcome, learner, of_series))
        .cte("groups")
    )
    of_learners = select(func.count()).where(~groups.c.is_outcome, groups.c.learner_id.is_not(None))
    learners_found = of_learners.scalar_subquery().label("learners")
    withdrawn = of_learners.where(groups.c.withdrawn > 0).scalar_subquery().label("withdrawn_learners")
    by_series = (
        select(func.jsonb_object_agg(groups.c.series_id, groups.c.withdrawn))
        .where(groups.c.series_id.is_not(None), groups.c.withdrawn > 0)
        .scalar_subquery()
        .label("by_series")
    )
    waiting = _waiting(organisation_id, verdicts, held) if held else literal(None, JSONB)
    rows = connection.execute(
        select(
            groups.c.outcome,
            groups.c.n,
            groups.c.sample,
            learners_found,
            withdrawn,
            by_series,
            waiting.label("waiting"),
        )
        .where(groups.c.is_outcome)
        .order_by(groups.c.outcome)
    ).all()
    outcomes = {row.outcome: int(row.n) for row in rows}
    letters, more_letters = list[int](), False
    if Outcome.PATHWAY_OWNED in outcomes and not is_job:
        letters, more_letters = owned.list_letters(connection, organisation_id, selected)
    return Preview(
        outcomes,
        {row.outcome: sorted(row.sample) for row in rows},
        int(rows[0].learners) if rows else 0,
        int(rows[0].withdrawn_learners) if rows else 0,
        {int(series_id): n for series_id, n in (rows[0].by_series or {}).items()} if rows else {},
        {int(job_id): AlsoHeld(n, sorted(ids)) for job_id, (n, ids) in (rows[0].waiting or {}).items()} if rows else {},
        more_held,
        letters,
        more_letters,
    )


def _waiting(organisation_id: int, verdicts: CTE, held: Sequence[int]) -> ColumnElement[Any]:
    """How many of those that would be withdrawn each of these held jobs names, and some of them.

    Both are sorted together by enrolment. A join of what has no statistics was planned as one look at all that held
    jobs name for each enrolment of the selection.
    """
    named = held_jobs.named(organisation_id, held).subquery("also_named")
    withdrawn = select(verdicts.c.id, literal(None, BigInteger).label("job_id"))
    both = union_all(
        withdrawn.where(verdicts.c.outcome == Outcome.WITHDRAWN), select(named.c.id, named.c.job_id)
    ).subquery("both_named")
    would_be = func.bool_or(both.c.job_id.is_(None)).over(partition_by=both.c.id).label("would_be")
    marked = select(both.c.job_id, both.c.id, would_be).subquery("marked")
    counted = (
        select(marked.c.job_id, func.count().label("n"), func.array_agg(marked.c.id)[1:SAMPLES].label("sample"))
        .where(marked.c.job_id.is_not(None), marked.c.would_be)
        .group_by(marked.c.job_id)
        .subquery("counted")
    )
    each = func.jsonb_build_array(counted.c.n, counted.c.sample)
    return select(func.jsonb_object_agg(counted.c.job_id, each)).scalar_subquery()
