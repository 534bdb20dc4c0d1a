"""What is known about one person: read for people, so each list is cut at the newest few."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Text, cast, false, null, select, text, true, union

from worker.ledger.fragments import CLOSED_WHOLE, UNFINISHED, among, sql_list
from worker.ledger.job_lists import count_open_letters
from worker.models import audit, dead_letters, enrolments, jobs, learners, outcomes, pathways, persons, receipts, series

Rows = list[dict[str, Any]]


def find_profile(connection: Connection, organisation_id: int, external_id: str) -> dict[str, Any] | None:
    """The learner as the platform has them. Ids are compared exactly."""
    statement = select(
        learners.c.id.label("learner_id"), learners.c.email, learners.c.display_name, learners.c.active
    ).where(learners.c.organisation_id == organisation_id, learners.c.external_id == external_id)
    row = connection.execute(statement).mappings().one_or_none()
    return dict(row) if row else None


def find_state(connection: Connection, organisation_id: int, external_id: str) -> dict[str, Any] | None:
    """The person as the events of all sources leave them."""
    statement = select(persons.c.active, persons.c.effective_at).where(
        persons.c.organisation_id == organisation_id, persons.c.external_id == external_id
    )
    row = connection.execute(statement).mappings().one_or_none()
    return dict(row) if row else None


def list_enrolments(connection: Connection, organisation_id: int, learner_id: int, *, most: int) -> Rows:
    """A learner's enrolments in all Series, newest first."""
    statement = (
        select(
            enrolments.c.id,
            enrolments.c.status,
            series.c.id.label("series_id"),
            series.c.code.label("series_code"),
            series.c.title.label("series_title"),
            pathways.c.title.label("pathway_title"),
            enrolments.c.enrolled_at,
            enrolments.c.withdrawn_at,
            enrolments.c.withdrawal_reason,
            enrolments.c.withdrawn_by,
        )
        .join(series, series.c.id == enrolments.c.series_id)
        .outerjoin(pathways, pathways.c.id == enrolments.c.pathway_id)
        .where(enrolments.c.learner_id == learner_id, enrolments.c.organisation_id == organisation_id)
    )
    return _rows(connection, statement.order_by(enrolments.c.id.desc()).limit(most))


def list_events(connection: Connection, organisation_id: int, external_id: str, *, most: int) -> Rows:
    """Events about a person, newest first: those that wait, then those that were applied.

    The receipt of an event that was applied names nobody, so that the audit tells of those.
    """
    waiting = select(
        receipts.c.type,
        receipts.c.door.label("source"),
        receipts.c.received_at.label("at"),
        cast(receipts.c.id, Text).label("receipt_id"),
        true().label("waits"),
    ).where(receipts.c.waiting, receipts.c.organisation_id == organisation_id, receipts.c.external_id == external_id)
    applied = select(
        audit.c.action.label("type"),
        audit.c.detail["source"].astext.label("source"),
        audit.c.at,
        null().cast(Text).label("receipt_id"),
        false().label("waits"),
    ).where(
        audit.c.organisation_id == organisation_id,
        audit.c.detail.has_key("external_id"),
        audit.c.detail["external_id"].astext == external_id,
        audit.c.action.startswith("user."),
    )
    found = _rows(connection, waiting.order_by(receipts.c.id.desc()).limit(most))
    return found + _rows(connection, applied.order_by(audit.c.id.desc()).limit(most - len(found)))


def list_outcomes(connection: Connection, organisation_id: int, enrolment_ids: Sequence[int], *, most: int) -> Rows:
    """What jobs did with these enrolments, newest job first: `job_id`, `enrolment_id`, `outcome`, `decided_at`."""
    statement = select(
        outcomes.c.job_id, outcomes.c.enrolment_id, outcomes.c.outcome, outcomes.c.decided_at, outcomes.c.dead_letter_id
    ).where(among(outcomes.c.enrolment_id, enrolment_ids), outcomes.c.organisation_id == organisation_id)
    return _rows(connection, statement.order_by(outcomes.c.job_id.desc(), outcomes.c.enrolment_id).limit(most))


# Each has an index by person. Of what was decided for others than HR the outcomes tell.
_JOBS_OF_PERSON = text(f"""
SELECT j.id AS job_id FROM withdrawals.jobs j
WHERE j.organisation_id = :organisation_id AND j.learner_external_id = CAST(:person AS text) AND j.source = 'hr'
UNION
SELECT c.job_id FROM withdrawals.job_chunks c WHERE c.state IN ({sql_list(UNFINISHED)})
    AND c.organisation_id = :organisation_id AND c.learner_external_id = CAST(:person AS text)
UNION
SELECT c.job_id FROM withdrawals.job_chunks c WHERE c.state IN ({sql_list(CLOSED_WHOLE)})
    AND c.organisation_id = :organisation_id AND c.learner_external_id = CAST(:person AS text)
ORDER BY 1 DESC LIMIT :most
""")


