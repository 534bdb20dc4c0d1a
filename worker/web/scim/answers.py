"""What SCIM's endpoints share: the body, the address, the answer, and how they stand in the OpenAPI document."""

from collections.abc import Iterable
from typing import Annotated, Any

from fastapi import Depends, Request, Response
from fastapi.responses import JSONResponse
from scim2_server.responses import ScimResponse

from worker.web import body
from worker.web.problems import TITLES
from worker.web.scim.errors import MEDIA_TYPE, PREFIX
from worker.web.scim.service import SERVICE


def base_of(request: Request) -> str:
    """The address of the service, as the caller reached it."""
    return str(request.base_url).rstrip("/") + PREFIX


def answer(response: ScimResponse) -> Response:
    """An answer of the library as one of FastAPI."""
    if response.body is None:
        headers = {name: value for name, value in response.headers.items() if name != "Content-Type"}
        return Response(status_code=response.status, headers=headers)
    return JSONResponse(response.body, response.status, headers=response.headers, media_type=MEDIA_TYPE)


async def _read(request: Request) -> bytes:
    SERVICE.ensure_json(request.headers.get("content-type", "missing"))
    return await body.read(request)


Body = Annotated[bytes, Depends(_read)]
"""The raw JSON of a request."""


def described(*statuses: int, query: Iterable[str] = (), example: Any = None) -> dict[str, Any]:
    """How an endpoint stands in the OpenAPI document: its statuses, all in SCIM's media type, and its parameters."""
    content = {MEDIA_TYPE: {"schema": {"type": "object"}}}
    errors = {401, 403, 429, 503} | ({400, 413, 415} if example is not None else set())
    responses = {
        status: {"description": TITLES.get(status, "Done"), **({} if status in (204, 304) else {"content": content})}
        for status in sorted({*statuses, *errors})
    }
    extra: dict[str, Any] = {
        "parameters": [{"name": name, "in": "query", "schema": {"type": "string"}} for name in query]
    }
    if example is not None:
        schema = {"schema": {"type": "object"}, "example": example}
        extra["requestBody"] = {"required": True, "content": {MEDIA_TYPE: schema}}
    return {"responses": responses, "response_class": JSONResponse, "response_model": None, "openapi_extra": extra}
