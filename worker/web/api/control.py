"""Plan, pause, resume, move and release over HTTP: `/v1/jobs/…`."""

from fastapi import APIRouter

from schemas import answers
from schemas.control import Move, Release
from schemas.dead_letters import Act
from schemas.jobs import JobRequest
from worker.jobs import control, plan
from worker.web.auth import Approver, Operator, Producer, Viewer
from worker.web.context import Context, RowId
from worker.web.problems import describes

router = APIRouter(prefix="/v1/jobs", tags=["jobs"], responses=describes())


@router.post("/plan")
def plan_job(context: Context, who: Producer, request: JobRequest) -> answers.Plan:
    """The outcomes that a job would have now; writes nothing. Role: producer."""
    return plan.of_request(context.database, who.organisation_id, request)


@router.get("/{job_id}/plan", responses=describes(404, 409))
def plan_again(context: Context, who: Viewer, job_id: RowId) -> answers.Plan:
    """What a job that is held, or has not ended, would do now with what is left of it. Role: viewer."""
    return plan.of_job(context.database, who.organisation_id, job_id)


@router.post("/{job_id}/pause", responses=describes(404, 409))
def pause(context: Context, who: Operator, job_id: RowId, body: Act | None = None) -> answers.Job:
    """Let nothing more of a job begin until it is resumed; a paused one stays so. Role: operator."""
    note = body.note if body else None
    job = control.pause(
        context.database, organisation_id=who.organisation_id, job_id=job_id, actor=who.actor, note=note
    )
    return answers.Job.model_validate(job)


@router.post("/{job_id}/resume", responses=describes(404, 409))
def resume(context: Context, who: Operator, job_id: RowId, body: Act | None = None) -> answers.Job:
    """Let a paused job go on. Role: operator."""
    note = body.note if body else None
    job = control.resume(
        context.database, organisation_id=who.organisation_id, job_id=job_id, actor=who.actor, note=note
    )
    return answers.Job.model_validate(job)


@router.patch("/{job_id}", responses=describes(404, 409))
def move(context: Context, who: Operator, job_id: RowId, body: Move) -> answers.Job:
    """Give a scheduled or held job another time; one that has passed admits a scheduled job at once. Role: operator."""
    job = control.move(
        context.database,
        organisation_id=who.organisation_id,
        job_id=job_id,
        effective_at=body.effective_at,
        actor=who.actor,
    )
    return answers.Job.model_validate(job)


@router.post("/release")
def release_matching(context: Context, who: Approver, body: Release) -> answers.Released:
    """Release all held jobs that match, save those that the caller requested. Role: approver."""
    return control.release_matching(
        context.database, organisation_id=who.organisation_id, wanted=body.filter, actor=who.actor, note=body.note
    )


@router.post("/{job_id}/release", responses=describes(404, 409))
def release(context: Context, who: Approver, job_id: RowId, body: Act | None = None) -> answers.Job:
    """Release a held job that somebody else requested. Role: approver."""
    note = body.note if body else None
    job = control.release(
        context.database, organisation_id=who.organisation_id, job_id=job_id, actor=who.actor, note=note
    )
    return answers.Job.model_validate(job)
