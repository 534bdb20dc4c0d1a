"""Plan, pause, resume, move and release over HTTP: `/v1/jobs/…`."""

from fastapi import APIRouter

from schemas import answers
from schemas.control import MoveRequest, ReleaseRequest
from schemas.dead_letters import Act
from schemas.jobs import JobRequest
from worker.jobs import control, plan
from worker.web.auth import Approver, Operator, Producer, Viewer
from worker.web.context import Context, RowId
from worker.web.problems import describes

router = APIRouter(prefix="/v1/jobs", tags=["jobs"], responses=describes())


@router.post("/plan")
def plan_job(context: Context, who: Producer, request: JobRequest) -> answers.Plan:
    """The outcomes that a job would have now. Writes nothing."""
    return plan.of_request(context.pools.reports, who.organisation_id, request)


@router.get("/{job_id}/plan", responses=describes(404, 409))
def plan_again(context: Context, who: Viewer, job_id: RowId) -> answers.Plan:
    """What the undecided part of a job would do now. Writes nothing."""
    return plan.of_job(context.pools.reports, who.organisation_id, job_id)


@router.post("/{job_id}/pause", responses=describes(404, 409))
def pause(context: Context, who: Operator, job_id: RowId, body: Act | None = None) -> answers.Job:
    """Pause a job: workers begin no more of it until it is resumed."""
    note = body.note if body else None
    job = control.pause(
        context.database, organisation_id=who.organisation_id, job_id=job_id, actor=who.actor, note=note
    )
    return answers.Job.model_validate(job)


@router.post("/{job_id}/resume", responses=describes(404, 409))
def resume(context: Context, who: Operator, job_id: RowId, body: Act | None = None) -> answers.Job:
    """Resume a paused job."""
    note = body.note if body else None
    job = control.resume(
        context.database, organisation_id=who.organisation_id, job_id=job_id, actor=who.actor, note=note
    )
    return answers.Job.model_validate(job)


@router.patch("/{job_id}", responses=describes(404, 409))
def move(context: Context, who: Operator, job_id: RowId, body: MoveRequest) -> answers.Job:
    """Give a scheduled or held job another time. A time in the past starts a scheduled job at once."""
    job = control.move(
        context.database,
        organisation_id=who.organisation_id,
        job_id=job_id,
        effective_at=body.effective_at,
        actor=who.actor,
    )
    return answers.Job.model_validate(job)


@router.post("/release", responses=describes("second_person"))
def release_matching(context: Context, who: Approver, body: ReleaseRequest) -> answers.Released:
    """Release all held jobs that match. Those that the caller requested stay held."""
    return control.release_matching(
        context.database,
        organisation_id=who.organisation_id,
        wanted=body.filter,
        actor=who.actor,
        made_by=who.made_by,
        note=body.note,
    )


@router.post("/{job_id}/release", responses=describes(404, 409, "second_person"))
def release(context: Context, who: Approver, job_id: RowId, body: Act | None = None) -> answers.Job:
    """Release a held job that somebody else requested."""
    note = body.note if body else None
    job = control.release(
        context.database,
        organisation_id=who.organisation_id,
        job_id=job_id,
        actor=who.actor,
        made_by=who.made_by,
        note=note,
    )
    return answers.Job.model_validate(job)
