"""Security events of SCIM: `POST /hooks/security-events/{source}`.

A publisher pushes one Security Event Token (SET, RFC 8417) a request, as `application/secevent+jwt`; the answer is 202
without a body, or 400 with `err` and `description` (RFC 8935, sections 2.2 to 2.4). The events are those of the SCIM
profile (RFC 9967, section 2; read as draft-ietf-scim-events-16, which became the RFC):

- `prov:deactivate`, `prov:activate` and `prov:delete` mean here what they mean at `/scim/v2`. RFC 9967 leaves the
  meaning of `deactivate` to the two sides: a publisher that deactivates people who are on leave must not be connected.
- `prov:create:full`, `put:full` and `patch:full` count when their data sets `active`.
- A `notice` that names `active` does not say to what it was set. Nobody is asked, and nobody is withdrawn on doubt:
  unless the same token says it, this is refused, and support has a copy.
- `feed:remove` "does not indicate that the resource was deleted or otherwise deactivated".

The person's `external_id` is `sub_id.externalId`. `jti` makes a token one event; where there is a `txn`, the
transaction does, because "the txn remains the same when one or more SETs are generated", such as for a re-transmission.
`toe`, else `iat`, says which event is newer.

A token that has expired by its own `exp`, or is not valid yet by its `nbf`, is refused (RFC 7519, sections 4.1.4 and
4.1.5), and support has a copy, so that nobody's leave is lost; RFC 8417, section 2.2, discourages `exp` for events.
"""

import json
import time
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from worker.errors import IdempotencyConflictError
from worker.people import event_publishers
from worker.people.events import MAX_CLOCK_SKEW
from worker.people.inbox import IncomingEvent, RejectedEvent
from worker.web.body import NotJsonError, parse, read
from worker.web.context import Context, Services
from worker.web.hooks import common
from worker.web.problems import ProblemError, describes

router = APIRouter(prefix="/hooks/security-events", tags=["Security events"])

MEDIA_TYPE = "application/secevent+jwt"
TYPES = ("secevent+jwt", MEDIA_TYPE, "jwt")
"""What `typ` may be, in lower case. A token of another type, such as one for access, is not an event."""
PREFIX = "urn:ietf:params:scim:event:prov:"
SAYS = {"deactivate": "user.deactivated", "delete": "user.deactivated", "activate": "user.reactivated"}
WHOLE = ("create:full", "put:full")
EXPIRED, EARLY = "exp: the token has expired", "nbf: the token is not valid yet"
UNSAID = "events: a notice says that `active` has changed, and not to what"


class RefusedSetError(Exception):
    """A token that is not taken. `err`: its code in RFC 8935, section 2.4."""

    def __init__(self, err: str, description: str) -> None:
        super().__init__(description)
        self.err = err


_Opened = tuple[event_publishers.Publisher, dict[str, Any], bytes]
"""A publisher, and header and payload of a token that it has signed."""


class SetFailure(BaseModel):
    """Why a token was not taken (RFC 8935, section 2.3)."""

    err: str
    description: str


