"""The web process: thin entrypoints over the services; an endpoint parses, makes one call and maps the outcome."""

from fastapi import FastAPI

from worker.broker import HintBroker
from worker.config import Settings
from worker.database import Database
from worker.web import health, jobs, problems, reinstate, webhooks
from worker.web.context import Services
from worker.web.hooks import bamboohr, hr, okta

ROUTERS = [
    health.router,
    jobs.router,
    reinstate.router,
    hr.router,
    okta.router,
    bamboohr.router,
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
