"""The dry run of a job, by the rules that decide it; and whether a job still does what its plan said.

`plan_hash` is a sealed token over organisation, selection, reason, counts and time. It is compared inside
`submit`'s transaction, over the chunks that the job has just been frozen into.
"""

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection

from schemas import answers
from schemas.jobs import FileRequest, JobRequest
from worker.access.sealing import Seal
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
from worker.jobs.admission import would_hold
from worker.jobs.csv_input import Row
from worker.ledger import job_lists, jobs, plan
from worker.ledger.plan import Preview
from worker.records import Job, explain

GOOD_FOR = timedelta(hours=24)
"""A plan of a day ago is made again."""


@dataclass(frozen=True, slots=True)
class Planned:
    """What a plan said, opened."""

    outcomes: dict[str, int]


def of_request(database: Database, organisation_id: int, request: JobRequest) -> answers.Plan:
    """The plan of a job over ids, a filter or a person."""

    def look(connection: Connection) -> tuple[Preview, int]:
        if request.enrolment_ids is not None:
            found = plan.by_list(connection, organisation_id, request.enrolment_ids)
            return found, len(request.enrolment_ids) - found.accepted
        if request.filter is not None:
            return plan.by_filter(connection, organisation_id, request.filter.model_dump()), 0
        return plan.by_person(connection, organisation_id, request.learner_external_id or ""), 0

    return _planned(database, organisation_id, request, lambda: selection(request), look)


def of_file(database: Database, organisation_id: int, request: FileRequest, rows: Iterable[Row]) -> answers.Plan:
    """The plan of a job over a stream of lines and ids.

    Raises:
        InvalidInputError: as `submit_file`.
    """
    staged: list[str] = []

    def look(connection: Connection) -> tuple[Preview, int]:
        given, digest = jobs.stage(connection, rows)
        staged.append(digest)
        found = plan.by_staged(connection, organisation_id)
        return found, given - found.accepted

    return _planned(database, organisation_id, request, lambda: selection_of_ids(staged[0]), look)


def of_job(database: Database, organisation_id: int, job_id: int) -> answers.Plan:
    """What a job would do now with what of it is not decided yet: for who is to release it.

    Raises:
        NotFoundError: there is no such job in this organisation.
        ConflictError: it has ended, or it is a reinstate.
    """
    with database.begin() as connection:
        job = job_lists.find_job(connection, organisation_id, job_id)
        if job is None:
            raise NotFoundError(f"there is no job {job_id} in this organisation")
        if job.finished_at is not None:
            raise ConflictError(f"job {job_id} is {job.state}: nothing of it is left to plan")
        if job.reason is None:
            raise ConflictError(f"job {job_id} takes withdrawals back; only a job that withdraws can be planned")
        found = _of_job(connection, job)
        return _answer(connection, organisation_id, found, 0, _digest("job", str(job.id)), job.reason)


def selection(request: JobRequest) -> str:
    """A digest of what is selected; the same ids are the same selection, in whatever order and by whatever door."""
    if request.enrolment_ids is not None:
        joined = ",".join(str(one) for one in sorted(request.enrolment_ids))
        return selection_of_ids(hashlib.sha256(joined.encode()).hexdigest())
    if request.filter is not None:
        conditions = request.filter.model_dump(mode="json", exclude_none=True)
        return _digest("filter", json.dumps(conditions, sort_keys=True))
    return _digest("learner", request.learner_external_id or "")


def selection_of_ids(digest: str) -> str:
    """A digest of a selection by ids, from the SHA-256 of the ids (`jobs.stage`)."""
    return _digest("ids", digest)


def opened(organisation_id: int, request: FileRequest, selected: str) -> Planned | None:
    """What the request's plan said, None without one.

    Raises:
        InvalidInputError: it is no plan of this organisation.
        PlanExpiredError: it is older than a day.
        PlanMismatchError: it was made for another selection or reason.
    """
    if request.plan_hash is None:
        return None
    seal = Seal(settings(), "plan")
    sealed = seal.open(request.plan_hash)
    found = json.loads(sealed) if sealed else None
    if found is None or found["organisation"] != organisation_id:
        raise InvalidInputError("plan_hash: is none that a plan of this organisation gave")
    if seal.open(request.plan_hash, within=int(GOOD_FOR.total_seconds())) is None:
        raise PlanExpiredError("the plan is older than a day; plan again and look at what would happen now")
    different = [name for name, now in (("reason", request.reason), ("selection", selected)) if found[name] != now]
    if different:
        raise PlanMismatchError(
            f"the plan was made for another {' and '.join(different)}; plan this one and look at it"
        )
    return Planned(found["outcomes"])


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
            f"{max(more, fewer):,} of {sum(planned.outcomes.values()):,} outcomes are no longer those of the plan, "
            f"{allowed:,} may be; plan again and look at what would happen now",
            planned=planned.outcomes,
            now=now,
        )


def _of_job(connection: Connection, job: Job) -> Preview:
    if job.learner_external_id is not None:
        return plan.by_person(connection, job.organisation_id, job.learner_external_id)
    return plan.by_job(connection, job.organisation_id, job.id)


def _planned(
    database: Database,
    organisation_id: int,
    request: FileRequest,
    selected: Callable[[], str],
    look: Callable[[Connection], tuple[Preview, int]],
) -> answers.Plan:
    with database.begin() as connection:
        found, duplicates = look(connection)
        return _answer(connection, organisation_id, found, duplicates, selected(), request.reason)


def _answer(
    connection: Connection, organisation_id: int, found: Preview, duplicates: int, selected: str, reason: str
) -> answers.Plan:
    named = plan.names(connection, organisation_id, [one for ids in found.samples.values() for one in ids])
    held = would_hold(connection, organisation_id, learners=found.learners)
    body = {"organisation": organisation_id, "selection": selected, "reason": reason, "outcomes": found.outcomes}
    expires_at = datetime.now(UTC).replace(microsecond=0) + GOOD_FOR  # the seal has whole seconds
    return answers.Plan(
        plan_hash=Seal(settings(), "plan").seal(json.dumps(body).encode()),
        expires_at=expires_at,
        accepted=found.accepted,
        duplicates=duplicates,
        outcomes=found.outcomes,
        samples={
            outcome: [_sample(one, *named.get(one, (None, None))) for one in ids]
            for outcome, ids in found.samples.items()
        },
        learners=found.learners,
        brake=held is not None,
        brake_why=explain(held) if held else None,
    )


def _sample(enrolment_id: int, series: str | None, pathway: str | None) -> answers.PlanSample:
    return answers.PlanSample(enrolment_id=enrolment_id, series_title=series, pathway_title=pathway)


def _digest(kind: str, value: str) -> str:
    return hashlib.sha256(f"{kind}:{value}".encode()).hexdigest()
