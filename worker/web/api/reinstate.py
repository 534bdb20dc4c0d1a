"""The undo of a job over HTTP: `/v1/jobs/{id}/reinstate`, and what it would do."""

from fastapi import APIRouter, Request, Response

from schemas import answers
from schemas.reinstate import ReinstatePlan, ReinstateRequest
from worker.jobs import reinstate
from worker.jobs.submit import Requester
from worker.web.api.submit import ACCEPTED, KEY_HEADER, accepted, idempotency_key
from worker.web.auth import Operator
from worker.web.context import Context, RowId
from worker.web.problems import describes

router = APIRouter(prefix="/v1/jobs/{job_id}/reinstate", tags=["jobs"])


@router.post(
    "",
    status_code=202,
    responses={
        **ACCEPTED,
        **describes("idempotency_key_missing", "not_json", "not_found", "conflict", "idempotency_key_reused", "pruned"),
    },
    openapi_extra={"parameters": [KEY_HEADER]},
)
def reinstate_job(
    context: Context,
    who: Operator,
    job_id: RowId,
    raw: Request,
    response: Response,
    request: ReinstateRequest | None = None,
) -> answers.Job:
    """Put back what an ended job withdrew, or a part of it. This makes a new job. Role: operator.

    Each enrolment gets an outcome. `reinstated`: its prior status is back. With the other three it stays as it is:
    `enrolled_again` (the learner has another active enrolment in the Series), `changed_since` (somebody changed it
    after the job), `learner_inactive`.
    """
    made = reinstate.reinstate(
        context.database,
        Requester(who.organisation_id, who.actor, "api", idempotency_key(raw)),
        job_id,
        request or ReinstateRequest(),
        chunk_size=context.settings.chunk_size,
    )
    return accepted(made, response)


@router.post("/plan", responses=describes("not_json", "not_found", "conflict", "pruned"))
def plan_reinstate(
    context: Context, who: Operator, job_id: RowId, request: ReinstateRequest | None = None
) -> ReinstatePlan:
    """What a reinstate would do now. Writes nothing."""
    return reinstate.plan(context.pools.reports, who.organisation_id, job_id, request.filter if request else None)
