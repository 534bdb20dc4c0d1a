"""Who calls: a bearer token, its organisation, and the role that an endpoint needs."""

from dataclasses import dataclass
from typing import Annotated

import structlog
from fastapi import Depends, Request, Security
from fastapi.security import HTTPBearer, SecurityScopes
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from schemas.catalogue import Role
from worker.access import tokens
from worker.access.memory import NEEDS_DATABASE
from worker.access.persons import Actor, member_actor
from worker.ledger.tokens import Token
from worker.telemetry import metrics
from worker.web.context import Services, services
from worker.web.problems import ProblemError
from worker.web.scim.errors import PREFIX as SCIM_PREFIX

log = structlog.get_logger(__name__)

_bearer = HTTPBearer(
    auto_error=False,
    scheme_name="token",
    bearerFormat="wdt_…",
    description="`withdrawals tokens create` makes a token and shows it once.",
)


@dataclass(frozen=True, slots=True)
class Caller:
    """Whom a token stands for, or a session: its token, or a member."""

    token_id: int | None
    organisation_id: int
    name: str
    role: Role
    made_by: str | None = None
    """Who created the token."""
    member_id: int | None = None
    """Of somebody who has signed in with a provider."""

    @property
    def key(self) -> str:
        """By which the calls of one caller are counted."""
        return f"token:{self.token_id}" if self.member_id is None else f"member:{self.member_id}"

    @property
    def person(self) -> Actor:
        """Who it is, for decisions that need a second person."""
        return Actor(self.actor, self.made_by)

    @property
    def actor(self) -> str:
        """The name in the audit."""
        return f"token:{self.name}" if self.member_id is None else member_actor(self.name, self.member_id)

    @property
    def only_own(self) -> str | None:
        """The requester whose jobs this caller may read: a producer its own; None: all."""
        return self.actor if self.role is Role.PRODUCER else None

    def must_be(self, *needed: Role) -> None:
        """Refuse a role that includes none of `needed`.

        Raises:
            ProblemError: 403; names the roles.
        """
        if not any(self.role.includes(one) for one in needed):
            roles = " or ".join(needed)
            who = "The token has" if self.member_id is None else "You have"
            raise ProblemError(403, "forbidden", f"This needs the role {roles}. {who} the role {self.role}.")


class TokenFirst:
    """Middleware that looks the token up, and gives no body to an endpoint whose caller has no live one.

    FastAPI reads a body before any dependency runs: whoever likes could make the service read and parse megabytes. The
    endpoint sees an empty body, and refuses the caller as it would anyway.
    """

    def __init__(self, app: ASGIApp, paths: tuple[str, ...]) -> None:
        """`paths`: the beginnings of those that need a token."""
        self.app, self._paths = app, paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith(self._paths):
            try:
                scope[_FOUND] = await _find_token(scope)
            except Exception as error:  # raised again by `identify`, where it becomes an answer
                scope[_FOUND] = error
            if not isinstance(scope[_FOUND], Token):
                receive = _no_body
        await self.app(scope, receive, send)


_FOUND = "withdrawals.token"
"""Where `TokenFirst` leaves what it found, in the scope of a request."""


async def _find_token(scope: Scope) -> Token | None:
    """The live token that a request bears; from memory, or else in a thread that waits for the database."""
    scheme, _, presented = Headers(scope=scope).get("authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        return None
    context: Services = scope["app"].state.services
    token = tokens.recall(context.door, presented.strip())
    if token is NEEDS_DATABASE:
        return await context.at_the_door(tokens.authenticate, context.door, presented.strip())
    return token


async def _no_body() -> Message:
    return {"type": "http.request", "body": b"", "more_body": False}


async def caller(
    context: Annotated[Services, Depends(services)],
    _: Annotated[object, Depends(_bearer)],  # for the OpenAPI document
    request: Request,
) -> Caller:
    """`identify` as a dependency."""
    return await identify(context, request)


async def identify(context: Services, request: Request) -> Caller:
    """The caller behind the bearer token.

    Raises:
        ProblemError: 401, with one answer whatever is wrong with the token; 429 for a token that calls too often,
            and for an address with too many refused calls.
    """
    token: Token | Exception | None = request.scope[_FOUND]
    if isinstance(token, Exception):
        raise token
    if token is None:
        await run_in_threadpool(limit_refusals, context, request)
        raise ProblemError(
            401,
            "unauthorised",
            "Send a live bearer token: Authorization: Bearer wdt_…",
            headers={"WWW-Authenticate": "Bearer"},
        )
    found = Caller(token.id, token.organisation_id, token.name, token.role, token.created_by)
    limit_calls(context, found)
    return found


def limit_calls(context: Services, who: Caller) -> None:
    """Count a call.

    Raises:
        ProblemError: 429, with the seconds to wait.
    """
    per_minute = context.settings.rate_limit
    _pass_or_wait(context.calls.retry_after(who.key, per_minute), per_minute)


def limit_refusals(context: Services, request: Request) -> None:
    """Log and count a refused call, by its address. It waits for Redis. What was presented is not logged.

    Raises:
        ProblemError: 429, with the seconds to wait.
    """
    address = request.client.host if request.client else ""
    door = _door(request.url.path)
    metrics.REFUSED.labels(door).inc()
    per_minute = context.settings.refusal_limit
    wait = context.limiter.retry_after(f"address:{address}", per_minute)
    if wait is None:  # beyond the limit they are only counted, so that nobody can fill the log
        log.warning("sign_in.refused", door=door, address=address)
    _pass_or_wait(wait, per_minute)


def _door(path: str) -> str:
    """Which door a path belongs to."""
    return next((door for start, door in _DOORS.items() if path.startswith(start)), "api")


_DOORS = {"/hooks/": "hook", f"{SCIM_PREFIX}/": "scim", "/console": "console"}


def _pass_or_wait(wait: int | None, per_minute: int) -> None:
    if wait is not None:
        raise ProblemError(
            429,
            "too_many_requests",
            f"More than {per_minute:,} requests in a minute. Try again in {wait} s, with the same key.",
            headers={"Retry-After": str(wait)},
        )


async def authorise(needed: SecurityScopes, who: Annotated[Caller, Depends(caller)]) -> Caller:
    """The caller, if their role includes one of the roles that the endpoint names.

    The roles are OpenAPI's `security` of the operation, from which the document says who may call.

    Raises:
        ProblemError: 403, the role is not enough.
    """
    who.must_be(*map(Role, needed.scopes))
    return who


def needs(role: Role) -> list[dict[str, list[str]]]:
    """The `security` of an operation that checks the role itself, as `Security` below writes it for the others."""
    return [{_bearer.scheme_name: [role]}]


Scim = Annotated[Caller, Security(authorise, scopes=[Role.SCIM])]
Producer = Annotated[Caller, Security(authorise, scopes=[Role.PRODUCER])]
ReaderOfJobs = Annotated[Caller, Security(authorise, scopes=[Role.PRODUCER, Role.VIEWER])]
"""A producer reads its own jobs (`only_own`), a viewer all."""
Viewer = Annotated[Caller, Security(authorise, scopes=[Role.VIEWER])]
Operator = Annotated[Caller, Security(authorise, scopes=[Role.OPERATOR])]
Approver = Annotated[Caller, Security(authorise, scopes=[Role.APPROVER])]
Owner = Annotated[Caller, Security(authorise, scopes=[Role.OWNER])]
