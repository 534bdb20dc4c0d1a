"""Every error becomes an answer here and nowhere else: a problem, SCIM's own form, or a page of the console.

An unexpected error shows only its fingerprint, which the log has too.
"""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

import sqlalchemy.exc
import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from starlette.exceptions import HTTPException
from starlette.routing import Match, Mount

from worker.errors import (
    ConflictError,
    ForbiddenError,
    GoneError,
    InvalidInputError,
    NotFoundError,
    OwnApprovalError,
    OwnJobError,
    OwnProposalError,
    OwnProtectionError,
    PreconditionError,
    PrunedError,
    SecondPersonNeededError,
    SessionError,
    SettingsError,
    WithdrawalsError,
)
from worker.faults import Fault, classify, describe
from worker.telemetry import error_reports
from worker.validation_words import say_faults
from worker.web.console.render import HEADERS, PATH, render
from worker.web.problems import (
    RETRY_AFTER,
    TITLES,
    ProblemError,
    SignInNeededError,
    is_json,
    join_faults,
    list_faults,
    problem,
)
from worker.web.scim import errors as scim

log = structlog.get_logger(__name__)

_MAX_FAULTS = 20
"""Maximum number of faults in one answer; a list of a hundred thousand wrong ids has as many."""

_STATUS: list[tuple[type[WithdrawalsError], int]] = [
    (NotFoundError, 404),
    (PrunedError, 410),
    (OwnApprovalError, 403),
    (SecondPersonNeededError, 409),
    (OwnJobError, 403),
    (OwnProposalError, 403),
    (OwnProtectionError, 403),
    (ForbiddenError, 403),
    (PreconditionError, 412),
    (ConflictError, 409),
    (GoneError, 410),
    (InvalidInputError, 422),
    (SettingsError, 500),
]


def install(app: FastAPI) -> None:
    """Make the application answer every error as a problem."""
    app.add_exception_handler(SignInNeededError, _sign_in)
    app.add_exception_handler(ProblemError, _known)
    app.add_exception_handler(WithdrawalsError, _service)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    for unreachable in (sqlalchemy.exc.OperationalError, sqlalchemy.exc.TimeoutError):
        app.add_exception_handler(unreachable, _driver)
    app.add_exception_handler(sqlalchemy.exc.DBAPIError, _driver)
    app.add_exception_handler(SessionError, _session)
    app.add_exception_handler(Exception, _unexpected)


def _respond(
    request: Request, status: int, kind: str, detail: str, headers: Mapping[str, str] | None = None, **more: Any
) -> Response:
    """The error in the form of its path: SCIM's under `/scim/v2`, a page in the console, else a problem."""
    if request.url.path.startswith(scim.PREFIX):
        return scim.error(status, kind, detail, headers=headers)
    if _in_console(request):
        shown = render("problem.html", request, status=status, title=TITLES.get(status, "Error"), detail=detail)
        return HTMLResponse(shown, status, headers={**HEADERS, **(headers or {})})  # no middleware sees a 500
    return problem(status, kind, detail, headers=headers, **more)


def _in_console(request: Request) -> bool:
    return request.url.path == PATH or request.url.path.startswith(f"{PATH}/")


async def _sign_in(request: Request, error: Exception) -> Response:
    asked = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    wanted = f"?{urlencode({'next': asked})}" if request.method == "GET" and asked != PATH else ""
    return RedirectResponse(f"{PATH}/sign-in{wanted}", 303)


async def _known(request: Request, error: Exception) -> Response:
    assert isinstance(error, ProblemError)  # noqa: S101 - for the type checker
    return _respond(request, error.status, error.kind, error.detail, error.headers, **error.more)


