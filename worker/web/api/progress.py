"""Progress of jobs as server-sent events (WHATWG HTML, 9.2): `/v1/jobs/{id}/events`, and the console's pages.

However many clients watch, the process asks the database one question at each poll: one poller serves all watchers, in
a thread of its own, and pauses for at least four times as long as its question took. So a thousand watchers take no
thread from the requests and at most one connection. A client that reads slowly skips states; nothing queues up.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any

import structlog
from fastapi import APIRouter, Header, Request
from fastapi.responses import Response
from sse_starlette.event import ServerSentEvent
from sse_starlette.sse import AppStatus, EventSourceResponse
from starlette.concurrency import run_in_threadpool
from starlette.types import Receive, Scope, Send

from schemas.answers import Job
from worker.database import Database
from worker.faults import describe
from worker.ledger import job_lists, sessions
from worker.ledger import tokens as access
from worker.web.api.jobs import show_job
from worker.web.auth import Caller, ReaderOfJobs
from worker.web.context import Context
from worker.web.problems import ProblemError, describes

log = structlog.get_logger(__name__)

MAX_WATCHERS = 1000
"""Watchers that one process serves."""
MAX_PER_TOKEN = 100
"""Watchers that one token may have, so that nobody can take them all."""
POLL_SECONDS = 1.0
"""The shortest time between two polls."""
PING_SECONDS = 15.0
"""How often a comment is sent, so that no proxy closes a silent connection."""
RETRY_MILLISECONDS = 3000
"""When a browser connects again after its stream broke off."""
END = "end"
"""Name and id of the last event. A browser that connects again with this id gets 204, and stays away."""

# The library would cancel streams when the process stops, and finds that out through uvicorn's signal handler;
# `Watchers.stop` ends them in order, and does not depend on which server runs.
AppStatus.enable_automatic_graceful_drain = False

router = APIRouter(prefix="/v1/jobs", tags=["jobs"], responses=describes(404))


@dataclass(frozen=True, slots=True)
class Ticket:
    """What allows a client to watch: a token; for a page, also the hash of its session, or that alone."""

    caller: str
    """Whose watchers are counted together."""
    token_id: int | None
    session: bytes | None = None

    @classmethod
    def of(cls, who: Caller, session: bytes | None = None) -> "Ticket":
        return cls(who.key, who.token_id, session)


@dataclass(eq=False, slots=True)
class Watcher:
    """A client that watches a job, with the job's newest state."""

    job_id: int
    ticket: Ticket
    newest: Job
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    stopped: bool = False
    """The stream ends before the job does: the token was revoked, the session is over, or the server stops."""


