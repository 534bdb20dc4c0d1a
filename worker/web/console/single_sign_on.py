"""Sign in with an OpenID Connect provider: to it, back from it, and the ends of sessions that it tells."""

from typing import Annotated

from fastapi import APIRouter, Form, Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

from worker.sign_on import flow
from worker.sign_on.errors import NoRoleError, ProviderUnreachableError, SignInRefusedError
from worker.sign_on.flow import Identified
from worker.sign_on.provider import Provider
from worker.texts import joined, mark, text
from worker.web.auth import limit_refusals
from worker.web.console.render import PATH, render
from worker.web.console.sign_in import admit, path_inside, refuse_other_sites, show_form
from worker.web.context import Context, Services
from worker.web.problems import ProblemError

router = APIRouter(prefix=PATH, include_in_schema=False)

BEGUN = "withdrawals_begun"
CHOICE = "withdrawals_choice"
"""Cookies: a sign-in that has begun; somebody who has to choose an organisation."""
_HERE = f"{PATH}/sign-in"
_UNREACHABLE = mark("{provider} cannot be reached, or does not answer as it should. Try again in a minute.")


@router.get("/sign-in/provider")
def begin(context: Context, request: Request, next: str = PATH) -> Response:  # noqa: A002 - a name of the address
    """Go to the provider. A link leads here and no form: the page's policy lets no form lead to another site."""
    provider = _provider(context)
    try:
        begun = flow.begin(provider, context.settings, next=path_inside(next)[:1000])
    except ProviderUnreachableError:
        return _unreachable(context, request, provider)
    answer = RedirectResponse(begun.url, 303)
    _keep(answer, request, BEGUN, begun.cookie, flow.BEGUN_SECONDS)
    return answer


@router.get("/sign-in/callback")
def finish(context: Context, request: Request) -> Response:
    """Come back from the provider: open the session, or ask for the organisation where there are several."""
    provider = _provider(context)
    try:
        found = flow.finish(
            provider, context.settings, context.database, request.cookies.get(BEGUN), dict(request.query_params)
        )
    except ProviderUnreachableError:
        answer = _unreachable(context, request, provider)
    except SignInRefusedError as refused:
        limit_refusals(context, request)
        answer = show_form(
            context, request, error=str(refused), status=403 if isinstance(refused, NoRoleError) else 400
        )
    else:
        answer = _go_on(context, request, found)
    answer.delete_cookie(BEGUN, path=_HERE)
    return answer


@router.post("/sign-in/organisation")
def choose(context: Context, request: Request, organisation: Annotated[int, Form()] = 0) -> Response:
    """Open the session in one of several organisations."""
    refuse_other_sites(request)
    try:
        found = flow.open_choice(context.settings, request.cookies.get(CHOICE))
        answer = _admit(context, request, found, organisation)
    except SignInRefusedError as refused:
        limit_refusals(context, request)
        answer = show_form(context, request, error=str(refused), status=400)
    answer.delete_cookie(CHOICE, path=_HERE)
    return answer


@router.post("/back-channel-logout")
def end_by_provider(context: Context, request: Request, logout_token: Annotated[str, Form()] = "") -> Response:
    """The provider ends sessions (OpenID Connect Back-Channel Logout 1.0). The token's signature is its proof."""
    provider = _provider(context)
    try:
        flow.end_by_provider(provider, context.database, logout_token)
    except SignInRefusedError as refused:
        limit_refusals(context, request)
        return JSONResponse({"error": "invalid_request", "error_description": str(refused)}, 400)
    except ProviderUnreachableError:
        raise ProblemError(503, "unavailable", text(_UNREACHABLE, provider=provider.name)) from None
    return Response(status_code=200)


def _go_on(context: Services, request: Request, found: Identified) -> Response:
    if len(found.choices) == 1:
        return _admit(context, request, found, found.choices[0].organisation_id)
    answer = HTMLResponse(render("sign_in_organisation.html", request, choices=found.choices, name=found.identity.name))
    _keep(answer, request, CHOICE, flow.seal_choice(context.settings, found), flow.CHOOSING_SECONDS)
    return answer


def _admit(context: Services, request: Request, found: Identified, organisation_id: int) -> Response:
    who = found.into(organisation_id)
    if who is None:
        raise SignInRefusedError(text("You have no role in this organisation. Sign in again."))
    browser = request.headers.get("user-agent")
    cookie = flow.open_session(context.database, context.settings, who, browser=browser)
    return admit(context, request, cookie, next=found.next)


def _provider(context: Services) -> Provider:
    if context.provider is None:
        raise ProblemError(404, "not_found", text("People sign in with a token here: no provider is set up."))
    return context.provider


def _unreachable(context: Services, request: Request, provider: Provider) -> Response:
    said = [text(_UNREACHABLE, provider=provider.name)]
    if context.settings.console_tokens:
        said.append(text("Tokens still work."))
    return show_form(context, request, error=joined(said), status=503)


def _keep(answer: Response, request: Request, name: str, value: str, seconds: int) -> None:
    """Lax: the browser comes back from another site, by a link that it follows."""
    answer.set_cookie(
        name, value, max_age=seconds, path=_HERE, httponly=True, samesite="lax", secure=request.url.scheme == "https"
    )
