"""The web process: thin endpoints over the services. Each parses, makes one call and maps the result."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool

from worker.config import Settings
from worker.database import Database
from worker.people.inbox import Inbox
from worker.queue.broker import HintBroker
from worker.web import health, metrics, problems
from worker.web.api import (
    brake,
    control,
    dead_letters,
    decision_receipts,
    desk,
    job_files,
    jobs,
    openapi,
    outcomes,
    progress,
    receipts,
    reinstate,
    reports,
    runs,
    submit,
    webhooks,
)
from worker.web.body import BodyLimit
from worker.web.charset import Utf8Forms
from worker.web.console import app as console
from worker.web.console.render import PATH
from worker.web.context import Services
from worker.web.hooks import bamboohr, hr, okta
from worker.web.rate_limits import RateLimiter
from worker.web.scim import discovery, users
from worker.web.scim.errors import PREFIX as SCIM_PREFIX

# Events come in storms, so their routers come first: a request is held against every route before its own.
ROUTERS = [
    hr.router,
    okta.router,
    bamboohr.router,
    health.router,
    metrics.router,
    control.router,
    submit.router,
    job_files.router,
    jobs.router,
    outcomes.router,
    progress.router,
    reports.router,
    reinstate.router,
    decision_receipts.router,
    brake.router,
    runs.router,
    desk.router,
    dead_letters.router,
    receipts.router,
    discovery.router,
    users.router,
    users.root,
    webhooks.router,
]


def make_app(database: Database, broker: HintBroker, settings: Settings) -> FastAPI:
    """The application, with the connections of its process."""
    app = openapi.application()
    app.add_middleware(Utf8Forms)
    app.add_middleware(BodyLimit, default=settings.body_bytes, by_path=_body_limits(settings))
    limiter = RateLimiter(settings.broker_url.get_secret_value())
    inbox = Inbox(database)
    app.router.lifespan_context = _closing(inbox)
    app.state.services = Services(database, broker, settings, limiter, inbox)
    app.state.watchers = progress.Watchers(database)
    problems.install(app)
    for router in ROUTERS:
        app.include_router(router)
    console.install(app)
    return app


def _closing(inbox: Inbox) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    """The application's life: after the last request what waits in the inbox's door is committed."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        await run_in_threadpool(inbox.close)

    return lifespan


def _body_limits(settings: Settings) -> dict[str, int]:
    """Limits in bytes by the beginning of the path: uploads of files may be longer, events must be shorter."""
    uploads, events = settings.file_bytes, settings.hook_body_bytes
    return {"/v1/jobs/file": uploads, f"{PATH}/withdraw/file": uploads, "/hooks/": events, f"{SCIM_PREFIX}/": events}
