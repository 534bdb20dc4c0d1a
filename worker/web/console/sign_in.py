"""Sign in and out: exchange a token for a session cookie."""

from typing import Annotated
from urllib.parse import urlsplit

from fastapi import APIRouter, Form, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from worker.access import sessions
from worker.errors import ForbiddenError
from worker.web.auth import limit_refusals
from worker.web.console.render import PATH, render
from worker.web.console.view import COOKIE, MESSAGE, SigningOut
from worker.web.context import Context
from worker.web.problems import ProblemError

router = APIRouter(prefix=PATH, include_in_schema=False)


@router.get("/sign-in")
def form(request: Request, next: str = PATH) -> Response:  # noqa: A002 - a name of the address
    """The sign-in form."""
    return HTMLResponse(render("sign_in.html", request, next=_path_inside(next), error=""))


@router.post("/sign-in")
def sign_in(
    context: Context,
    request: Request,
    token: Annotated[str, Form()] = "",
    next: Annotated[str, Form()] = PATH,  # noqa: A002 - a name of the form
) -> Response:
    """Open a session; end the one that this browser had."""
    if not _is_same_site(request):
        raise ProblemError(403, "forbidden", "Sign in on this page, not from another site.")
    status, error = 401, "Token not recognised. To make one: withdrawals tokens create --role viewer"
    cookie = None
    try:
        cookie = sessions.sign_in(context.database, token, hours=context.settings.session_hours)
    except ForbiddenError as refused:
        status, error = 403, str(refused)
    if cookie is None:
        limit_refusals(context, request)
        return HTMLResponse(render("sign_in.html", request, next=_path_inside(next), error=error), status)
    if old := request.cookies.get(COOKIE):
        sessions.sign_out(context.database, old)
    answer = RedirectResponse(_path_inside(next), 303)
    answer.set_cookie(
        COOKIE, cookie, max_age=int(context.settings.session_hours * 3600), path=PATH,
        httponly=True, samesite="lax", secure=request.url.scheme == "https",
    )  # fmt: skip
    return answer


@router.post("/sign-out")
def sign_out(view: SigningOut) -> Response:
    """End the session in the browser and on the server."""
    sessions.sign_out(view.database, view.request.cookies[COOKIE])
    answer = RedirectResponse(f"{PATH}/sign-in", 303)
    for cookie in (COOKIE, MESSAGE):
        answer.delete_cookie(cookie, path=PATH)
    return answer


def _is_same_site(request: Request) -> bool:
    """Whether this site sent the form: by `Sec-Fetch-Site` where the browser sends it, else by `Origin`."""
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site in ("same-origin", "none")
    origin = request.headers.get("origin")
    return origin is None or urlsplit(origin).netloc == request.headers.get("host")


def _path_inside(path: str) -> str:
    """`path` if it is a page of the console, else the start page: never another site."""
    inside = path == PATH or path.startswith((f"{PATH}/", f"{PATH}?"))
    return path if inside and "\\" not in path and path.isprintable() else PATH
