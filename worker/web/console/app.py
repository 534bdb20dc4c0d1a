"""The console as part of the web process: its routes, its static files and its security headers."""

from fastapi import APIRouter, FastAPI
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import RedirectResponse
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from worker.web.console import (
    approvals,
    brake,
    desk,
    glossary,
    job_acts,
    job_selection,
    jobs,
    language_choice,
    letter_acts,
    letters,
    library,
    overview,
    people,
    receipt,
    report_schedules,
    reports,
    runs,
    saved_views,
    search,
    sessions,
    sign_in,
    single_sign_on,
    summary,
    system,
    theme,
    undo,
    withdraw,
    withdraw_file,
)
from worker.web.console.languages import language_of
from worker.web.console.render import HEADERS, PATH, STATIC, asset
from worker.web.console.settings import members as settings_members
from worker.web.console.settings import notifications as settings_notifications
from worker.web.console.settings import policies as settings_policies
from worker.web.console.settings import retention as settings_retention
from worker.web.console.settings import sources as settings_sources
from worker.web.console.settings import tokens as settings_tokens
from worker.web.console.settings import webhooks as settings_webhooks

ROUTERS = [
    sign_in.router,
    single_sign_on.router,
    sessions.router,
    overview.router,
    system.router,
    theme.router,
    language_choice.router,
    glossary.router,
    brake.router,
    approvals.router,
    library.router,
    withdraw.router,
    withdraw_file.router,
    job_selection.router,
    job_acts.router,
    undo.router,
    jobs.router,
    reports.router,
    report_schedules.router,
    summary.router,
    desk.router,
    letter_acts.router,
    letters.router,
    runs.router,
    receipt.router,
    people.router,
    search.router,
    saved_views.router,
    settings_sources.router,
    settings_webhooks.router,
    settings_notifications.router,
    settings_members.router,
    settings_policies.router,
    settings_retention.router,
    settings_tokens.router,
]
# Once for the process, as the routes of the API.
_INCLUDED = APIRouter()
for _router in ROUTERS:
    _INCLUDED.include_router(_router)


def install(app: FastAPI) -> None:
    """Add the console to the application."""
    app.router.routes.extend(_INCLUDED.routes)
    app.add_route("/", lambda _: RedirectResponse(PATH), include_in_schema=False)
    app.mount(f"{PATH}/static", StaticFiles(directory=STATIC), name="static")
    app.add_middleware(Headers)


class Headers:
    """Security headers; without them a page could be framed, cached by a proxy, or run injected scripts.

    A page also says its language, and that the language depends on the browser.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        if scope["type"] != "http" or not (path == PATH or path.startswith(f"{PATH}/")):
            await self.app(scope, receive, send)
            return

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                if headers.get("content-type", "").startswith("text/html"):
                    headers["Content-Language"] = language_of(Request(scope)).code
                    headers["Vary"] = "Accept-Language, Cookie"
                if message["status"] == 200 and _is_asset(scope):
                    headers["Cache-Control"] = "public, max-age=31536000, immutable"
            await send(message)

        await self.app(scope, receive, sending)


def _is_asset(scope: Scope) -> bool:
    """Whether this is a static file under the address of its present content, which browsers may cache for long."""
    name = scope["path"].removeprefix(f"{PATH}/static/")
    asked = f"{scope['path']}?{scope['query_string'].decode('latin-1')}"
    return scope["path"].startswith(f"{PATH}/static/") and (STATIC / name).is_file() and asked == asset(name)
