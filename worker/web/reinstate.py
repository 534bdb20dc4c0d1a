"""The undo of a job over HTTP: `/v1/jobs/{id}/reinstate`, and what it would do."""

from typing import Annotated

from fastapi import APIRouter, Header, Path, Response

from schemas import answers
from schemas.reinstate import ReinstatePlan, ReinstateRequest
from worker import reinstate
from worker.submit import Requester
from worker.web.auth import Operator
from worker.web.context import Context
from worker.web.problems import ProblemError, describes

router = APIRouter(prefix="/v1/jobs/{job_id}/reinstate", tags=["jobs"])

JobId = Annotated[int, Path(ge=1, le=2**63 - 1, description="The job whose withdrawals are taken back.")]
Key = Annotated[
    str | None, Header(max_length=255, description="Of your choice: sent again, it answers with the same job.")
]


@router.post(
    "",
    status_code=202,
    responses={200: {"model": answers.Job, "description": "The key's job of before."}, **describes(400, 404, 409)},
)
def reinstate_job(
    context: Context,
    who: Operator,
    job_id: JobId,
    response: Response,
    request: ReinstateRequest | None = None,
    idempotency_key: Key = None,
) -> answers.Job:
    """Put back what an ended job withdrew, or a part of it: a job of its own, with an outcome for each. Role: operator.

    `reinstated`; `enrolled_again` (the learner has an active enrolment there by now), `changed_since` (somebody
    else changed it after the job), `learner_inactive`: these three stay as they are.
    """
    if not idempotency_key or not idempotency_key.strip():
        raise ProblemError(
            400, "idempotency_key_missing", "Idempotency-Key: this header is needed, a key of your choice for this job."
        )
    made = reinstate.reinstate(
        context.database,
        Requester(who.organisation_id, who.actor, "api", idempotency_key.strip()),
        job_id,
        request or ReinstateRequest(),
        chunk_size=context.settings.chunk_size,
    )
    response.status_code = 202 if made.created else 200
    response.headers["Location"] = f"/v1/jobs/{made.job.id}"
    return answers.Job.model_validate(made.job)


@router.post("/plan", responses=describes(400, 404, 409))
def plan_reinstate(
    context: Context, who: Operator, job_id: JobId, request: ReinstateRequest | None = None
) -> ReinstatePlan:
    """What a reinstate would do now, counted and sampled; writes nothing. Role: operator."""
    return reinstate.plan(context.database, who.organisation_id, job_id, request.filter if request else None)