async def _service(request: Request, error: Exception) -> Response:
    assert isinstance(error, WithdrawalsError)  # noqa: S101 - for the type checker
    status = next((status for kind, status in _STATUS if isinstance(error, kind)), 500)
    if status == 500:
        return await _unexpected(request, error)
    if status == 422 and request.url.path.startswith(scim.PREFIX):
        status = 400
    if isinstance(error, SecondPersonNeededError) and _in_console(request):
        return RedirectResponse(f"{PATH}/approvals/{error.approval_id}", 303)
    return _respond(request, status, error.type, str(error), **error.more)


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - for the type checker
    found = error.errors()
    if any(item["type"] == "json_invalid" for item in found):
        return _respond(request, 400, "not_json", "The body is not JSON.")
    if any(tuple(item["loc"]) == ("body",) and item["type"] != "missing" for item in found) and not is_json(request):
        return _respond(request, 415, "content_type", "The content type must be application/json.")
    errors = list_faults(found[:_MAX_FAULTS])
    if _in_console(request):
        detail: str = say_faults((one["field"] for one in errors), found)
    else:
        detail = join_faults(errors)
    return _respond(request, 400 if request.url.path.startswith(scim.PREFIX) else 422, "invalid", detail, errors=errors)


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - for the type checker
    kinds = {400: "not_json", 404: "not_found", 405: "method_not_allowed", 413: "too_large", 415: "content_type"}
    if error.status_code == 405 and request.method == "GET" and _in_console(request):
        return RedirectResponse(_page_of(request), 303)
    details = {400: "The body is not JSON.", 404: "Page not found."}
    detail = details.get(error.status_code, str(error.detail))
    if error.status_code == 400 and _in_console(request):
        detail = "The form cannot be read. It may have at most 1,000 fields and one file."
    allowed = _allowed(request) if error.status_code == 405 else ""
    headers = {"Allow": allowed} if allowed else error.headers
    return _respond(request, error.status_code, kinds.get(error.status_code, "http"), detail, headers)


def _allowed(request: Request) -> str:
    """The methods of an address (RFC 9110, 10.2.1): each may have a route of its own, and the first one answered.

    Empty below a mount, which takes every method and says itself what it allows.
    """
    routes = [route for route in request.app.router.routes if not isinstance(route, Mount)]
    scopes = [{**request.scope, "method": method} for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")]
    return ", ".join(
        scope["method"] for scope in scopes if any(route.matches(scope)[0] is Match.FULL for route in routes)
    )


def _page_of(request: Request) -> str:
    """The page of the console that an act's address belongs to: reloaded after an error, the act is not repeated."""
    path, routes = request.url.path, request.app.router.routes
    while path.startswith(f"{PATH}/"):
        path = path.rpartition("/")[0]
        if any(route.matches({**request.scope, "path": path})[0] is Match.FULL for route in routes):
            break
    return path


async def _session(request: Request, error: Exception) -> Response:
    """The connection is not as it was when this process started. The message is for operators, not for callers."""
    log.error("web.session_refused", message=str(error))
    detail = "The database is not set up as the service needs it. Nothing was accepted. Send it again later."
    return _respond(request, 503, "unavailable", detail, {"Retry-After": str(RETRY_AFTER)})


async def _driver(request: Request, error: Exception) -> Response:
    if classify(error) not in (Fault.TRANSIENT, Fault.TIMEOUT):
        return await _unexpected(request, error)
    log.warning("web.database_unreachable", error_class=describe(error)[0])
    detail = "The database cannot be reached, or is too busy. Nothing was accepted. Send it again with the same key."
    return _respond(request, 503, "unavailable", detail, {"Retry-After": str(RETRY_AFTER)})


async def _unexpected(request: Request, error: Exception) -> Response:
    name, message, fingerprint = describe(error)
    route = getattr(request.scope.get("route"), "path", "")
    log.error("web.failed", error_class=name, message=message, fingerprint=fingerprint, route=route)
    error_reports.report(error, "web.failed", route=route)
    return _respond(request, 500, "unexpected", f"An unexpected error. Please report the fingerprint {fingerprint}.")
