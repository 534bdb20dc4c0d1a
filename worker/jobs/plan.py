"""The dry run of a job, by the rules that decide it; and whether a job still does what its plan said.

`plan_hash` is a sealed token over organisation, selection, reason, counts and time. It is compared inside
`submit`'s transaction, over the chunks that the job has just been frozen into.
"""

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection

from schemas import answers
from schemas.catalogue import Outcome
from schemas.jobs import JobRequest
from worker.access.sealing import Seal
from worker.code_words import said
from worker.config import settings
from worker.database import Database
from worker.errors import (
    ConflictError,
    InvalidInputError,
    NotFoundError,
    PlanDriftedError,
    PlanExpiredError,
    PlanMismatchError,
)
from worker.jobs.forecast import forecast
from worker.jobs.selection import Selection, selection_of
from worker.ledger import job_lists
from worker.ledger import plan as ledger
from worker.ledger.plan import Preview
from worker.ledger.protections import find_last
from worker.records import Job, describe_protection
from worker.texts import joined, plainly, text

GOOD_FOR = timedelta(hours=24)
"""A plan of a day ago is made again."""
HELD_WITH_SAMPLES = 5
"""Held jobs of which a plan shows some enrolments. There may be hundreds, each about one learner."""


@dataclass(frozen=True, slots=True)
class Planned:
    """What a plan said, opened."""

    outcomes: dict[str, int]


def of_request(database: Database, organisation_id: int, request: JobRequest, *, door: str = "api") -> answers.Plan:
    """The plan of a job over ids, a filter or a person. `door`: through which it would come."""
    with database.begin() as connection:
        return of_selection(
            connection, organisation_id, selection_of(request), request.reason, door=door, source=request.source
        )


def of_job(database: Database, organisation_id: int, job_id: int) -> answers.Plan:
    """What a job would do now with what of it is not decided yet: for who is to release it.

    Raises:
        NotFoundError: there is no such job in this organisation.
        ConflictError: it has ended, or it is a reinstate.
    """
    with database.begin() as connection:
        job = job_lists.find_job(connection, organisation_id, job_id)
        if job is None:
            raise NotFoundError(text("there is no job {job_id} in this organisation", job_id=job_id))
        if job.finished_at is not None:
            raise ConflictError(
                text("job {job_id} is {state}: nothing of it is left to plan", job_id=job_id, state=said(job.state))
            )
        if job.reason is None:
            raise ConflictError(
                text("job {job_id} takes withdrawals back; only a job that withdraws can be planned", job_id=job_id)
            )
        found = _of_job(connection, job)
        return _answer(connection, organisation_id, found, 0, f"job:{job.id}", job.reason, door="", source=job.source)


def open_plan(organisation_id: int, reason: str | None, selection: Selection, plan_hash: str | None) -> Planned | None:
    """What the plan of a request said, None for a request without one.

    Raises:
        InvalidInputError: no plan of this organisation gave this hash.
        PlanExpiredError: the plan is older than a day.
        PlanMismatchError: it was made for another selection or reason.
    """
    if plan_hash is None:
        return None
    seal = Seal(settings(), "plan")
    sealed = seal.open(plan_hash)
    found = json.loads(sealed) if sealed else None
    if found is None or found["organisation"] != organisation_id:
        raise InvalidInputError(
            text("plan_hash: not the hash of a plan of this organisation. Plan again and use the new one.")
        )
    if seal.open(plan_hash, within=int(GOOD_FOR.total_seconds())) is None:
        raise PlanExpiredError(text("the plan is older than a day; plan again and look at what would happen now"))
    now = {"reason": reason, "selection": selection.digest()}
    different = [name for name, value in now.items() if found[name] != value]
    if different:
        raise PlanMismatchError(
            text(
                "the plan was made for another {different}; plan this one and look at it",
                different=joined(map(plainly, different), " and "),
            )
        )
    return Planned(found["outcomes"])


def read_counts(organisation_id: int, plan_hash: str) -> dict[str, int] | None:
    """How many enrolments have each outcome by a plan of an organisation; None: this is not the hash of one."""
    sealed = Seal(settings(), "plan").open(plan_hash)
    found = json.loads(sealed) if sealed else None
    return found["outcomes"] if found and found["organisation"] == organisation_id else None


