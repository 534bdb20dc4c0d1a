"""What endpoints share: this process's connections and settings, ids in paths, and the pages of lists."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any, TypeVar, cast

from fastapi import Depends, Path, Query, Request
from pydantic import BeforeValidator

from worker.config import Settings
from worker.database import Database
from worker.errors import InvalidInputError
from worker.group_commit import GroupCommit
from worker.ids import LARGEST, parse_id
from worker.jobs.singles import Single
from worker.people.inbox import Inbox
from worker.queue.hints import Hints
from worker.records import Submitted
from worker.sign_on.provider import Provider
from worker.web.pools import Pools
from worker.web.rate_limits import CallLimiter, RateLimiter

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Services:
    """The connections of one web process."""

    pools: Pools
    broker: Hints
    settings: Settings
    singles: GroupCommit[Single, Submitted]
    """Commits small jobs, those that wait together in one transaction."""
    inbox: Inbox
    """Commits HR events likewise."""
    limiter: RateLimiter
    """Of refused calls, by address."""
    provider: Provider | None = None
    """With which people sign in; None: tokens alone."""
    calls: CallLimiter = field(default_factory=CallLimiter)
    """Of tokens and members."""
    threads: ThreadPoolExecutor = field(default_factory=partial(ThreadPoolExecutor, 8, "door"))
    """For the door alone: however many requests wait for something slow, it has threads."""

    @property
    def database(self) -> Database:
        """The connections of ordinary requests."""
        return self.pools.requests

    @property
    def door(self) -> Database:
        """The connections of what must always be taken in."""
        return self.pools.door

    async def at_the_door(self, work: Callable[..., T], *given: Any) -> T:
        """Wait for `work` in a thread of the door."""
        within = copy_context()  # what is logged there bears the request's id
        return await asyncio.get_running_loop().run_in_executor(self.threads, partial(within.run, work, *given))


def find_services(request: Request) -> Services:
    """The connections of the application that answers."""
    return cast(Services, request.app.state.services)


async def services(request: Request) -> Services:
    """`find_services` as a dependency. Async: one that is not takes a thread of the pool."""
    return find_services(request)


Context = Annotated[Services, Depends(services)]


def _parse_row_id(value: Any) -> int:
    try:
        return parse_id(str(value), "id")
    except InvalidInputError:
        raise ValueError("not a positive whole number") from None


RowId = Annotated[int, Path(ge=1, le=LARGEST), BeforeValidator(_parse_row_id)]
"""The id of a row in a path. A number that no row can have is refused before the database would refuse it."""
Limit = Annotated[int, Query(ge=1, le=1000, description="Maximum number of items on a page.")]
Cursor = Annotated[
    str | None, Query(max_length=40, description="`next_cursor` of the page before; leave it out for the first page.")
]
