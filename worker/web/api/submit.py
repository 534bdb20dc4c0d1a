"""Jobs that come in: `POST /v1/jobs`, and what every call that makes a job shares."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from fastapi import APIRouter, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from starlette.concurrency import run_in_threadpool

from schemas import answers
from schemas.catalogue import Role
from schemas.jobs import MAX_IDS, JobRequest
from worker.errors import IdempotencyConflictError, InvalidInputError
from worker.jobs import submit
from worker.jobs.singles import Single
from worker.jobs.submit import Requester
from worker.records import Submitted
from worker.web.auth import identify, needs
from worker.web.body import NotJsonError, must_be_json, parse, read
from worker.web.context import Services, find_services
from worker.web.lean import LeanRoute
from worker.web.problems import WITH_BODY, ProblemError, describes

M = TypeVar("M", bound=BaseModel)

LONGEST_KEY = 255
_SMALL_BODY = 4096
"""Bytes that are parsed between two other requests; a longer body is parsed in a thread."""
KEY_HEADER = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": True,
    "description": "Of your choice, one for each job, up to 255 characters: sent again, it answers with the same job.",
    "schema": {"type": "string", "minLength": 1, "maxLength": LONGEST_KEY},
    "example": "2026-03-01-cleanup-1",
}
ACCEPTED: dict[int | str, dict[str, Any]] = {
    200: {"model": answers.Job, "description": "The same key and request as before: the same job."},
    202: {
        "model": answers.Job,
        "description": "The job exists now.",
        "headers": {"Location": {"schema": {"type": "string"}, "description": "Where the job can be read."}},
    },
}

router = APIRouter(
    prefix="/v1/jobs",
    tags=["jobs"],
    route_class=LeanRoute,
    responses={
        **ACCEPTED,
        **describes(*WITH_BODY, "idempotency_key_missing", "idempotency_key_reused", "too_many_ids"),
    },
)


@router.post(
    "",
    operation_id="submit_job",
    status_code=202,
    response_model=answers.Job,
    openapi_extra={
        "security": needs(Role.PRODUCER),
        "parameters": [KEY_HEADER],
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/JobRequest"}}},
        },
    },
)
async def submit_job(request: Request) -> Response:
    """Withdraw enrolments: by id, by filter, or all of a person's."""
    context = find_services(request)
    who = await identify(context, request)
    who.must_be(Role.PRODUCER)
    body = await read(request)
    requester = Requester(who.organisation_id, who.actor, "api", idempotency_key(request))
    one = _read_single(context, requester, request, body) if len(body) <= _SMALL_BODY else None
    if one is None:
        made = await run_in_threadpool(_submit, context, requester, request, body)
    else:
        committed = await context.singles.commit(one)
        made = submit.logged(committed)
    content = answers.Job.model_validate(made.job).model_dump_json()
    headers = {"Location": f"/v1/jobs/{made.job.id}"}
    return Response(content, 202 if made.created else 200, headers, media_type="application/json")


def _read_single(context: Services, requester: Requester, request: Request, body: bytes) -> Single | None:
    """The small job that a request asks for; None: it is larger, or wrong, which takes its time to say."""
    try:
        must_be_json(request)
        wanted = JobRequest.model_validate(_parsed(body))
    except (ProblemError, ValidationError):
        return None
    return submit.single(requester, wanted, chunk_size=context.settings.chunk_size)


def _submit(context: Services, requester: Requester, request: Request, body: bytes) -> Submitted:
    with known_key_first(context, requester):
        must_be_json(request)
        wanted = validated(JobRequest, _parsed(body))
        return submit.submit(context.database, requester, wanted, chunk_size=context.settings.chunk_size)


def idempotency_key(request: Request) -> str:
    """The key of a request that makes a job.

    Raises:
        ProblemError: 400; there is none, or none that could be kept.
    """
    key = request.headers.get("idempotency-key", "").strip()
    if not key or len(key) > LONGEST_KEY or not key.isprintable():
        raise ProblemError(
            400,
            "idempotency_key_missing",
            f"Idempotency-Key: this header is needed, 1 to {LONGEST_KEY} printable characters of your choice; "
            "send the same again to ask for the same job.",
        )
    return key


@contextmanager
def known_key_first(context: Services, requester: Requester) -> Iterator[None]:
    """A known key answers before anything else is checked: whatever is wrong, it was another request.

    That the service is busy says nothing about the request: it may be the one that its key knows.

    Raises:
        IdempotencyConflictError: the request is refused, and its key made a job before.
    """
    try:
        yield
    except (InvalidInputError, RequestValidationError, ProblemError) as refused:
        is_busy = isinstance(refused, ProblemError) and refused.status >= 500
        if not is_busy and submit.is_known(context.database, requester):
            raise IdempotencyConflictError(
                "this idempotency key was used before, for another request; a new request takes a new key"
            ) from None
        raise


def validated(model: type[M], value: Any) -> M:
    """A body as its model.

    Raises:
        RequestValidationError: names the fields that are wrong.
    """
    try:
        return model.model_validate(value)
    except ValidationError as error:
        faults = error.errors(include_url=False, include_input=False)
        raise RequestValidationError([{**item, "loc": ("body", *item["loc"])} for item in faults]) from None


def accepted(made: Submitted, response: Response) -> answers.Job:
    """202 and where to find it for a new job, 200 for one that this key made before."""
    response.status_code = 202 if made.created else 200
    response.headers["Location"] = f"/v1/jobs/{made.job.id}"
    return answers.Job.model_validate(made.job)


def _parsed(body: bytes) -> Any:
    try:
        value = parse(body)
    except NotJsonError:
        raise ProblemError(400, "not_json", "The body is not JSON.") from None
    ids = value.get("enrolment_ids") if isinstance(value, dict) else None
    if isinstance(ids, list) and len(ids) > MAX_IDS:
        raise ProblemError(
            413, "too_many_ids", f"enrolment_ids: up to {MAX_IDS:,}; send more as a file to POST /v1/jobs/file"
        )
    return value
