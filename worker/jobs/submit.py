"""The one door: every job that a producer asks for is written here, whole or not at all.

The jobs of deactivations follow from events; `worker/people/apply_events.py` writes them in sets.
"""

import hashlib
import json
import re
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Any

import structlog
from sqlalchemy import Connection

from schemas.catalogue import JobState, Source
from schemas.jobs import FileRequest, JobRequest
from worker.access import erased
from worker.database import Database, notify_after_commit
from worker.errors import IdempotencyConflictError
from worker.jobs import plan
from worker.jobs.admission import admit
from worker.jobs.calendar import effective_time
from worker.jobs.selection import Counts, Ids, Selection, selection_of
from worker.jobs.singles import MOST_IDS, Single, accept_now
from worker.ledger import job_lists, jobs
from worker.ledger.siblings import Siblings
from worker.records import LANE_BULK, LANE_HR, LANE_LETTERS, Job, NewChunks, NewJob, Submitted
from worker.telemetry import request as request_context
from worker.telemetry import tracing
from worker.texts import text

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Requester:
    """Who asks, for which organisation, through which door, with which key.

    Doors: `api`, `cli`, `console`, `scim`, `hr:<source>`.
    """

    organisation_id: int
    actor: str
    door: str
    key: str


def submit(database: Database, requester: Requester, request: JobRequest, *, chunk_size: int = 1000) -> Submitted:
    """Accept a job: it exists once this returns, and does exactly once what it says.

    Raises:
        IdempotencyConflictError: the key was used for another request.
        ErasedPersonError: it names a person who was erased.
        PlanExpiredError, PlanMismatchError, PlanDriftedError, InvalidInputError: its plan does not fit.
    """
    one = single(requester, request, chunk_size=chunk_size)
    if one is not None:
        return logged(accept_now(database, one))
    new, selection = _new_request(requester, request), selection_of(request)
    work = partial(accept, new=new, selection=selection, plan_hash=request.plan_hash, chunk_size=chunk_size)
    return logged(database.run(work, patient=True))


def single(requester: Requester, request: JobRequest, *, chunk_size: int = 1000) -> Single | None:
    """The request as a small job, which can share a transaction; None: it is larger, or needs more than its row."""
    ids = sorted(set(request.enrolment_ids or ()))
    is_day = request.effective_at is not None and not isinstance(request.effective_at, datetime)
    if request.filter is not None or request.plan_hash is not None or is_day or len(ids) > min(MOST_IDS, chunk_size):
        return None
    new = _new_request(requester, request)
    if request.enrolment_ids is None:
        return Single(replace(new, accepted=1), None)
    return Single(replace(new, accepted=len(ids), duplicates=len(request.enrolment_ids) - len(ids)), tuple(ids))


def new_file_job(requester: Requester, request: FileRequest, content: dict[str, Any], *, name: str | None) -> NewJob:
    """The job of a file. `content`: what its key knows the file by, beside the request."""
    return replace(_new_job(requester, request, {**_body(request), **content}), file_name=file_name(name))


def answer_known(connection: Connection, new: NewJob) -> Submitted | None:
    """The job that the key of a new one has made already, None if it has made none.

    Raises:
        IdempotencyConflictError: the key was used for another request.
    """
    known = _find(connection, new.organisation_id, new.door, new.key)
    return None if known is None else _answer_again(connection, new, known)


def is_known(database: Database, requester: Requester) -> bool:
    """Whether this key has made a job, whatever was asked for: it answers before anything else is checked."""
    with database.begin() as connection:
        return _find(connection, requester.organisation_id, requester.door, requester.key) is not None


def accept(
    connection: Connection, new: NewJob, selection: Selection, *, plan_hash: str | None = None, chunk_size: int
) -> Submitted:
    """Write a job, its chunks and its audit row, and admit it when it is due; or answer with the key's job.

    In the caller's transaction.

    Raises:
        IdempotencyConflictError: the key was used for another request.
        ErasedPersonError: it names a person who was erased.
        PlanExpiredError, PlanMismatchError, PlanDriftedError, InvalidInputError: its plan does not fit.
    """
    known = _find(connection, new.organisation_id, new.door, new.key)
    if known is not None:  # a known key answers before anything else is checked
        return _answer_again(connection, new, known)
    if new.learner_external_id is not None:  # an erasure of the person is seen, or it sees this job
        sealed_key = jobs.lock_settings(connection, new.organisation_id)
        erased.require_not(connection, new.organisation_id, new.learner_external_id, sealed_key)
    when = effective_time(connection, new.organisation_id, new.effective_at)
    expected = selection.counts or Counts(0)
    new = replace(new, series_id=selection.series_id)
    inserted = jobs.insert_job(
        connection, replace(new, effective_at=when, accepted=expected.accepted, duplicates=expected.duplicates)
    )
    if inserted is None:  # the same key was committed by another request between the two statements
        return _answer_again(connection, new, _find(connection, new.organisation_id, new.door, new.key))
    job_id, is_due = inserted
    planned = plan.open_plan(new.organisation_id, new.reason, selection, plan_hash)
    counts = selection.freeze(connection, _chunks(job_id, new, _lane(new), ready=is_due, size=chunk_size))
    if counts != expected:  # only the database could count
        jobs.set_counts(connection, job_id, accepted=counts.accepted, duplicates=counts.duplicates)
    if planned is not None:
        plan.compare(connection, new.organisation_id, job_id, planned)
    _audit(connection, new, job_id)
    if is_due:
        admit(connection, organisation_id=new.organisation_id, job_id=job_id)
        notify_after_commit(connection)
        if counts.accepted == 0:
            jobs.finish(connection, [job_id])
    return Submitted(_read(connection, new, job_id), created=True)


