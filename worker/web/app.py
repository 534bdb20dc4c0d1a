"""The web process: thin endpoints over the services. Each parses, makes one call and maps the result."""

from fastapi import APIRouter, FastAPI

from worker.config import Settings
from worker.database import Database
from worker.jobs.singles import singles
from worker.people.inbox import Inbox
from worker.queue.hints import Hints
from worker.sign_on.provider import Provider
from worker.web import error_answers, health, metrics, public
from worker.web.api import (
    approvals,
    attestations,
    audit,
    brake,
    control,
    dead_letters,
    decision_receipts,
    desk,
    events,
    job_files,
    jobs,
    notifications,
    openapi,
    outcomes,
    people,
    progress,
    protections,
    receipts,
    reinstate,
    report_schedules,
    reports,
    retention,
    rosters,
    runs,
    saved_views,
    search,
    sessions,
    sources,
    submit,
    tokens,
    webhooks,
)
from worker.web.auth import TokenFirst
from worker.web.body import BodyLimit
from worker.web.charset import Utf8Forms
from worker.web.console import app as console
from worker.web.console.render import PATH
from worker.web.context import Services
from worker.web.hooks import bamboohr, finch, hibob, hr, okta, personio, security_events
from worker.web.pools import Pools
from worker.web.rate_limits import RateLimiter
from worker.web.scim import discovery, users
from worker.web.scim.errors import PREFIX as SCIM_PREFIX

# What comes in storms is not included as a router: see `LeanRoute`.
LEAN = [*hr.router.routes, *submit.router.routes]
# Each request is held against all routers before its own.
ROUTERS = [
    okta.router,
    bamboohr.router,
    hibob.router,
    personio.router,
    finch.router,
    security_events.router,
    health.router,
    metrics.router,
    control.router,
    job_files.router,
    jobs.router,
    outcomes.router,
    progress.router,
    attestations.router,
    reports.router,
    report_schedules.router,
    report_schedules.files_router,
    reinstate.router,
    decision_receipts.router,
    brake.router,
    runs.router,
    desk.router,
    dead_letters.router,
    receipts.router,
    events.router,
    audit.router,
    protections.router,
    rosters.router,
    people.router,
    search.router,
    saved_views.router,
    approvals.router,
    approvals.policies,
    discovery.router,
    users.router,
    users.root,
    webhooks.router,
    notifications.router,
    sessions.router,
    tokens.router,
    sources.router,
    retention.router,
]
# A router makes its routes at its first request, and keeps them. All applications of a process share them: each test
# has an application of its own.
_INCLUDED = APIRouter(generate_unique_id_function=openapi.operation_id)
for _router in ROUTERS:
    _INCLUDED.include_router(_router)


def add_routes(app: FastAPI) -> None:
    """Everything but the console."""
    app.router.routes.extend([*LEAN, *_INCLUDED.routes])


def make_app(connections: Pools | Database, broker: Hints, settings: Settings) -> FastAPI:
    """The application, with the connections of its process; one `Database` serves everything."""
    pools = connections if isinstance(connections, Pools) else Pools.of(connections)
    app = openapi.application()
    app.add_middleware(Utf8Forms)
    app.add_middleware(TokenFirst, paths=("/v1/", f"{SCIM_PREFIX}/"))
    app.add_middleware(BodyLimit, default=settings.body_bytes, by_path=_body_limits(settings))
    limiter = RateLimiter(settings.broker_url.get_secret_value())
    small_jobs = singles(pools.door)
    inbox = Inbox(pools.door)
    for commits in (small_jobs, inbox):
        pools.door.before_close(commits.close)
    app.state.services = Services(pools, broker, settings, small_jobs, inbox, limiter, Provider.of(settings))
    app.state.watchers = progress.Watchers(pools.watchers)
    error_answers.install(app)
    add_routes(app)
    console.install(app)
    public.install(app, settings)
    return app


def _body_limits(settings: Settings) -> dict[str, int]:
    """Limits in bytes by the beginning of the path: uploads of files may be longer, events must be shorter."""
    uploads, events = settings.file_bytes, settings.hook_body_bytes
    return {"/v1/jobs/file": uploads, f"{PATH}/withdraw/file": uploads, "/hooks/": events, f"{SCIM_PREFIX}/": events}
