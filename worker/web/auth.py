"""Who calls: a bearer token, its organisation, and the role that an endpoint needs."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer, SecurityScopes

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


def authorise(needed: SecurityScopes, who: Annotated[Caller, Depends(caller)]) -> Caller:
    """The caller, if their role includes the role that the endpoint needs.

    The roles are OpenAPI's `security` of the operation, from which the document says who may call.

    Raises:
        ProblemError: 403, the role is not enough.
    """
    for role in needed.scopes:
        who.must_be(Role(role))
    return who


Scim = Annotated[Caller, Security(authorise, scopes=[Role.SCIM])]
Producer = Annotated[Caller, Security(authorise, scopes=[Role.PRODUCER])]
Viewer = Annotated[Caller, Security(authorise, scopes=[Role.VIEWER])]
Operator = Annotated[Caller, Security(authorise, scopes=[Role.OPERATOR])]
Approver = Annotated[Caller, Security(authorise, scopes=[Role.APPROVER])]
