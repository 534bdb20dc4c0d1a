"""Progress of jobs as server-sent events (WHATWG HTML, 9.2): `/v1/jobs/{id}/events`, and the console's pages.

However many watch, the process asks the database one question a tick: one poller serves all, in a thread of its
own, and rests at least four times as long as its question took. So a thousand watchers take neither the threads
that answer webhooks nor more than one connection. A watcher that reads slowly skips states; nothing queues up.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any

import structlog
from fastapi import APIRouter, Header, Request
from fastapi.responses import Response, StreamingResponse
from starlette.concurrency import run_in_threadpool

from schemas.answers import Job
from worker.database import Database
from worker.errors import describe
from worker.ledger import job_lists, sessions
from worker.ledger import tokens as access
from worker.web.api.jobs import show_job
from worker.web.auth import Producer
from worker.web.context import Context
from worker.web.problems import ProblemError, describes

log = structlog.get_logger(__name__)

MOST = 1000
"""Watchers of one process."""
MOST_EACH = 100
"""Of these, by one token: nobody can take them all."""
TICK = 1.0
"""Seconds between two looks, at the least."""
HEARTBEAT = 15.0
"""Seconds of silence after which a comment is sent, so that neither side's proxies take it for dead."""
RETRY = 3000
"""Milliseconds after which a browser whose stream broke off comes back."""
LAST = "end"
"""The id of the last event. A browser that comes back with it is told to stay away."""

router = APIRouter(prefix="/v1/jobs", tags=["jobs"], responses=describes(404))


@dataclass(frozen=True, slots=True)
class Ticket:
    """What lets somebody watch: a token; of a page, also the hash of the session that was opened with it."""

    token_id: int
    session: bytes | None = None


@dataclass(eq=False, slots=True)
class Watcher:
    """Who watches which job, and the newest that was seen of it."""

    job_id: int
    ticket: Ticket
    seen: Job
    news: asyncio.Event = field(default_factory=asyncio.Event)
    over: bool = False
    """The stream is to end although the job has not: the token was revoked, the session is over, the server stops."""


class Watching:
    """The watchers of a process and their one poller, which runs while there are any."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._watchers: set[Watcher] = set()
        self._poller: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopped = False

    def __len__(self) -> int:
        return len(self._watchers)

    def add(self, job: Job, ticket: Ticket) -> Watcher:
        """A new watcher.

        Raises:
            ProblemError: 503, there are too many, or the server is stopping.
        """
        own = sum(watcher.ticket.token_id == ticket.token_id for watcher in self._watchers)
        if self._stopped or len(self._watchers) >= MOST or own >= MOST_EACH:
            detail = "No more watchers can be served here now; ask again in a moment, or read the job itself."
            raise ProblemError(503, "too_many_watchers", detail, headers={"Retry-After": "10"})
        watcher = Watcher(job.id, ticket, job)
        self._watchers.add(watcher)
        if self._poller is None or self._poller.done():
            self._loop = asyncio.get_running_loop()
            self._poller = self._loop.create_task(self._poll(), name="watching")
        return watcher

    def remove(self, watcher: Watcher) -> None:
        """It has gone away; the last one takes the poller along."""
        self._watchers.discard(watcher)
        if not self._watchers and self._poller is not None:
            self._poller.cancel()
            self._poller = None

    def stop(self) -> None:
        """End every stream; safe in a signal's handler and from any thread."""
        self._stopped = True
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._end_all)

    def _end_all(self) -> None:
        for watcher in self._watchers:
            watcher.over = True
            watcher.news.set()

    async def _poll(self) -> None:
        loop = asyncio.get_running_loop()
        took, failing = 0.0, False
        while True:
            await asyncio.sleep(max(TICK, 4 * took))
            begin = loop.time()
            try:
                jobs, tickets = await asyncio.to_thread(
                    self._look, {watcher.job_id for watcher in self._watchers}, {w.ticket for w in self._watchers}
                )
            except Exception as error:  # a restart of PostgreSQL, most likely; whoever watches waits with us
                if not failing:
                    log.warning("watching.interrupted", error_class=describe(error)[0], watchers=len(self))
                took, failing = 0.0, True
                continue
            took, failing = loop.time() - begin, False
            self._tell(jobs, tickets)

    def _look(self, job_ids: set[int], tickets: set[Ticket]) -> tuple[dict[int, Job], set[Ticket]]:
        with self._database.begin() as connection:
            jobs = {job.id: Job.model_validate(job) for job in job_lists.find_jobs(connection, sorted(job_ids))}
            tokens = access.live(connection, sorted({ticket.token_id for ticket in tickets}))
            opened = [ticket.session for ticket in tickets if ticket.session is not None]
            live = {None, *(sessions.live(connection, opened) if opened else ())}
            return jobs, {ticket for ticket in tickets if ticket.token_id in tokens and ticket.session in live}

    def _tell(self, jobs: dict[int, Job], tickets: set[Ticket]) -> None:
        for watcher in self._watchers:
            if watcher.job_id in jobs:
                if jobs[watcher.job_id] != watcher.seen:
                    watcher.seen = jobs[watcher.job_id]
                    watcher.news.set()
                if watcher.ticket not in tickets:
                    watcher.over = True
                    watcher.news.set()


_STREAM: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "`progress` events, each with the job as its data, and `end` with the last.",
        "content": {"text/event-stream": {}},
    },
    204: {"description": "The last event was received before; there is nothing to come."},
}


@router.get("/{job_id}/events", response_class=Response, responses=_STREAM)
async def events(
    context: Context,
    who: Producer,
    request: Request,
    job_id: int,
    last_event_id: Annotated[str | None, Header()] = None,
) -> Response:
    """A job's progress until it ends; a producer sees its own. Every event is the whole state. Role: producer."""
    return await stream(request, Ticket(who.token_id), partial(show_job, context, who, job_id), last_event_id)


async def stream(request: Request, ticket: Ticket, show: Callable[[], Job], last_event_id: str | None) -> Response:
    """Tell of the job that `show` finds until it ends, to whoever holds the ticket for as long as that is good.

    Raises:
        NotFoundError: what `show` raises, in a thread of its own.
        ProblemError: 503, too many watch.
    """
    if last_event_id == LAST:
        return Response(status_code=204)
    job = await run_in_threadpool(show)
    watching: Watching = request.app.state.watching
    return _Stream(watching, watching.add(job, ticket))


class _Stream(StreamingResponse):
    """Lets go of its watcher however it ends, also when it never began."""

    def __init__(self, watching: Watching, watcher: Watcher) -> None:
        super().__init__(
            _told(watcher),
            media_type="text/event-stream",
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )
        self._watching, self._watcher = watching, watcher

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._watching.remove(self._watcher)


async def _told(watcher: Watcher) -> AsyncIterator[str]:
    yield f"retry: {RETRY}\n\n"
    watcher.news.set()  # how it stands is told at once
    while True:
        try:
            async with asyncio.timeout(HEARTBEAT):
                await watcher.news.wait()
        except TimeoutError:
            yield ": still here\n\n"
            continue
        watcher.news.clear()
        job = watcher.seen
        if job.finished_at is not None:
            yield _event("end", LAST, job)
            return
        if watcher.over:
            return
        yield _event("progress", str(job.accepted - job.in_flight), job)


def _event(name: str, id_: str, job: Job) -> str:
    return f"event: {name}\nid: {id_}\ndata: {job.model_dump_json()}\n\n"
