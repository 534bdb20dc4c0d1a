"""Who calls: a bearer token, its organisation, and the role that an endpoint needs."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from worker.access import tokens
from worker.records import Role
from worker.web.context import Services, services
from worker.web.problems import ProblemError

_bearer = HTTPBearer(
    auto_error=False,
    scheme_name="token",
    bearerFormat="wdt_…",
    description="`withdrawals tokens create` makes one; it is shown once.",
)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who a token stands for."""

    token_id: int
    organisation_id: int
    name: str
    role: Role

    @property
    def actor(self) -> str:
        """What is put on record."""
        return f"token:{self.name}"

    @property
    def only_own(self) -> str | None:
        """A producer reads no jobs but its own: the requester to look for, None for all."""
        return self.actor if self.role is Role.PRODUCER else None

    def must_be(self, needed: Role) -> None:
        """Refuse what this token's role does not include.

        Raises:
            ProblemError: 403; names both roles.
        """
        if not self.role.includes(needed):
            raise ProblemError(403, "forbidden", f"This needs the role {needed}; the token has {self.role}.")


def caller(
    found: Annotated[Services, Depends(services)],
    presented: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
    request: Request,
) -> Caller:
    """The caller behind the bearer token.

    Raises:
        ProblemError: 401, one answer whatever is wrong with the token; 429 for a token that calls too often, and
            for an address with too many calls that were not let in.
    """
    token = tokens.authenticate(found.database, presented.credentials) if presented else None
    if token is None:
        limit_refusals(found, request)
        raise ProblemError(
            401,
            "unauthorised",
            "A live bearer token is needed: Authorization: Bearer wdt_…",
            headers={"WWW-Authenticate": "Bearer"},
        )
    limit(found, f"token:{token.id}", found.settings.rate_limit)
    return Caller(token.id, token.organisation_id, token.name, token.role)


def limit(found: Services, key: str, per_minute: int) -> None:
    """Count a call of this key; also for callers that have no token, such as HR sources.

    Raises:
        ProblemError: 429, with the seconds to wait.
    """
    wait = found.limiter.retry_after(key, per_minute)
    if wait is not None:
        raise ProblemError(
            429,
            "too_many_requests",
            f"More than {per_minute:,} requests in a minute; try again in {wait} s, with the same key.",
            headers={"Retry-After": str(wait)},
        )


def limit_refusals(found: Services, request: Request) -> None:
    """Count a call that is not let in, by its address.

    Raises:
        ProblemError: 429, with the seconds to wait.
    """
    limit(found, f"address:{request.client.host if request.client else ''}", found.settings.refusal_limit)


def needs(role: Role) -> Callable[..., Caller]:
    """A dependency: the caller, whose role includes `role`."""

    def allowed(who: Annotated[Caller, Depends(caller)]) -> Caller:
        who.must_be(role)
        return who

    allowed.__doc__ = f"Needs the role {role}."
    return allowed


Scim = Annotated[Caller, Depends(needs(Role.SCIM))]
Producer = Annotated[Caller, Depends(needs(Role.PRODUCER))]
Viewer = Annotated[Caller, Depends(needs(Role.VIEWER))]
Operator = Annotated[Caller, Depends(needs(Role.OPERATOR))]
Approver = Annotated[Caller, Depends(needs(Role.APPROVER))]
