"""Who looks at a page: the session behind the cookie, its role, its zone; and what every page is made with."""

import hmac
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any
from uuid import uuid4
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from fastapi import Depends, Form, Request
from markupsafe import Markup
from starlette.responses import HTMLResponse, RedirectResponse, Response

from schemas.catalogue import Role
from worker.access import sessions
from worker.access.sealing import Seal
from worker.access.sessions import Session
from worker.config import Settings
from worker.database import Database
from worker.jobs.submit import Requester
from worker.web.auth import Caller, limit
from worker.web.console.render import PATH, render
from worker.web.context import Services, services
from worker.web.problems import ProblemError, SignInNeededError

COOKIE = "withdrawals_session"
SAID = "withdrawals_said"
ZONE = "withdrawals_zone"
"""Cookies: the session; what the last act has to say, shown once; the browser's time zone."""
_SAID_FOR = 120  # seconds


@dataclass(frozen=True, slots=True)
class View:
    """One request of a signed-in person."""

    request: Request
    services: Services
    caller: Caller
    session: Session
    zone: ZoneInfo

    @property
    def database(self) -> Database:
        return self.services.database

    @property
    def settings(self) -> Settings:
        return self.services.settings

    @property
    def organisation_id(self) -> int:
        return self.caller.organisation_id

    @property
    def actor(self) -> str:
        """What is put on record."""
        return self.caller.actor

    def may(self, role: str) -> bool:
        """Whether the role includes `role`: only what one may do is offered."""
        return self.caller.role.includes(Role(role))

    def requester(self, key: str) -> Requester:
        """Who asks for a job, with the key that its form carried.

        Raises:
            ProblemError: 422; the form carried none.
        """
        if not 0 < len(key) <= 255 or not key.isprintable():
            raise ProblemError(422, "invalid", "The form was not complete; go back, load it again and send that.")
        return Requester(self.organisation_id, self.actor, "console", key)

    def page(self, template: str, *, status: int = 200, **shown: Any) -> Response:
        """A page; what the last act has to say stands on it, this once."""
        sealed = self.request.cookies.get(SAID)
        said = self._seal().open(sealed, within=_SAID_FOR) if sealed else None
        tools = {"csrf": self._csrf_field, "key": _key_field, "said": said.decode() if said else ""}
        made = HTMLResponse(render(template, self.request, view=self, **tools, **shown), status)
        if sealed:
            made.delete_cookie(SAID, path=PATH)
        return made

    def go(self, path: str, said: str = "") -> Response:
        """On to another page (303), which shows `said` once."""
        made = RedirectResponse(path, 303)
        if said:
            secure = self.request.url.scheme == "https"
            made.set_cookie(
                SAID, self._seal().seal(said.encode()), max_age=_SAID_FOR, path=PATH,
                httponly=True, samesite="lax", secure=secure,
            )  # fmt: skip
        return made

    def _seal(self) -> Seal:
        return Seal(self.settings, "console")

    def _csrf_field(self) -> Markup:
        return Markup('<input type="hidden" name="csrf" value="{}">').format(self.session.csrf)


def _key_field() -> Markup:
    """A new idempotency key: the same form sent twice asks for the same job."""
    return Markup('<input type="hidden" name="key" value="{}">').format(uuid4().hex)


def signed_in(request: Request, found: Annotated[Services, Depends(services)]) -> View:
    """The view of a live session.

    Raises:
        SignInNeededError: there is none, it is over, or its token was revoked.
        ProblemError: 429 for a token that calls too often.
    """
    cookie = request.cookies.get(COOKIE)
    session = sessions.find(found.database, cookie) if cookie else None
    if session is None:
        raise SignInNeededError
    token = session.token
    limit(found, f"token:{token.id}", found.settings.rate_limit)
    caller = Caller(token.id, token.organisation_id, token.name, token.role)
    return View(request, found, caller, session, _zone(request.cookies.get(ZONE), session.timezone))


def acting(role: Role) -> Callable[..., View]:
    """A dependency of a form: the view, whose role includes `role`, and whose form it was."""

    def allowed(view: Annotated[View, Depends(signed_in)], csrf: Annotated[str, Form()] = "") -> View:
        if not hmac.compare_digest(csrf.encode("utf-8", "replace"), view.session.csrf.encode()):
            raise ProblemError(
                403, "forbidden", "This form belongs to another sign-in; go back, load the page again and send it then."
            )
        view.caller.must_be(role)
        return view

    return allowed


Looking = Annotated[View, Depends(signed_in)]
Submitting = Annotated[View, Depends(acting(Role.PRODUCER))]
Operating = Annotated[View, Depends(acting(Role.OPERATOR))]
Approving = Annotated[View, Depends(acting(Role.APPROVER))]


def _zone(*names: str | None) -> ZoneInfo:
    """The first of the zones that is known."""
    for name in names:
        try:
            if name:
                return ZoneInfo(name)
        except (ValueError, OSError, ZoneInfoNotFoundError):
            continue
    return ZoneInfo("UTC")
