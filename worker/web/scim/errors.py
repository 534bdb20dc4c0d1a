"""Errors in SCIM's form (RFC 7644 §3.12)."""

from collections.abc import Mapping

from fastapi.responses import JSONResponse

PREFIX = "/scim/v2"
MEDIA_TYPE = "application/scim+json"
USER = "urn:ietf:params:scim:schemas:core:2.0:User"
MESSAGE = "urn:ietf:params:scim:api:messages:2.0"

_KEYWORDS = {
    "uniqueness": "uniqueness",
    "mutability": "mutability",
    "not_json": "invalidSyntax",
    "invalid": "invalidValue",
}
"""Problem types of the service that SCIM has a keyword for."""


def error(status: int, kind: str | None, detail: str, *, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """An error as an answer; `kind` is a problem type, or a keyword of SCIM's own."""
    keyword = None if kind is None or status not in (400, 409) else _KEYWORDS.get(kind, kind)
    if keyword is not None and (not keyword.isalpha() or (status == 409 and keyword != "uniqueness")):
        keyword = None
    sendable = detail.encode("utf-8", "replace").decode()  # it can name an attribute with half a surrogate pair
    body = {"schemas": [f"{MESSAGE}:Error"], "status": str(status), "detail": sendable}
    body |= {"scimType": keyword} if keyword is not None else {}
    return JSONResponse(body, status, headers=dict(headers or {}), media_type=MEDIA_TYPE)