def list_jobs_of_person(connection: Connection, organisation_id: int, external_id: str, *, most: int) -> list[int]:
    """Jobs that name the person: their deactivations, and those of anybody that wait or were closed whole."""
    values = {"organisation_id": organisation_id, "person": external_id, "most": most}
    return list(connection.scalars(_JOBS_OF_PERSON, values))


def list_jobs(connection: Connection, organisation_id: int, job_ids: Sequence[int], *, most: int) -> Rows:
    """Jobs by id, newest first, with how many of their letters are not closed."""
    statement = select(
        jobs.c.id,
        jobs.c.kind,
        jobs.c.state,
        jobs.c.reason,
        jobs.c.reinstates,
        jobs.c.source,
        jobs.c.requested_by,
        jobs.c.note,
        jobs.c.created_at,
        jobs.c.effective_at,
        jobs.c.released_by,
        count_open_letters().label("open_dead_letters"),
    ).where(among(jobs.c.id, job_ids), jobs.c.organisation_id == organisation_id)
    return _rows(connection, statement.order_by(jobs.c.id.desc()).limit(most))


def list_letters(
    connection: Connection, organisation_id: int, external_id: str, enrolment_ids: Sequence[int], *, most: int
) -> list[int]:
    """Dead letters of a person and of these enrolments, newest first."""
    ours = select(dead_letters.c.id).where(dead_letters.c.organisation_id == organisation_id)
    of_person = ours.where(dead_letters.c.learner_external_id == external_id)
    of_enrolments = ours.where(among(dead_letters.c.enrolment_id, enrolment_ids))
    found = union(of_person, of_enrolments).subquery("found")
    return list(connection.scalars(select(found.c.id).order_by(found.c.id.desc()).limit(most)))


def list_acts(
    connection: Connection, organisation_id: int, job_ids: Sequence[int], letter_ids: Sequence[int], *, most: int
) -> Rows:
    """What people did to these jobs and letters after they were made, newest first."""
    columns = ("id", "at", "actor", "action", "note", "job_id", "dead_letter_id", "detail")
    acts = select(*(audit.c[name] for name in columns)).where(
        audit.c.organisation_id == organisation_id,
        audit.c.action.not_in(["job.submit", "job.reinstate", "outcome.replaced"]),
    )
    on_jobs = acts.where(among(audit.c.job_id, job_ids), audit.c.dead_letter_id.is_(None))
    on_letters = acts.where(among(audit.c.dead_letter_id, letter_ids))
    found = on_jobs.union_all(on_letters).subquery("found")
    return _rows(connection, select(found).order_by(found.c.id.desc()).limit(most))


# Of the newest approvals: they are kept for ever, and this reads what each was about.
_APPROVALS = text("""
SELECT id FROM (
    SELECT id, arguments FROM withdrawals.approvals WHERE organisation_id = :organisation_id ORDER BY id DESC LIMIT 5000
) a
WHERE (a.arguments ->> 'protection_id')::bigint = ANY(CAST(:protections AS bigint[]))
    OR EXISTS (SELECT FROM jsonb_array_elements_text(a.arguments -> 'letter_ids') letter(id)
        WHERE letter.id::bigint = ANY(CAST(:letters AS bigint[])))
    OR EXISTS (SELECT FROM jsonb_array_elements_text(a.arguments #> '{filter,ids}') job(id)
        WHERE job.id::bigint = ANY(CAST(:jobs AS bigint[])) AND a.arguments ? 'learners')
ORDER BY id DESC LIMIT :most
""")


def list_approvals(
    connection: Connection,
    organisation_id: int,
    *,
    job_ids: Sequence[int],
    letter_ids: Sequence[int],
    protection_ids: Sequence[int],
    most: int,
) -> list[int]:
    """Approvals that name one of these jobs, letters or protections, newest first."""
    values = {"jobs": list(job_ids), "letters": list(letter_ids), "protections": list(protection_ids)}
    return list(connection.scalars(_APPROVALS, {**values, "organisation_id": organisation_id, "most": most}))


def _rows(connection: Connection, statement: Any) -> Rows:
    return [dict(row) for row in connection.execute(statement).mappings()]
