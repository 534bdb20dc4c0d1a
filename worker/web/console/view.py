"""Who looks at a page: the session behind the cookie, its role and time zone; and the answers that pages give."""

import hmac
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar
from uuid import uuid4
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from fastapi import Depends, Form, Request
from fastapi.routing import APIRoute
from markupsafe import Markup
from starlette.concurrency import run_in_threadpool
from starlette.responses import HTMLResponse, RedirectResponse, Response

from schemas.catalogue import JobState, Role
from schemas.dead_letters import LetterFilter
from worker.access import sessions
from worker.access.sealing import Seal
from worker.access.sessions import Session
from worker.approvals import decisions
from worker.config import Settings
from worker.database import Database
from worker.jobs.admission import SIGNED_IN
from worker.jobs.submit import Requester
from worker.ledger import letter_counts, waiting
from worker.ledger.sessions import Holder
from worker.ledger.tokens import Token
from worker.records import Job
from worker.texts import Text, text
from worker.web.auth import Caller, limit_calls
from worker.web.console.demo_people import list_offered
from worker.web.console.languages import Language, language_of
from worker.web.console.render import PATH, render
from worker.web.context import Services, services
from worker.web.problems import ProblemError, SignInNeededError

T = TypeVar("T")

COOKIE = "withdrawals_session"
MESSAGE = "withdrawals_message"
ZONE = "withdrawals_zone"
"""Cookies: the session; the message of the last act, shown once; the browser's time zone."""
COUNTED = 100
"""What the badges of the menu count: approvals of each kind, letters."""
_MESSAGE_SECONDS = 120
_NONE = "-"
_LONGEST_ZONE = 64
"""Characters; the longest name of a time zone has 32."""


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
        """The name that the audit records."""
        return self.caller.actor

    @property
    def language(self) -> Language:
        """What the page speaks."""
        return language_of(self.request)

    def say(self, sentence: str) -> str:
        """A sentence in the page's language, for what is put together before a template sees it."""
        return self.language.say(sentence)

    def may(self, role: str) -> bool:
        """Whether the viewer's role includes `role`. Pages offer only what it may do."""
        return self.caller.role.includes(Role(role))

    def count_waiting(self) -> int:
        """How much waits for a second person, counted up to a hundred of each kind."""
        with self.database.begin() as connection:
            return waiting.count_waiting(connection, self.organisation_id, most=COUNTED)

    def count_letters(self) -> int:
        """How many letters are not closed, counted up to one more than a hundred."""
        with self.database.begin() as connection:
            return letter_counts.count_letters(
                connection, self.organisation_id, LetterFilter(), live=True, most=COUNTED + 1
            )

    def list_second_people(self) -> list[str]:
        """Who could decide now on what the viewer has asked for."""
        return self.act(decisions.list_second_people)

    def list_demo_people(self, role: str = Role.APPROVER) -> list[Token]:
        """In a demo, who else can be signed in as by name, with at least this role."""
        offered = list_offered(self.services, self.request)
        return [one for one in offered if one.id != self.caller.token_id and one.role.includes(Role(role))]

    def requester(self, key: str) -> Requester:
        """Who asks for a job, with the idempotency key of its form.

        Raises:
            ProblemError: 422; the form has no key.
        """
        if not 0 < len(key) <= 255 or not key.isprintable():
            said = text("The form is incomplete. Go back, reload the page, and send it again.")
            raise ProblemError(422, "invalid", said)
        return Requester(self.organisation_id, self.actor, SIGNED_IN, key)

    def act(self, act: Callable[..., T]) -> T:
        """Call what needs the viewer as `who`, in their organisation; what else it takes is given (`partial`)."""
        return act(self.database, organisation_id=self.organisation_id, who=self.caller.person)

    def page(self, template: str, *, status: int = 200, **shown: Any) -> Response:
        """A page, with the message of the last act if it was not shown yet."""
        sealed = self.request.cookies.get(MESSAGE)
        opened = self._seal().open(sealed, within=_MESSAGE_SECONDS) if sealed else None
        tone, _, said = opened.decode().partition(" ") if opened else ("", "", "")
        undo, _, said = said.partition(" ")
        job, _, message = said.partition(" ")
        tools = {"csrf": self._csrf_field, "key": _key_field, "message": message, "message_tone": tone}
        tools["message_undo"] = undo if undo != _NONE and self.may(Role.OPERATOR) else ""
        tools["message_job"] = job if job != _NONE else ""
        answer = HTMLResponse(render(template, self.request, view=self, **tools, **shown), status)
        if sealed:
            answer.delete_cookie(MESSAGE, path=PATH)
        return answer

    def go_on(self, job: Job) -> Response:
        """Go on after a job was asked for: to its page, where the form is gone, so that it is not sent twice."""
        path = f"{PATH}/jobs/{job.id}"
        if job.state is not JobState.HELD:
            return self.go(path)
        size = _describe_size(job)
        said = text(
            "Requested as job {job}: {size}. Nothing is withdrawn before it is released.", job=job.id, size=size
        )
        return self.go(path, said, tone="warn", job=job.id)

    def go(
        self, path: str, said: str = "", *, tone: str = "good", undo: int | None = None, job: int | None = None
    ) -> Response:  # fmt: skip
        """Redirect to another page (303), which shows `said` once. `tone`: `warn` for what is not done yet.

        `undo`: the job that a button beside it takes back; `job`: the one that it is about, to which a link leads.
        """
        answer = RedirectResponse(path, 303)
        if said:
            secure = self.request.url.scheme == "https"
            message = self._seal().seal(f"{tone} {undo or _NONE} {job or _NONE} {self.say(said)}".encode())
            answer.set_cookie(
                MESSAGE, message, max_age=_MESSAGE_SECONDS, path=PATH,
                httponly=True, samesite="lax", secure=secure,
            )  # fmt: skip
        return answer

    def _seal(self) -> Seal:
        return Seal(self.settings, "console")

    def _csrf_field(self) -> Markup:
        return Markup('<input type="hidden" name="csrf" value="{}">').format(self.session.csrf)


