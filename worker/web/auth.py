"""Who calls: a bearer token, its organisation, and the role that an endpoint needs."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from schemas.catalogue import Role
from worker.access import tokens
from worker.web.context import Services, services
from worker.web.problems import ProblemError

_bearer = HTTPBearer(
    auto_error=False,
    scheme_name="token",
    bearerFormat="wdt_…",
    description="`withdrawals tokens create` makes a token and shows it once.",
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
        """The name in the audit."""
        return f"token:{self.name}"

    @property
    def only_own(self) -> str | None:
        """The requester whose jobs this caller may read: a producer its own; None: all."""
        return self.actor if self.role is Role.PRODUCER else None

    def must_be(self, needed: Role) -> None:
        """Refuse what this token's role does not include.

        Raises:
            ProblemError: 403; names both roles.
        """
        if not self.role.includes(needed):
            raise ProblemError(403, "forbidden", f"This needs the role {needed}. The token has the role {self.role}.")


def caller(
    context: Annotated[Services, Depends(services)],
    presented: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
    request: Request,
) -> Caller:
    """The caller behind the bearer token.

    Raises:
        ProblemError: 401, with one answer whatever is wrong with the token; 429 for a token that calls too often,
            and for an address with too many refused calls.
    """
    token = tokens.authenticate(context.database, presented.credentials) if presented else None
    if token is None:
        limit_refusals(context, request)
        raise ProblemError(
            401,
            "unauthorised",
            "Send a live bearer token: Authorization: Bearer wdt_…",
            headers={"WWW-Authenticate": "Bearer"},
        )
    limit(context, f"token:{token.id}", context.settings.rate_limit)
    return Caller(token.id, token.organisation_id, token.name, token.role)


def limit(context: Services, key: str, per_minute: int) -> None:
    """Count a call of this key, such as a token, an HR source or an address.

    Raises:
        ProblemError: 429, with the seconds to wait.
    """
    wait = context.limiter.retry_after(key, per_minute)
    if wait is not None:
        raise ProblemError(
            429,
            "too_many_requests",
            f"More than {per_minute:,} requests in a minute. Try again in {wait} s, with the same key.",
            headers={"Retry-After": str(wait)},
        )


def limit_refusals(context: Services, request: Request) -> None:
    """Count a refused call, by its address.

    Raises:
        ProblemError: 429, with the seconds to wait.
    """
    limit(context, f"address:{request.client.host if request.client else ''}", context.settings.refusal_limit)


@dataclass(frozen=True, slots=True)
class RoleNeeded:
    """A dependency: the caller, whose role includes `role`. The OpenAPI document reads from it who may call."""

    role: Role

    def __call__(self, who: Annotated[Caller, Depends(caller)]) -> Caller:
        """The caller.

        Raises:
            ProblemError: 403, the role is not enough.
        """
        who.must_be(self.role)
        return who


Scim = Annotated[Caller, Depends(RoleNeeded(Role.SCIM))]
Producer = Annotated[Caller, Depends(RoleNeeded(Role.PRODUCER))]
Viewer = Annotated[Caller, Depends(RoleNeeded(Role.VIEWER))]
Operator = Annotated[Caller, Depends(RoleNeeded(Role.OPERATOR))]
Approver = Annotated[Caller, Depends(RoleNeeded(Role.APPROVER))]
