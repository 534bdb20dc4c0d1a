"""What SCIM's endpoints share: the library, the body, the address, the answer, and how they stand in the document.

The first request imports the library. It takes as long as a third of all else that a web process imports, and most
processes never hear of a directory.
"""

import sys
from collections.abc import Callable, Coroutine, Iterable
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import Depends, Request, Response
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool

from worker.web import body
from worker.web.problems import TITLES
from worker.web.scim import errors
from worker.web.scim.errors import MEDIA_TYPE, PREFIX

if TYPE_CHECKING:
    from scim2_server.responses import ScimResponse

    from worker.web.scim.service import UserService


def library() -> "UserService":
    """The library's steps for our one resource; imported at the first call, so never in the loop of all requests."""
    from worker.web.scim.service import SERVICE  # noqa: PLC0415

    return SERVICE


class ScimRoute(APIRoute):
    """Answers what the library refuses."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handler(request: Request) -> Response:
            try:
                return await handle(request)
            except Exception as error:
                models = sys.modules.get("scim2_models")
                if models is None or not isinstance(error, models.SCIMException):
                    raise
                return errors.error(error.status, error.scim_type or None, error.detail or "")

        return handler


def base_of(request: Request) -> str:
    """The address of the service, as the caller reached it."""
    return str(request.base_url).rstrip("/") + PREFIX


def answer(response: "ScimResponse") -> Response:
    """An answer of the library as one of FastAPI."""
    if response.body is None:
        headers = {name: value for name, value in response.headers.items() if name != "Content-Type"}
        return Response(status_code=response.status, headers=headers)
    return JSONResponse(response.body, response.status, headers=response.headers, media_type=MEDIA_TYPE)


async def _read(request: Request) -> bytes:
    steps = await run_in_threadpool(library)
    steps.ensure_json(request.headers.get("content-type", "missing"))
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