def _describe_size(job: Job) -> Text:
    if job.learner_external_id is not None:
        return text("all active enrolments of a learner")
    return text("1 enrolment") if job.accepted == 1 else text("{count:,} enrolments", count=job.accepted)


def _key_field() -> Markup:
    """A field with a new idempotency key: the same form sent twice asks for the same job."""
    return Markup('<input type="hidden" name="key" value="{}">').format(uuid4().hex)


def signed_in(request: Request, found: Annotated[Services, Depends(services)]) -> View:
    """The view of a live session.

    Raises:
        SignInNeededError: there is no session, it has expired, or its token was revoked.
        ProblemError: 429; too many requests.
    """
    known: View | None = getattr(request.state, "view", None)
    if known is not None:
        return known
    cookie = request.cookies.get(COOKIE)
    session = sessions.find(found.database, cookie) if cookie else None
    if session is None:
        raise SignInNeededError
    who = session.holder
    if not _is_still_a_way_in(who, found):
        raise SignInNeededError
    caller = Caller(who.token_id, who.organisation_id, who.name, who.role, who.made_by, who.member_id)
    limit_calls(found, caller)
    request.state.view = View(request, found, caller, session, _zone(request.cookies.get(ZONE), session.timezone))
    return request.state.view  # type: ignore[no-any-return]


def _is_still_a_way_in(who: Holder, found: Services) -> bool:
    """Whether somebody could sign in like this now: settings may have changed since."""
    if who.member_id is None:
        return found.settings.console_tokens
    return who.issuer == found.settings.oidc_issuer


class SignedInFirst(APIRoute):
    """A route that reads no form before the sender is signed in. FastAPI reads it before any dependency runs, so that
    whoever likes could make the service store a file."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        answer = super().get_route_handler()

        async def answer_signed_in(request: Request) -> Response:
            await run_in_threadpool(signed_in, request, await services(request))
            return await answer(request)

        return answer_signed_in


@dataclass(frozen=True, slots=True)
class Seeing:
    """A dependency for pages that only some roles see. `ops/roles.md` is generated from `role`."""

    role: Role

    def __call__(self, view: Annotated[View, Depends(signed_in)]) -> View:
        """The view, once its role includes `role`.

        Raises:
            ProblemError: 403; the role is not enough.
        """
        view.caller.must_be(self.role)
        return view


@dataclass(frozen=True, slots=True)
class Acting:
    """A dependency for forms, which belong to one session and to some roles."""

    role: Role

    def __call__(self, view: Annotated[View, Depends(signed_in)], csrf: Annotated[str, Form()] = "") -> View:
        """The view, once its role includes `role` and the form belongs to its session.

        Raises:
            ProblemError: 403; the form is of another session, or the role is not enough.
        """
        if not hmac.compare_digest(csrf.encode("utf-8", "replace"), view.session.csrf.encode()):
            raise ProblemError(
                403,
                "forbidden",
                text("This form belongs to another sign-in. Go back, reload the page, and send it again."),
            )
        view.caller.must_be(self.role)
        return view


Looking = Annotated[View, Depends(Seeing(Role.VIEWER))]
LookingAsOperator = Annotated[View, Depends(Seeing(Role.OPERATOR))]
LookingAsApprover = Annotated[View, Depends(Seeing(Role.APPROVER))]
SigningOut = Annotated[View, Depends(Acting(Role.VIEWER))]
Operating = Annotated[View, Depends(Acting(Role.OPERATOR))]
LookingAsOwner = Annotated[View, Depends(Seeing(Role.OWNER))]
Approving = Annotated[View, Depends(Acting(Role.APPROVER))]
Owning = Annotated[View, Depends(Acting(Role.OWNER))]


def _zone(*names: str | None) -> ZoneInfo:
    """The first time zone that this machine knows; UTC if none is known."""
    for name in names:
        try:
            if name and len(name) <= _LONGEST_ZONE:  # each part of a name is looked up inside the part before
                return ZoneInfo(name)
        except (ValueError, OSError, ZoneInfoNotFoundError):
            continue
    return ZoneInfo("UTC")
