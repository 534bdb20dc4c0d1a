"""The decision of a reinstate, in sets: lock learners, then (with every other chunk's) enrolments, decide, write.

As in `worker/ledger/decide.py` the deciding statement comes after the locks, so that it sees what they hold.
The learners' locks keep two reinstates of one learner apart, and a reinstate and a deactivation. They also keep out a
new enrolment of the platform whose insert refers to the learner. Any other change of the platform can slip in until the
write itself: then the unique index refuses it, and the whole transaction is tried again.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import (
    ColumnElement,
    Connection,
    FromClause,
    Select,
    and_,
    any_,
    case,
    distinct,
    func,
    literal,
    literal_column,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import aggregate_order_by

from schemas.catalogue import Outcome
from schemas.reinstate import ReinstateFilter
from worker.ledger import enrolment_filter
from worker.ledger.fragments import UNFINISHED, load_sql, plan_by_index, sql_list
from worker.ledger.plan import SAMPLES, Preview
from worker.models import Ids, enrolments, jobs, learners, outcomes
from worker.records import Decided
from worker.rules import ACTIVE, WITHDRAWN

# Each lock is taken inside the lateral select, in the order of `found`, on a learner of the chunk's own organisation.
_LOCK_LEARNERS = text("""
WITH asked AS MATERIALIZED (
    SELECT c.organisation_id, unnest(c.enrolment_ids) AS id FROM withdrawals.chunks c WHERE c.id = ANY(:chunks)
), found AS MATERIALIZED (
    SELECT organisation_id, id FROM (
        SELECT a.organisation_id, e.learner_id AS id FROM asked a CROSS JOIN LATERAL (
            SELECT e.learner_id FROM lms.enrolments e
            WHERE e.id = a.id AND e.organisation_id = a.organisation_id OFFSET 0) e
        UNION
        SELECT p.organisation_id, p.id FROM withdrawals.chunks c
        JOIN lms.learners p ON p.organisation_id = c.organisation_id AND p.external_id = c.learner_external_id
        WHERE c.id = ANY(:persons)) f
    ORDER BY id
)
SELECT k.id FROM found f CROSS JOIN LATERAL (SELECT l.id FROM lms.learners l
    WHERE l.id = f.id AND l.organisation_id = f.organisation_id FOR UPDATE) k
""")


def lock_learners(connection: Connection, chunk_ids: Sequence[int], person_chunk_ids: Sequence[int]) -> list[int]:
    """Lock the learners of reinstate chunks, with those of the person chunks claimed beside them, in one order."""
    values = {"chunks": list(chunk_ids), "persons": list(person_chunk_ids)}
    return list(connection.scalars(_LOCK_LEARNERS, values))


# Over the job `w` to take back, its outcome, the enrolment and its learner `l`. `{newer}`: whether the same job
# reinstates a newer enrolment with the same learner, Series and pathway.
_RULES = f"""CASE
    WHEN {{outcome}}.enrolment_id IS NULL OR l.id IS NULL OR ({{enrolment}}.status, {{enrolment}}.withdrawn_at,
            {{enrolment}}.withdrawal_reason, {{enrolment}}.withdrawn_by)
        IS DISTINCT FROM ('{WITHDRAWN}', {{outcome}}.decided_at, w.reason, w.requested_by) THEN 'changed_since'
    WHEN NOT l.active THEN 'learner_inactive'
    WHEN EXISTS (SELECT 1 FROM lms.enrolments x WHERE x.learner_id = {{enrolment}}.learner_id
        AND x.series_id = {{enrolment}}.series_id AND x.pathway_id IS NOT DISTINCT FROM {{enrolment}}.pathway_id
        AND x.status IN ({sql_list(ACTIVE)}))
        OR {{newer}} THEN 'enrolled_again'
    ELSE 'reinstated' END"""

# A newer enrolment with the same learner, Series and pathway that lies in a chunk of this job which is not decided yet.
# `+ 0`: found by its learner. A Series has a million enrolments, and the planner would read its index for each row.
_NEWER = f"""EXISTS (
    SELECT FROM (SELECT f.id, f.withdrawn_at FROM lms.enrolments f WHERE f.learner_id = e.learner_id
        AND f.series_id + 0 = e.series_id AND f.pathway_id IS NOT DISTINCT FROM e.pathway_id
        AND (f.enrolled_at, f.id) > (e.enrolled_at, e.id) AND f.status = '{WITHDRAWN}'
        AND f.withdrawal_reason = w.reason AND f.withdrawn_by = w.requested_by OFFSET 0) f
    CROSS JOIN LATERAL (SELECT FROM withdrawals.outcomes n WHERE n.job_id = a.reinstates AND n.enrolment_id = f.id
        AND n.outcome = 'withdrawn' AND n.reinstated_by IS NULL AND n.decided_at = f.withdrawn_at OFFSET 0) n
    WHERE EXISTS (SELECT FROM withdrawals.job_chunks m WHERE m.job_id = a.job_id AND f.id = ANY(m.enrolment_ids)
        AND m.state IN ({sql_list(UNFINISHED)})))"""

_DECIDE = load_sql("reinstate.sql", rules=_RULES.format(outcome="o", enrolment="e", newer=_NEWER), withdrawn=WITHDRAWN)


def decide(
    connection: Connection, chunk_ids: Sequence[int], *, learners: Sequence[int], locked: Sequence[int]
) -> list[Decided]:
    """Decide locked chunks over locked learners and enrolments; write enrolments, outcomes, audit and chunks.

    An integrity error of the unique index means that an enrolment slipped in: roll back, and decide again.

    Raises:
        RuntimeError: an enrolment that was locked as withdrawn was not reinstated.
    """
    values = {"chunks": list(chunk_ids), "learners": list(learners), "locked": list(locked)}
    rows = connection.execute(_DECIDE, values).all()
    if rows and not rows[0].changed == rows[0].taken_back == rows[0].reinstated:
        raise RuntimeError("an enrolment that was locked as withdrawn was not reinstated")
    return [Decided(row.chunk_id, row.job_id, row.counts) for row in rows]


@dataclass(frozen=True, slots=True)
class Undone:
    """A job that somebody wants to take back."""

    kind: str
    state: str
    has_work_left: bool


# A job has a thousand chunks and more, which the undo of one enrolment does not read.
_UNDONE = text(f"""
SELECT j.kind, j.state, j.finished_at IS NULL OR EXISTS (SELECT 1 FROM withdrawals.job_chunks c
    WHERE c.job_id = j.id AND c.state IN ({sql_list(UNFINISHED)}) OFFSET 0) AS has_work_left
