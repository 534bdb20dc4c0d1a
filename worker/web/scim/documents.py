"""What SCIM's endpoints share: bodies, addresses, and how they stand in the OpenAPI document."""

from typing import Annotated, Any

from fastapi import Depends, Request
from fastapi.responses import JSONResponse
from scim2_models import InvalidSyntaxException

from worker.web import body
from worker.web.problems import TITLES, ProblemError
from worker.web.scim.errors import MEDIA_TYPE, PREFIX

_TAKEN = (MEDIA_TYPE, "application/json")


def base_of(request: Request) -> str:
    """The address of the service, as the caller reached it."""
    return str(request.base_url).rstrip("/") + PREFIX


async def _read(request: Request) -> dict[str, Any]:
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() not in _TAKEN:
        raise ProblemError(415, "content_type", f"The content type must be {MEDIA_TYPE}.")
    raw = await body.read(request)
    try:
        value = body.parse(raw)
    except body.NotJsonError:
        raise InvalidSyntaxException(detail="the body is not JSON") from None
    if not isinstance(value, dict):
        raise InvalidSyntaxException(detail="the body is no object")
    return value


Body = Annotated[dict[str, Any], Depends(_read)]
"""The JSON object of a request."""


def described(*statuses: int, example: Any = None) -> dict[str, Any]:
    """How an endpoint stands in the OpenAPI document: its statuses, all in SCIM's media type."""
    content = {MEDIA_TYPE: {"schema": {"type": "object"}}}
    errors = {401, 403, 429, 503} | ({400, 413, 415} if example is not None else set())
    responses: dict[int | str, dict[str, Any]] = {
        status: {"description": TITLES.get(status, "Done"), **({} if status in (204, 304) else {"content": content})}
        for status in sorted({*statuses, *errors})
    }
    found: dict[str, Any] = {"responses": responses, "response_class": JSONResponse, "response_model": None}
    if example is not None:
        schema = {"schema": {"type": "object"}, "example": example}
        found["openapi_extra"] = {"requestBody": {"required": True, "content": {MEDIA_TYPE: schema}}}
    return found
