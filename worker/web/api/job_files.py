"""Files of up to a million ids: `POST /v1/jobs/file`."""

from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from schemas import answers
from schemas.jobs import FileRequest
from worker.jobs import csv_input, submit
from worker.jobs.submit import Requester
from worker.web.api.submit import ACCEPTED, KEY_HEADER, accepted, idempotency_key, known_key_first, validated
from worker.web.auth import Producer
from worker.web.context import Context
from worker.web.problems import WITH_BODY, ProblemError, describes

_MOST_FIELDS, _LONGEST_FIELD = 8, 16_384
_FIELDS = FileRequest.model_json_schema()
_FORM = {
    **_FIELDS,
    "title": "FileForm",
    "required": ["file", *_FIELDS["required"]],
    "properties": {
        "file": {
            "type": "string",
            "contentMediaType": "text/csv",
            "description": "CSV in UTF-8 with a header that names enrolment_id; other columns are left alone.",
            "example": "enrolment_id\n1\n2\n",
        },
        **_FIELDS["properties"],
    },
}

router = APIRouter(
    prefix="/v1/jobs",
    tags=["jobs"],
    responses={**ACCEPTED, **describes(*WITH_BODY, "idempotency_key_missing", "idempotency_key_reused")},
)


async def _form(request: Request, _: Producer) -> AsyncIterator[FormData]:
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
    openapi_extra={
        "parameters": [KEY_HEADER],
        "requestBody": {"required": True, "content": {"multipart/form-data": {"schema": _FORM}}},
    },
)
def submit_file(
    context: Context,
    who: Producer,
    request: Request,
    response: Response,
    form: Annotated[FormData, Depends(_form)],
) -> answers.Job:
    """Withdraw the enrolments of a CSV file; nothing is accepted unless all rows parse."""
    requester = Requester(who.organisation_id, who.actor, "api", idempotency_key(request))
    with known_key_first(context, requester):
        file, fields = _parts(form)
        wanted = validated(FileRequest, fields)
        with csv_input.uploaded_ids(file.file) as rows:
            made = submit.submit_file(
                context.database, requester, wanted, rows, name=file.filename, chunk_size=context.settings.chunk_size
            )
    return accepted(made, response)


def _parts(form: FormData) -> tuple[UploadFile, dict[str, Any]]:
    found: dict[str, Any] = {}
    for name, value in form.multi_items():
        if name in found:
            raise _fault(name, "stands there twice")
        found[name] = value
    file = found.pop("file", None)
    if not isinstance(file, UploadFile):
        raise _fault("file", "is needed: a CSV file with a column enrolment_id")
    return file, found


def _fault(field: str, message: str) -> RequestValidationError:
    return RequestValidationError([{"type": "form", "loc": ("body", field), "msg": message}])
