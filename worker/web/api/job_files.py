"""Files of up to a million rows: `POST /v1/jobs/file`, their plan, and their rows with faults."""

from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from schemas import answers
from schemas.jobs import FileOptions, FileRequest
from worker.jobs.submit import Requester
from worker.web import sent_files
from worker.web.api.submit import ACCEPTED, KEY_HEADER, accepted, idempotency_key, known_key_first, validated
from worker.web.auth import Producer
from worker.web.context import Context
from worker.web.problems import WITH_BODY, ProblemError, describes
from worker.web.sent_files import Sent

_MOST_FIELDS, _LONGEST_FIELD = 12, 16_384
_FIELDS = {**FileRequest.model_json_schema()["properties"], **FileOptions.model_json_schema()["properties"]}
_FORM = {
    **FileRequest.model_json_schema(),
    "title": "FileForm",
    "required": ["reason"],
    "properties": {
        "file": {
            "type": "string",
            "contentMediaType": "text/csv",
            "description": "CSV in UTF-8, UTF-16 or Windows-1252 with any delimiter, XLSX or ODS. Its header names "
            "enrolment_id, or learner_external_id or email together with series_code, and pathway_title where it is "
            "needed; other columns are left alone. Either this or `upload` is needed.",
            "example": "enrolment_id\n1\n2\n",
        },
        **_FIELDS,
    },
}
_SENT = {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": _FORM}}}}

router = APIRouter(
    prefix="/v1/jobs",
    tags=["jobs"],
    responses={**ACCEPTED, **describes(*WITH_BODY, "idempotency_key_missing", "idempotency_key_reused")},
)


async def _form(request: Request, _: Producer) -> AsyncIterator[FormData]:
    async for form in read_form(request):
        yield form


async def read_form(request: Request) -> AsyncIterator[FormData]:
    """The multipart form of a request, with at most one file; closed afterwards.

    Raises:
        ProblemError: 400 or 415; there is none.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "multipart/form-data":
        raise ProblemError(415, "content_type", "The content type must be multipart/form-data.")
    try:
        form = await request.form(max_files=1, max_fields=_MOST_FIELDS, max_part_size=_LONGEST_FIELD)
    except HTTPException as error:
        if error.status_code != 400:
            raise
        raise ProblemError(400, "not_a_form", f"The body is no multipart form: {error.detail}") from None
    except ClientDisconnect:
        raise ProblemError(400, "incomplete", "The body ended before it was whole.") from None
    try:
        yield form
    finally:
        await form.close()


@router.post(
    "/file",
    status_code=202,
    responses={code: {**described, "model": answers.FileJob | answers.Job} for code, described in ACCEPTED.items()},
    openapi_extra={"parameters": [KEY_HEADER], **_SENT},
)
def submit_file(
    context: Context,
    who: Producer,
    request: Request,
    response: Response,
    form: Annotated[FormData, Depends(_form)],
) -> answers.FileJob | answers.Job:
    """Withdraw the enrolments of a file; nothing is accepted unless all rows parse, or `faults` is `leave_out`.

    With `upload`, `batch` or `faults` the answer has `file`: what became of the rows.
    """
    requester = Requester(who.organisation_id, who.actor, "api", idempotency_key(request))
    with known_key_first(context, requester):
        sent, fields = _parts(form)
        made, file = sent_files.submit_file(context, who, requester, validated(FileRequest, fields), sent)
    job = accepted(made, response)
    return answers.FileJob(**dict(job), file=file) if sent.options.model_fields_set else job


@router.post("/file/plan", openapi_extra=_SENT, responses=describes("not_found", "conflict"))
def plan_file(context: Context, who: Producer, form: Annotated[FormData, Depends(_form)]) -> answers.FilePlan:
    """Check every row of a file and plan the job over its good rows; the file is kept for a day under `upload`."""
    sent, fields = _parts(form)
    return sent_files.plan(context, who, validated(FileRequest, fields), sent)


@router.get(
    "/file/{upload_id}/faults",
    response_class=Response,
    responses={200: {"content": {"text/csv": {}}, "description": "CSV for CSV, else XLSX."}, **describes("not_found")},
)
def read_faults(context: Context, who: Producer, upload_id: str) -> Response:
    """The rows with faults of a file that you planned or submitted, as a file, with a column that says what is wrong.

    Mend it, and send it with the job's id as `batch`: what that job has taken is not taken again.
    """
    return sent_files.send_faults(context, who, upload_id)


def _parts(form: FormData) -> tuple[Sent, dict[str, Any]]:
    found: dict[str, Any] = {}
    for name, value in form.multi_items():
        if name in found:
            raise form_fault(name, "stands there twice")
        found[name] = value
    file = found.pop("file", None)
    given = {name: found.pop(name) for name in FileOptions.model_fields if name in found}
    options = validated(FileOptions, given)
    if file is None and options.upload is not None:
        return Sent(None, options), found
    if not isinstance(file, UploadFile):
        raise form_fault("file", "is needed: a CSV file with a column enrolment_id")
    return Sent(file, options), found


def form_fault(field: str, message: str) -> RequestValidationError:
    """What is wrong with one field of a form."""
    return RequestValidationError([{"type": "form", "loc": ("body", field), "msg": message}])