def compare(connection: Connection, organisation_id: int, job_id: int, planned: Planned) -> None:
    """Refuse a job, just frozen, whose outcomes are no longer those of its plan.

    Raises:
        PlanDriftedError: more of them than `plan_drift` allows would be others.
    """
    job = job_lists.find_job(connection, organisation_id, job_id)
    assert job is not None  # noqa: S101 - the caller has just written it
    now = _of_job(connection, job).outcomes
    moved = {name: now.get(name, 0) - planned.outcomes.get(name, 0) for name in {*now, *planned.outcomes}}
    more, fewer = sum(n for n in moved.values() if n > 0), -sum(n for n in moved.values() if n < 0)
    allowed = int(settings().plan_drift * sum(planned.outcomes.values()))
    if max(more, fewer) > allowed:
        raise PlanDriftedError(
            text(
                "{count:,} of {total:,} outcomes are no longer those of the plan, {allowed:,} may be; plan again "
                "and look at what would happen now",
                count=max(more, fewer),
                total=sum(planned.outcomes.values()),
                allowed=allowed,
            ),
            planned=planned.outcomes,
            now=now,
        )


def _of_job(connection: Connection, job: Job) -> Preview:
    if job.learner_external_id is not None:
        return ledger.by_person(connection, job.organisation_id, job.learner_external_id, is_job=True)
    return ledger.by_job(connection, job.organisation_id, job.id)


def of_selection(
    connection: Connection, organisation_id: int, selection: Selection, reason: str, *, door: str, source: str
) -> answers.Plan:
    """The plan of a job over what is selected, in the caller's transaction. `door`: through which it would come."""
    found = selection.preview(connection, organisation_id)
    duplicates = selection.count(found.accepted).duplicates
    return _answer(connection, organisation_id, found, duplicates, selection.digest(), reason, door=door, source=source)


def _answer(
    connection: Connection,
    organisation_id: int,
    found: Preview,
    duplicates: int,
    selected: str,
    reason: str,
    *,
    door: str,
    source: str,
) -> answers.Plan:
    held = sorted(found.waiting.items(), key=lambda one: (-one[1].enrolments, one[0]))
    shown = [one.sample if place < HELD_WITH_SAMPLES else [] for place, (_, one) in enumerate(held)]
    sampled = [one for ids in (*found.samples.values(), *shown) for one in ids]
    named = ledger.names(connection, organisation_id, sampled)
    withdrawn, series_of = found.withdrawn_learners, found.withdrawn_of_series
    brake = forecast(connection, organisation_id, learners=withdrawn, door=door, source=source, series_of=series_of)
    body = {"organisation": organisation_id, "selection": selected, "reason": reason, "outcomes": found.outcomes}
    expires_at = datetime.now(UTC).replace(microsecond=0) + GOOD_FOR  # the seal has whole seconds
    return answers.Plan(
        plan_hash=Seal(settings(), "plan").seal(json.dumps(body).encode()),
        expires_at=expires_at,
        accepted=found.accepted,
        duplicates=duplicates,
        outcomes=found.outcomes,
        samples={
            outcome: [
                _sample(one, named.get(one), _protection(connection, organisation_id, outcome, one)) for one in ids
            ]
            for outcome, ids in found.samples.items()
        },
        learners=found.learners,
        brake=brake.holds,
        brake_why=brake.why if brake.holds else None,
        brake_forecast=brake,
        waiting=[
            answers.PlanWaiting(
                job_id=job_id,
                enrolments=one.enrolments,
                samples=[_sample(enrolment, named.get(enrolment), None) for enrolment in ids],
            )
            for (job_id, one), ids in zip(held, shown, strict=True)
        ],
        more_held=found.more_held,
        letters=list(found.letters),
        more_letters=found.more_letters,
    )


def _sample(enrolment_id: int, titles: tuple[str, str | None] | None, protection: str | None) -> answers.PlanSample:
    series, pathway = titles or (None, None)
    return answers.PlanSample(
        enrolment_id=enrolment_id, series_title=series, pathway_title=pathway, protection=protection
    )


def _protection(connection: Connection, organisation_id: int, outcome: str, enrolment_id: int) -> str | None:
    if outcome != Outcome.PROTECTED:
        return None
    found = find_last(connection, organisation_id, enrolment_id)
    return describe_protection(found.kind, found.until.isoformat() if found.until else None) if found else None
