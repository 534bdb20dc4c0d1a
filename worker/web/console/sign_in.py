"""Sign in and out: exchange a token, or the code of a link, for a session cookie."""

from typing import Annotated
from urllib.parse import urlsplit

from fastapi import APIRouter, Form, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from worker.access import sessions
from worker.access.sessions import Limits
from worker.errors import ForbiddenError
from worker.texts import text
from worker.web.auth import limit_refusals
from worker.web.console.demo_people import is_of_this_machine, list_offered
from worker.web.console.render import PATH, render
from worker.web.console.view import COOKIE, MESSAGE, SigningOut
from worker.web.context import Context, Services
from worker.web.problems import ProblemError

router = APIRouter(prefix=PATH, include_in_schema=False)

_NOT_RECOGNISED = text(
    "Token not recognised. Check that you copied all of it, or ask whoever runs the service for another."
)


@router.get("/sign-in")
def form(context: Context, request: Request, next: str = PATH) -> Response:  # noqa: A002 - a name of the address
    """The sign-in form."""
    return show_form(context, request, next=next)


@router.post("/sign-in")
def sign_in(
    context: Context,
    request: Request,
    token: Annotated[str, Form()] = "",
    next: Annotated[str, Form()] = PATH,  # noqa: A002 - a name of the form
) -> Response:
    """Open a session; end the one that this browser had."""
    refuse_other_sites(request)
    if not context.settings.console_tokens:
        raise ProblemError(403, "forbidden", text("People do not sign in with a token here."))
    status, error = 401, str(_NOT_RECOGNISED)
    cookie = None
    try:
        cookie = sessions.sign_in(
            context.database, token, limits=Limits.of(context.settings), browser=request.headers.get("user-agent")
        )
    except ForbiddenError as refused:
        status, error = 403, str(refused)
    if cookie is None:
        limit_refusals(context, request)
        return show_form(context, request, next=next, error=error, status=status)
    return admit(context, request, cookie, next=next)


@router.post("/sign-in/demo")
def sign_in_by_name(
    context: Context,
    request: Request,
    person: Annotated[str, Form(max_length=20)] = "",
    next: Annotated[str, Form()] = PATH,  # noqa: A002 - a name of the form
) -> Response:
    """Sign in as one of the demo's people, without a token; outside a demo there is nobody."""
    refuse_other_sites(request)
    cookie = None
    if person in {str(one.id) for one in list_offered(context, request)}:
        cookie = sessions.sign_in_by_name(
            context.database,
            int(person),
            limits=Limits.of(context.settings),
            browser=request.headers.get("user-agent"),
        )
    if cookie is None:
        limit_refusals(context, request)
        said = text("Nobody is signed in by name here. Sign in with a token.")
        return show_form(context, request, next=next, error=said, status=403)
    return admit(context, request, cookie, next=next)


@router.get("/link")
def show_link(request: Request) -> Response:
    """Where a link of `withdrawals up` leads. Its code is behind the `#`: nobody who only looks the page up uses it."""
    return HTMLResponse(render("link.html", request, error=""))


@router.post("/link")
def use_link(context: Context, request: Request, code: Annotated[str, Form()] = "") -> Response:
    """Sign in with the code of a link, once, on this machine alone."""
    refuse_other_sites(request)
    cookie = None
    if context.settings.console_tokens and is_of_this_machine(request):
        cookie = sessions.sign_in_by_link(
            context.database,
            code.strip(),
            limits=Limits.of(context.settings),
            browser=request.headers.get("user-agent"),
        )
    if cookie is None:
        limit_refusals(context, request)
        error = text("This link was used before, or has expired. Start the service again, or sign in with a token.")
        return HTMLResponse(render("link.html", request, error=error), 401)
    return admit(context, request, cookie, next=PATH)


@router.post("/sign-out")
def sign_out(view: SigningOut) -> Response:
    """End the session in the browser and on the server."""
    sessions.sign_out(view.database, view.request.cookies[COOKIE])
    of_provider = view.caller.member_id is not None
    answer = RedirectResponse(f"{PATH}/signed-out" if of_provider else f"{PATH}/sign-in", 303)
    for cookie in (COOKIE, MESSAGE):
        answer.delete_cookie(cookie, path=PATH)
    return answer


@router.get("/signed-out")
def show_signed_out(context: Context, request: Request) -> Response:
    """After the end of a member's session: the provider's own session can be ended as well."""
    provider = context.provider
    url = provider.end_session_url() if provider else None
    return HTMLResponse(render("signed_out.html", request, provider=provider, end_session_url=url))


def show_form(
    context: Services,
    request: Request,
    *,
    next: str = PATH,  # noqa: A002 - a name of the address
    error: str = "",
    status: int = 200,
) -> Response:
    """The sign-in page, with what was wrong with the last try."""
    shown = render(
        "sign_in.html",
        request,
        next=path_inside(next),
        error=error,
        provider=context.provider,
        tokens=context.settings.console_tokens,
        people=list_offered(context, request),
    )
    return HTMLResponse(shown, status)


def admit(context: Services, request: Request, cookie: str, *, next: str) -> Response:  # noqa: A002 - see above
    """Go on as the new session's holder; the session that this browser had ends."""
    if old := request.cookies.get(COOKIE):
        sessions.sign_out(context.database, old)
    answer = RedirectResponse(path_inside(next), 303)
    answer.set_cookie(
        COOKIE, cookie, max_age=int(context.settings.session_hours * 3600), path=PATH,
        httponly=True, samesite="lax", secure=request.url.scheme == "https",
    )  # fmt: skip
    return answer


def refuse_other_sites(request: Request) -> None:
    """Refuse a form that another site sent: by `Sec-Fetch-Site` where the browser sends it, else by `Origin`.

    Raises:
        ProblemError: 403.
    """
    site = request.headers.get("sec-fetch-site")
    origin = request.headers.get("origin")
    if site is not None:
        same = site in ("same-origin", "none")
    else:
        same = origin is None or urlsplit(origin).netloc == request.headers.get("host")
    if not same:
        raise ProblemError(403, "forbidden", text("Sign in on this page, not from another site."))


def path_inside(path: str) -> str:
    """`path` if it is a page of the console, else the start page: never another site."""
    inside = path == PATH or path.startswith((f"{PATH}/", f"{PATH}?"))
    return path if inside and "\\" not in path and path.isprintable() else PATH
