"""Problems as `application/problem+json` (RFC 9457): the type is stable, the detail says what to do."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from fastapi import Request
from fastapi.responses import JSONResponse

from worker.texts import text

MEDIA_TYPE = "application/problem+json"
PREFIX = "urn:withdrawals:problem:"
RETRY_AFTER = 5
"""Seconds after which to try again when PostgreSQL cannot be reached."""

TITLES = {
    400: text("Bad request"),
    401: text("Authentication required"),
    403: text("Not allowed"),
    404: text("Not found"),
    405: text("Method not allowed"),
    409: text("Conflict"),
    410: text("No longer kept"),
    412: text("The record has changed"),
    413: text("Body too large"),
    415: text("Unsupported content type"),
    422: text("Invalid request"),
    429: text("Too many requests"),
    500: text("Unexpected error"),
    503: text("Service unavailable"),
}


class ProblemError(Exception):
    """An answer that is a problem, for errors that only the web layer knows, such as a missing header."""

    def __init__(
        self, status: int, kind: str, detail: str, *, headers: Mapping[str, str] | None = None, **more: Any
    ) -> None:
        super().__init__(detail)
        self.status, self.kind, self.detail = status, kind, detail
        self.headers, self.more = headers, more


class SignInNeededError(Exception):
    """A page of the console was requested without a live session. The answer redirects to the sign-in page."""


class ProblemResponse(JSONResponse):
    """A problem on the wire. ASCII only: a quoted part of the request may have half of a surrogate pair."""

    media_type = MEDIA_TYPE

    def render(self, content: Any) -> bytes:
        return json.dumps(content, separators=(",", ":")).encode()


def problem(
    status: int, kind: str, detail: str, *, headers: Mapping[str, str] | None = None, **more: Any
) -> JSONResponse:
    """A problem as an answer; `more`: its additional members."""
    body = {"type": PREFIX + kind, "title": TITLES.get(status, "Error"), "status": status, "detail": detail, **more}
    return ProblemResponse(body, status, headers=dict(headers or {}))


KINDS: dict[str, tuple[int, str]] = {
    "not_json": (400, "The body is not JSON."),
    "idempotency_key_missing": (400, "Idempotency-Key: this header is needed …"),
    "unauthorised": (401, "Send a live bearer token: Authorization: Bearer wdt_…"),
    "forbidden": (403, "This needs the role operator. The token has the role viewer."),
    "not_found": (404, "there is no job 7 in this organisation"),
    "conflict": (409, "letter 7 is not open: it is resolved"),
    "second_person": (409, "nothing is done yet: this needs a second person. Approval 7, asked for by token:ada, …"),
    "idempotency_key_reused": (409, "this idempotency key was used before, for another request; …"),
    "roster_refused": (409, "The roster has 3 people, the last one had 1,042. …"),
    "job_ended": (409, "job 7 had ended before, as completed; nothing was cancelled"),
    "pruned": (410, "the outcomes of job 7 were pruned on 2026-03-01; …"),
    "cursor_gone": (410, "after: what follows this place in the feed was deleted; …"),
    "too_large": (413, "The body may have at most 4,194,304 bytes."),
    "too_many_ids": (413, "enrolment_ids: up to 100,000; send more as a file to POST /v1/jobs/file"),
    "content_type": (415, "The content type must be application/json."),
    "invalid": (422, "reason: Input should be 'not_required', …"),
    "too_many_requests": (429, "More than 1,200 requests in a minute. Try again in 3 s, with the same key."),
    "unavailable": (503, "The database cannot be reached, or is too busy. Nothing was accepted. …"),
}
"""Problem types with their status and an example of their detail, for the OpenAPI document."""
EVERYWHERE = ("unauthorised", "forbidden", "invalid", "too_many_requests", "unavailable")
WITH_BODY = ("not_json", "too_large", "content_type")
_HEADERS = {401: ("WWW-Authenticate", "string"), 429: ("Retry-After", "integer"), 503: ("Retry-After", "integer")}
_USUAL = {400: "not_json", 404: "not_found", 409: "conflict", 410: "pruned", 413: "too_large", 415: "content_type"}


def describes(*wanted: int | str) -> dict[int | str, dict[str, Any]]:
    """The problems of an endpoint for the OpenAPI document, those that every endpoint has (`EVERYWHERE`) included.

    `wanted`: problem types of `KINDS`, or a status for its usual type.
    """
    found: dict[int | str, dict[str, Any]] = {}
    for item in (*EVERYWHERE, *wanted):
        kind = _USUAL.get(item, "") if isinstance(item, int) else item
        status = item if isinstance(item, int) else KINDS[item][0]
        entry = found.setdefault(status, _described(status))
        if kind:
            body = {"type": PREFIX + kind, "title": TITLES[status], "status": status, "detail": KINDS[kind][1]}
            entry["content"][MEDIA_TYPE]["examples"][kind] = {"value": body}
    return found


def _described(status: int) -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/Problem"}
    described: dict[str, Any] = {
        "description": TITLES[status],
        "content": {MEDIA_TYPE: {"schema": schema, "examples": {}}},
    }
    if status in _HEADERS:
        name, kind = _HEADERS[status]
        described["headers"] = {name: {"schema": {"type": kind}}}
    return described


def is_json(request: Request) -> bool:
    """Whether the content type of the request is JSON."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    return kind == "application/json"


def list_faults(found: Iterable[Any]) -> list[dict[str, str]]:
    """Pydantic's errors as `field` and `message`, without the values that were sent."""
    return [{"field": _field(item["loc"]), "message": item["msg"].removeprefix("Value error, ")} for item in found]


def join_faults(faults: Iterable[dict[str, str]]) -> str:
    """Faults as one sentence: `data.external_id: Field required; …`."""
    return "; ".join(f"{item['field']}: {item['message']}" if item["field"] else item["message"] for item in faults)


def _field(location: tuple[int | str, ...]) -> str:
    # Without the place (body, query, header) and the names of the validators inside a union.
    parts = [str(part) for part in location if not str(part).startswith(("function-", "datetime", "date"))]
    return ".".join(parts[1:] if parts and parts[0] in ("body", "query", "path", "header") else parts)