@router.post(
    "/{source}",
    status_code=202,
    response_class=Response,
    responses={400: {"model": SetFailure, "description": "The token was not taken."}, **describes(413, 415)},
)
async def receive_security_events(context: Context, request: Request, source: str) -> Response:
    """Receive a Security Event Token about a user. The publisher signs it; no token of this service is needed."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != MEDIA_TYPE:
        raise ProblemError(415, "content_type", f"The content type must be {MEDIA_TYPE}.")
    try:
        await _take(context, request, source, (await read(request)).decode("latin-1").strip())
    except RefusedSetError as error:
        content = SetFailure(err=error.err, description=str(error)).model_dump()
        return JSONResponse(content, 400, headers={"Content-Language": "en"})
    return Response(status_code=202)


async def _take(context: Services, request: Request, source: str, token: str) -> None:
    opened: list[_Opened] = []
    try:
        sender = await common.authenticate(
            context, request, "security-events", source, lambda document: _is_genuine(document, token, opened)
        )
    except ProblemError as error:
        if error.status != 401:
            raise
        raise RefusedSetError("authentication_failed", error.detail) from None
    publisher, header, payload = opened[-1]
    claims = read_claims(header, payload)
    if claims.iss != publisher.issuer:
        raise RefusedSetError("invalid_issuer", "The issuer is not that of this source.")
    if publisher.audience not in ([claims.aud] if isinstance(claims.aud, str) else claims.aud):
        raise RefusedSetError("invalid_audience", "The audience is not that of this source.")
    event = read_event(claims)
    if event is None:
        return
    try:
        stored = await common.store(context, sender, event)
    except IdempotencyConflictError:
        raise RefusedSetError("invalid_request", "The `jti` was used before, for another event.") from None
    if isinstance(stored, RejectedEvent):
        raise RefusedSetError("invalid_request", f"{stored.fault}. Support has a copy.")


def _is_genuine(document: str, token: str, opened: list[_Opened]) -> bool:
    publisher = event_publishers.read(document)
    found = publisher.open(token) if publisher is not None else None
    if publisher is None or found is None:
        return False
    opened.append((publisher, *found))
    return True


class Claims(BaseModel):
    """The claims of a token of RFC 8417, as RFC 9967 has them."""

    model_config = ConfigDict(strict=True)

    iss: str
    aud: str | list[str]
    jti: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    iat: Annotated[float, Field(ge=0, le=253_402_300_799)]
    toe: Annotated[float, Field(ge=0, le=253_402_300_799)] | None = None
    exp: float | None = None
    nbf: float | None = None
    txn: Annotated[str, StringConstraints(min_length=1)] | None = None
    sub: None = None
    """Must not be there: so no token for access passes for an event (RFC 9967, section 2.1)."""
    sub_id: dict[str, Any] | None = None
    events: Annotated[dict[str, dict[str, Any]], Field(min_length=1)]


def read_claims(header: dict[str, Any], payload: bytes) -> Claims:
    """The claims of a token whose signature was checked.

    Raises:
        RefusedSetError: it is not a Security Event Token; the message quotes nothing of it.
    """
    if str(header.get("typ", "jwt")).lower() not in TYPES:
        raise RefusedSetError("invalid_request", f"typ: must be {TYPES[0]}")
    try:
        return Claims.model_validate(parse(payload))
    except NotJsonError:
        raise RefusedSetError("invalid_request", "The payload is not JSON.") from None
    except ValidationError as error:
        raise RefusedSetError("invalid_request", common.describe_faults(error)) from None


def read_event(claims: Claims) -> IncomingEvent | None:
    """The event of a token; None: it says nothing about whether a user is active."""
    said, unsaid = _what_is_said(claims.events)
    subject = claims.sub_id or {}
    if not (said or unsaid) or not str(subject.get("uri", "")).startswith(("/Users/", "Users/")):
        return None
    about = {"sub_id": subject, "events": claims.events, "toe": claims.toe}
    body = common.event_bytes(about)
    if claims.txn is not None:
        key = f"txn:{common.digest(json.dumps([claims.txn, subject.get('uri'), sorted(claims.events)]).encode())}"
    else:
        key = f"jti:{claims.jti}"
    untimely = _why_untimely(claims, time.time())
    if untimely is not None:  # under a key of its own: it can come again in time, or as another token with its `txn`
        return IncomingEvent(f"untimely:{key}", body, fault=untimely)
    if len(said) > 1:
        return IncomingEvent(key, body, fault="events: the token says that the user is active, and that they are not")
    if not said:
        return IncomingEvent(key, body, fault=UNSAID)
    happened = datetime.fromtimestamp(claims.iat if claims.toe is None else claims.toe, UTC)
    return common.make_event(key, body, type=said.pop(), external_id=subject.get("externalId"), occurred_at=happened)


def _why_untimely(claims: Claims, now: float) -> str | None:
    skew = MAX_CLOCK_SKEW.total_seconds()
    if claims.exp is not None and claims.exp <= now - skew:
        return EXPIRED
    return EARLY if claims.nbf is not None and claims.nbf > now + skew else None


def _what_is_said(events: dict[str, dict[str, Any]]) -> tuple[set[str], bool]:
    """The internal types of a token's events; and whether `active` was changed without saying to what."""
    said: set[str] = set()
    unsaid = False
    for uri, payload in events.items():
        name = uri.lower().removeprefix(PREFIX)
        if name == uri.lower():
            continue
        if name in SAYS:
            said.add(SAYS[name])
        elif name.endswith(":notice"):
            changed = payload.get("attributes")
            unsaid |= any(str(one).lower() == "active" for one in changed) if isinstance(changed, list) else False
        else:
            active = _active(name, payload.get("data"))
            if active is not None:
                said.add("user.reactivated" if active else "user.deactivated")
    return said, unsaid


def _active(name: str, data: Any) -> bool | None:
    """To what an event's data sets `active`; None: it does not."""
    if not isinstance(data, dict):
        return None
    found = data.get("active") if name in WHOLE else None
    operations = data.get("Operations") if name == "patch:full" else None
    for item in operations if isinstance(operations, list) else []:
        value = item.get("value") if isinstance(item, dict) else None
        if isinstance(item, dict) and str(item.get("path", "")).lower() == "active":
            found = value
        elif isinstance(item, dict) and not item.get("path") and isinstance(value, dict) and "active" in value:
            found = value["active"]
    text = str(found).lower() if isinstance(found, bool | str) else ""
    return {"true": True, "false": False}.get(text)
