"""The web process: thin entrypoints over the services; an endpoint parses, makes one call and maps the outcome."""

from fastapi import FastAPI

from worker.broker import HintBroker
from worker.config import Settings
from worker.database import Database
from worker.web import brake, control, health, jobs, metrics, problems, runs, webhooks
from worker.web.context import Services
from worker.web.hooks import bamboohr, hr, okta
from worker.web.scim import discovery, users

ROUTERS = [
    health.router,
    metrics.router,
    jobs.router,
    control.router,
    brake.router,
    runs.router,
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
    app = FastAPI(title="Withdrawals", version="0.1.0", docs_url=None, redoc_url=None)
    app.state.services = Services(database, broker, settings)
    problems.install(app)
    for router in ROUTERS:
        app.include_router(router)
    return app
