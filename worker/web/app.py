"""The web process: thin entrypoints over the services; an endpoint parses, makes one call and maps the outcome."""

from fastapi import FastAPI

from worker.config import Settings
from worker.database import Database
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
    reinstate,
    reports,
    runs,
    submit,
    webhooks,
)
from worker.web.cap import BodyCap
from worker.web.console import app as console
from worker.web.console.render import PATH
from worker.web.context import Services
from worker.web.hooks import bamboohr, hr, okta
from worker.web.limiting import Limiter
from worker.web.scim import discovery, users

UPLOADS = ("/v1/jobs/file", f"{PATH}/withdraw/file")
"""Where files come in, which may be longer than other bodies."""
ROUTERS = [
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
    hr.router,
    okta.router,
    bamboohr.router,
    discovery.router,
    users.router,
    users.root,
    webhooks.router,
]


def make_app(database: Database, broker: HintBroker, settings: Settings) -> FastAPI:
    """The application over one process's connections."""
    app = openapi.application()
    app.add_middleware(BodyCap, most=settings.body_bytes, paths=dict.fromkeys(UPLOADS, settings.file_bytes))
    limiter = Limiter(settings.broker_url.get_secret_value())
    app.state.services = Services(database, broker, settings, limiter)
    app.state.watchers = progress.Watchers(database)
    problems.install(app)
    for router in ROUTERS:
        app.include_router(router)
    console.install(app)
    return app
