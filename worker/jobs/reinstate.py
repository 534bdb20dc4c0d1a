"""The undo of a job: itself a job, over what the other one withdrew and nobody has taken back yet."""

import json

import structlog
from sqlalchemy import Connection

from schemas.reinstate import ReinstateFilter, ReinstatePlan, ReinstateRequest
from worker.code_words import said
from worker.database import Database
from worker.errors import ConflictError, NotFoundError
from worker.jobs import show
from worker.jobs.selection import Counts, Selection, digest
from worker.jobs.submit import Requester, accept, reinstate_job
from worker.ledger import freeze, jobs, pruned
from worker.ledger import reinstate as ledger
from worker.ledger.plan import Preview
from worker.records import NewChunks, Submitted
from worker.texts import text

log = structlog.get_logger(__name__)


class StillWithdrawn(Selection):
    """What a job withdrew and nobody has taken back, or a part of it."""

    def __init__(self, job_id: int, part: ReinstateFilter | None) -> None:
        self._job_id = job_id
        self._part = part

    def digest(self) -> str:
        part = self._part.model_dump(mode="json", exclude_none=True) if self._part else {}
        return digest("reinstate", json.dumps([self._job_id, part], sort_keys=True))

    def preview(self, connection: Connection, organisation_id: int) -> Preview:
        return ledger.preview(connection, organisation_id, self._job_id, self._part)

    def freeze(self, connection: Connection, chunks: NewChunks) -> Counts:
        ids = ledger.still_withdrawn(chunks.organisation_id, self._job_id, self._part)
        return Counts(freeze.selected(connection, ids, chunks))


def reinstate(
    database: Database, requester: Requester, job_id: int, request: ReinstateRequest, *, chunk_size: int = 1000
) -> Submitted:
    """Accept a job that puts prior statuses back. Its enrolments are frozen now; each is decided when it is applied.

    Raises:
        NotFoundError: this organisation has no such job.
        ConflictError: the job is itself a reinstate, or has work left.
        PrunedError: what it withdrew is not kept any more.
        IdempotencyConflictError: the key was used for another request.
    """
    body = request.model_dump(mode="json", exclude_none=True)
    for name in ("enrolment_ids", "learner_ids"):
        if (body.get("filter") or {}).get(name):
            body["filter"][name] = sorted(set(body["filter"][name]))

    def work(connection: Connection) -> Submitted:
        known = jobs.find_by_key(
            connection, organisation_id=requester.organisation_id, door=requester.door, key=requester.key
        )
        if known is None:  # a known key answers before anything else is checked
            pruned.hold(connection, requester.organisation_id, job_id)
            _refuse(connection, requester.organisation_id, job_id)
        new = reinstate_job(requester, job_id=job_id, note=request.note, body=body)
        return accept(connection, new, StillWithdrawn(job_id, request.filter), chunk_size=chunk_size)

    submitted = database.run(work, patient=True)
    log.info(
        "job.accepted" if submitted.created else "job.repeated",
        job_id=submitted.job.id,
        organisation_id=requester.organisation_id,
        accepted=submitted.job.accepted,
        reinstates=job_id,
    )
    return submitted


def plan(database: Database, organisation_id: int, job_id: int, part: ReinstateFilter | None) -> ReinstatePlan:
    """The outcomes that a reinstate would have now, by the same rules; nothing is locked or written.

    Raises:
        NotFoundError, ConflictError, PrunedError: as `reinstate`.
    """
    with database.begin() as connection:
        _refuse(connection, organisation_id, job_id)
        found = StillWithdrawn(job_id, part).preview(connection, organisation_id)
    return ReinstatePlan(
        accepted=found.accepted,
        outcomes=found.outcomes,
        samples=found.samples,
        learners=found.learners,
        brake=False,
    )


def _refuse(connection: Connection, organisation_id: int, job_id: int) -> None:
    """Refuse a job that cannot be taken back: one with work left would go on to withdraw after the undo."""
    found = ledger.find_undone(connection, organisation_id, job_id)
    if found is None:
        raise NotFoundError(text("there is no job {job_id} in this organisation", job_id=job_id))
    if found.kind == "reinstate":
        raise ConflictError(
            text("job {job_id} is itself a reinstate; submit a new job to withdraw its enrolments again", job_id=job_id)
        )
    if found.has_work_left:
        raise ConflictError(
            text(
                "job {job_id} has work left ({state}); wait until it has ended, or cancel it first",
                job_id=job_id,
                state=said(found.state),
            )
        )
    show.require_kept(connection, organisation_id, job_id, text("so it cannot be undone"))