def accept_cascade(
    connection: Connection,
    requester: Requester,
    *,
    siblings: Siblings,
    note: str | None,
) -> int | None:
    """Write the job of a cascade: the siblings are withdrawn although their pathway owns them.

    The cascade of a deactivation stands and falls with it: a newer event of the person supersedes both (rule 10).

    In the caller's transaction. None when the key is taken: the same act has made it already.
    """
    new = NewJob(
        **_who(requester),
        reason=siblings.reason,
        source=Source.SUPPORT,
        note=note,
        epoch=siblings.epoch,
        deactivated_external_id=siblings.deactivated_external_id,
        accepted=len(siblings.ids),
        request_hash=hash_body({"support": sorted(siblings.ids), "reason": siblings.reason}),
    )
    inserted = jobs.insert_job(connection, new)
    if inserted is None:
        return None
    job_id, _ = inserted
    Ids(siblings.ids).freeze(connection, _chunks(job_id, new, LANE_LETTERS, ready=True))
    jobs.let_override(connection, job_id, pathway_id=siblings.pathway_id)
    _audit(connection, new, job_id)
    jobs.admit(connection, job_id, learners=0)  # its learner was counted with the letter
    return job_id


def reinstate_job(requester: Requester, *, job_id: int, note: str | None, body: dict[str, Any]) -> NewJob:
    """The job that takes back what job `job_id` withdrew. `body`: the validated request, hashed for its key."""
    return NewJob(
        **_who(requester),
        kind="reinstate",
        reinstates=job_id,
        reason=None,
        source=Source.ADMIN,
        note=note,
        request_hash=hash_body({"reinstates": job_id, **body}),
    )


def hash_body(body: dict[str, Any]) -> bytes:
    """SHA-256 of a validated request, by which its key knows it again."""
    return hashlib.sha256(json.dumps(body, sort_keys=True, separators=(",", ":")).encode()).digest()


def _body(request: FileRequest) -> dict[str, Any]:
    return request.model_dump(mode="json", exclude_unset=True, exclude={"plan_hash"})


def _new_request(requester: Requester, request: JobRequest) -> NewJob:
    body = _body(request)
    if request.enrolment_ids is not None:
        body["enrolment_ids"] = sorted(request.enrolment_ids)
    return replace(_new_job(requester, request, body), learner_external_id=request.learner_external_id)


def _new_job(requester: Requester, request: FileRequest, body: dict[str, Any]) -> NewJob:
    return NewJob(
        **_who(requester),
        reason=request.reason,
        source=request.source,
        note=request.note,
        effective_at=request.effective_at,
        request_hash=hash_body(body),
    )


def _who(requester: Requester) -> dict[str, Any]:
    return {
        "organisation_id": requester.organisation_id,
        "requested_by": requester.actor,
        "door": requester.door,
        "key": requester.key,
        "request_id": request_context.current(),
        "traceparent": tracing.current(),
    }


def file_name(given: str | None) -> str | None:
    """The last part of a file's name as its sender has it, without characters that cannot be shown."""
    last = re.split(r"[/\\]", given or "")[-1]
    return "".join(filter(str.isprintable, last)).strip()[:255] or None


def _chunks(job_id: int, new: NewJob, lane: int, *, ready: bool, size: int = 1000) -> NewChunks:
    return NewChunks(job_id, new.organisation_id, lane, "ready" if ready else "waiting", size)


def _lane(new: NewJob) -> int:
    return LANE_HR if new.source == Source.HR else LANE_BULK


def _find(connection: Connection, organisation_id: int, door: str, key: str) -> tuple[int | None, bytes] | None:
    return jobs.find_by_key(connection, organisation_id=organisation_id, door=door, key=key)


def _answer_again(connection: Connection, new: NewJob, known: tuple[int | None, bytes] | None) -> Submitted:
    if known is None or known[0] is None or known[1] != new.request_hash:
        raise IdempotencyConflictError(
            text("this idempotency key was used before, for another request; a new request takes a new key")
        )
    return Submitted(_read(connection, new, known[0]), created=False)


def _read(connection: Connection, new: NewJob, job_id: int) -> Job:
    found = job_lists.find_job(connection, new.organisation_id, job_id)
    assert found is not None  # noqa: S101 - jobs are never deleted
    return found


def _audit(connection: Connection, new: NewJob, job_id: int) -> None:
    jobs.audit(
        connection,
        organisation_id=new.organisation_id,
        actor=new.requested_by,
        action="job.submit" if new.kind == "withdraw" else "job.reinstate",
        job_id=job_id,
    )


def logged(submitted: Submitted | Exception) -> Submitted:
    """Log what was accepted.

    Raises:
        Exception: it was refused.
    """
    if isinstance(submitted, Exception):
        raise submitted
    job = submitted.job
    log.info(
        "job.accepted" if submitted.created else "job.repeated",
        job_id=job.id,
        organisation_id=job.organisation_id,
        accepted=job.accepted,
        source=job.source,
    )
    if submitted.created and job.state == JobState.HELD:
        log.warning("job.held", job_id=job.id, organisation_id=job.organisation_id, brake=job.brake)
    return submitted