class Watchers:
    """The watchers of a process and their one poller, which runs while there are any."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._watchers: set[Watcher] = set()
        self._poller: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = False

    def __len__(self) -> int:
        return len(self._watchers)

    def add(self, job: Job, ticket: Ticket) -> Watcher:
        """A new watcher.

        Raises:
            ProblemError: 503, the process or the token has too many watchers, or the server is stopping.
        """
        of_token = sum(watcher.ticket.caller == ticket.caller for watcher in self._watchers)
        if self._stopping or len(self._watchers) >= MAX_WATCHERS or of_token >= MAX_PER_TOKEN:
            detail = "Too many clients watch jobs here. Try again in a moment, or read the job itself."
            raise ProblemError(503, "too_many_watchers", detail, headers={"Retry-After": "10"})
        watcher = Watcher(job.id, ticket, job)
        self._watchers.add(watcher)
        if self._poller is None or self._poller.done():
            self._loop = asyncio.get_running_loop()
            self._poller = self._loop.create_task(self._poll(), name="watchers")
        return watcher

    def remove(self, watcher: Watcher) -> None:
        """Forget a watcher; without the last one the poller stops."""
        self._watchers.discard(watcher)
        if not self._watchers and self._poller is not None:
            self._poller.cancel()
            self._poller = None

    def stop(self) -> None:
        """End every stream; safe in a signal handler and from any thread."""
        self._stopping = True
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._stop_all)

    def _stop_all(self) -> None:
        for watcher in self._watchers:
            watcher.stopped = True
            watcher.changed.set()

    async def _poll(self) -> None:
        loop = asyncio.get_running_loop()
        took, failing = 0.0, False
        while True:
            await asyncio.sleep(max(POLL_SECONDS, 4 * took))
            begin = loop.time()
            job_ids = {watcher.job_id for watcher in self._watchers}
            tickets = {watcher.ticket for watcher in self._watchers}
            try:
                jobs, valid = await asyncio.to_thread(self._ask, job_ids, tickets)
            except Exception as error:  # most likely PostgreSQL restarts; the streams stay open meanwhile
                if not failing:
                    log.warning("watching.interrupted", error_class=describe(error)[0], watchers=len(self))
                took, failing = 0.0, True
                continue
            took, failing = loop.time() - begin, False
            self._publish(jobs, valid)

    def _ask(self, job_ids: set[int], tickets: set[Ticket]) -> tuple[dict[int, Job], set[Ticket]]:
        """The jobs as they are now, and the tickets that are still valid."""
        with self._database.begin() as connection:
            found = job_lists.find_jobs(connection, sorted(job_ids))
            asked = {ticket.token_id for ticket in tickets if ticket.token_id is not None}
            tokens = {None, *access.live(connection, sorted(asked))}
            opened = [ticket.session for ticket in tickets if ticket.session is not None]
            live = {None, *(sessions.live(connection, opened) if opened else ())}
        valid = {ticket for ticket in tickets if ticket.token_id in tokens and ticket.session in live}
        return {job.id: Job.model_validate(job) for job in found}, valid

    def _publish(self, jobs: dict[int, Job], valid: set[Ticket]) -> None:
        for watcher in self._watchers:
            if watcher.job_id not in jobs:  # came after the question
                continue
            if jobs[watcher.job_id] != watcher.newest:
                watcher.newest = jobs[watcher.job_id]
                watcher.changed.set()
            if watcher.ticket not in valid:
                watcher.stopped = True
                watcher.changed.set()


_STREAM: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "`progress` events, each with the job as its data; the last one is named `end`.",
        "content": {"text/event-stream": {}},
    },
    204: {"description": "The client has received the last event before; no more will come."},
}


@router.get("/{job_id}/events", response_class=Response, responses=_STREAM)
async def events(
    context: Context,
    who: ReaderOfJobs,
    request: Request,
    job_id: int,
    last_event_id: Annotated[str | None, Header()] = None,
) -> Response:
    """A job's progress until it ends; a producer sees its own. Each event has the whole state."""
    return await stream(request, Ticket.of(who), partial(show_job, context, who, job_id), last_event_id)


async def stream(request: Request, ticket: Ticket, show: Callable[[], Job], last_event_id: str | None) -> Response:
    """Stream the progress of the job that `show` returns until it ends, or the ticket is no longer valid.

    Raises:
        NotFoundError: what `show` raises, in a thread of its own.
        ProblemError: 503, too many watch.
    """
    if last_event_id == END:
        return Response(status_code=204)
    job = await run_in_threadpool(show)
    watchers: Watchers = request.app.state.watchers
    return _Stream(watchers, watchers.add(job, ticket))


class _Stream(EventSourceResponse):
    """Removes its watcher however it ends, also when the first byte was never sent."""

    def __init__(self, watchers: Watchers, watcher: Watcher) -> None:
        super().__init__(_events(watcher), sep="\n", ping=PING_SECONDS, ping_message_factory=_ping)
        self._watchers, self._watcher = watchers, watcher

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._watchers.remove(self._watcher)


async def _events(watcher: Watcher) -> AsyncIterator[ServerSentEvent]:
    yield ServerSentEvent(retry=RETRY_MILLISECONDS, sep="\n")
    watcher.changed.set()  # the state of now is the first event
    while True:
        await watcher.changed.wait()
        watcher.changed.clear()
        job = watcher.newest
        if job.finished_at is not None:
            yield _event(END, END, job)
            return
        if watcher.stopped:
            return
        yield _event("progress", str(job.accepted - job.in_flight), job)


def _event(name: str, id_: str, job: Job) -> ServerSentEvent:
    return ServerSentEvent(job.model_dump_json(), event=name, id=id_, sep="\n")


def _ping() -> ServerSentEvent:
    return ServerSentEvent(comment="ping", sep="\n")