FROM withdrawals.jobs j WHERE j.id = :job_id AND j.organisation_id = :organisation_id
""")


def find_undone(connection: Connection, organisation_id: int, job_id: int) -> Undone | None:
    """What decides whether a job can be taken back; None: this organisation has no such job."""
    plan_by_index(connection)
    row = connection.execute(_UNDONE, {"job_id": job_id, "organisation_id": organisation_id}).mappings().one_or_none()
    return Undone(**row) if row else None


def still_withdrawn(organisation_id: int, job_id: int, part: ReinstateFilter | None) -> Select[int]:
    """The ids (`id`) of what a job withdrew and nobody took back, or of a part of it.

    Without conditions on the enrolment also those whose enrolment is gone since.
    """
    return (
        select(outcomes.c.enrolment_id.label("id"))
        .select_from(_outcomes_and_enrolments(organisation_id))
        .where(*_selects(job_id, part))
    )


def preview(connection: Connection, organisation_id: int, job_id: int, part: ReinstateFilter | None) -> Preview:
    """The outcomes that a reinstate would have now; nothing is locked or written."""
    verdict = _RULES.format(outcome="withdrawals.outcomes", enrolment="lms.enrolments", newer="false")
    job, learner = jobs.alias("w"), learners.alias("l")
    # MATERIALIZED: the job's outcomes are read once. The planner has no statistics of a job that has just ended; it
    # takes its outcomes for a few, and would read them again for each row of the steps that follow.
    seen = (
        select(
            outcomes.c.enrolment_id,
            enrolments.c.learner_id,
            enrolments.c.series_id,
            enrolments.c.pathway_id,
            enrolments.c.enrolled_at,
            literal_column(verdict).label("verdict"),
        )
        .select_from(
            _outcomes_and_enrolments(organisation_id)
            .join(job, job.c.id == outcomes.c.job_id)
            .outerjoin(learner, learner.c.id == enrolments.c.learner_id)
        )
        .where(*_selects(job_id, part))
        .cte("seen")
        .prefix_with("MATERIALIZED")
    )
    key = (seen.c.verdict, seen.c.learner_id, seen.c.series_id, seen.c.pathway_id)
    newest_first = (seen.c.enrolled_at.desc(), seen.c.enrolment_id.desc())
    nth_newest = func.row_number().over(partition_by=key, order_by=newest_first)
    ranked = select(seen, nth_newest.label("nth_newest")).subquery("ranked")
    is_older = and_(ranked.c.verdict == Outcome.REINSTATED, ranked.c.nth_newest > 1)
    outcome = case((is_older, Outcome.ENROLLED_AGAIN.value), else_=ranked.c.verdict).label("outcome")
    decided = select(ranked.c.enrolment_id, outcome).subquery("decided")
    ids = func.array_agg(aggregate_order_by(decided.c.enrolment_id, decided.c.enrolment_id), type_=Ids)
    found = connection.execute(
        select(decided.c.outcome, func.count().label("n"), ids[1:SAMPLES].label("sample"))
        .group_by(decided.c.outcome)
        .order_by(decided.c.outcome)
    ).all()
    return Preview(
        {row.outcome: int(row.n) for row in found},
        {row.outcome: list(row.sample) for row in found},
        _count_learners(connection, organisation_id, job_id, part),
    )


def _count_learners(connection: Connection, organisation_id: int, job_id: int, part: ReinstateFilter | None) -> int:
    statement = (
        select(func.count(distinct(enrolments.c.learner_id)))
        .select_from(_outcomes_and_enrolments(organisation_id))
        .where(*_selects(job_id, part))
    )
    return int(connection.scalar(statement) or 0)


def _outcomes_and_enrolments(organisation_id: int) -> FromClause:
    same = and_(enrolments.c.id == outcomes.c.enrolment_id, enrolments.c.organisation_id == organisation_id)
    return outcomes.outerjoin(enrolments, same)


def _selects(job_id: int, part: ReinstateFilter | None) -> list[ColumnElement[bool]]:
    conditions = [
        outcomes.c.job_id == job_id,
        outcomes.c.outcome == Outcome.WITHDRAWN,
        outcomes.c.reinstated_by.is_(None),
    ]
    if part is None:
        return conditions
    if part.enrolment_ids is not None:
        conditions.append(outcomes.c.enrolment_id == any_(literal(part.enrolment_ids, Ids)))
    return conditions + enrolment_filter.conditions(part)
