"""Group commit: requests that arrive while a transaction commits share the next one.

A commit costs the same for one row as for a hundred, so under load a process commits once for all that wait. Nobody
waits for company: a request that is alone is committed at once. PostgreSQL's `commit_delay` rests on the same idea.
"""

import asyncio
import queue
import threading
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import Generic, TypeVar

from sqlalchemy import Connection

from worker.database import Database
from worker.faults import Fault, classify, is_passing

Item = TypeVar("Item")
Result = TypeVar("Result")
_Waiting = tuple[Item, Future[Result] | asyncio.Future[Result]]


class GroupCommit(Generic[Item, Result]):
    """One thread that commits what callers hand over; a caller has its result only once that is committed."""

    def __init__(
        self,
        database: Database,
        work: Callable[[Connection, Sequence[Item]], Sequence[Result | Exception | None]],
        *,
        name: str,
        most: int = 200,
        autocommit: bool = False,
        rest: "GroupCommit[Item, Result] | None" = None,
        apart: Callable[[Item], Hashable] | None = None,
    ) -> None:
        """`work` does the items in one transaction: for each, in their order, its result or why it is refused.

        A refusal is a value, so that it does not undo the others. None: nothing is done yet, and `rest` does it, while
        the others have their results. `most`: items in one transaction. `autocommit`: the work is one statement, or
        several of which each stands alone. `apart`: if a group times out, as it does when it waits in vain for a lock,
        those of its items for which this differs are committed one after the other. What times out then, too, `rest`
        does: it can wait longer.
        """
        self._database = database
        self._work = work
        self._most = most
        self._autocommit = autocommit
        self._rest = rest
        self._apart = apart
        self._waiting: queue.SimpleQueue[_Waiting[Item, Result] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)
        self._lock = threading.Lock()
        self._closed = False

    def submit(self, item: Item) -> Future[Result]:
        """Hand an item over. The result is there after the commit; an error means that nothing of it is committed.

        Raises:
            RuntimeError: this was closed.
        """
        result: Future[Result] = Future()
        self._put((item, result))
        return result

    async def commit(self, item: Item) -> Result:
        """`submit`, for an event loop, which the results of a whole group reach in one call.

        Raises:
            RuntimeError: this was closed.
        """
        result: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._put((item, result))
        return await result

    def close(self) -> None:
        """Commit what waits, and take nothing more."""
        with self._lock:
            self._closed = True
            started = self._thread.is_alive()
            self._waiting.put(None)
        if started:
            self._thread.join()
        if self._rest is not None:
            self._rest.close()

    def _put(self, one: _Waiting[Item, Result]) -> None:
        with self._lock:
            if self._closed:
                raise RuntimeError("closed: it takes nothing more")
            if not self._thread.is_alive():
                self._thread.start()
            self._waiting.put(one)

    def _serve(self) -> None:
        while (group := self._next_group()) is not None:
            if group:
                self._commit(group)

    def _next_group(self) -> list[_Waiting[Item, Result]] | None:
        """Whoever waits now and has not given up; None once closed."""
        one = self._waiting.get()
        if one is None:
            return None
        group: list[_Waiting[Item, Result]] = []
        while one is not None:
            if _still_waits(one[1]):
                group.append(one)
            if len(group) == self._most or self._waiting.empty():
                return group
            one = self._waiting.get()
        self._waiting.put(None)  # closed: for the next round
        return group

    def _commit(self, group: list[_Waiting[Item, Result]]) -> None:
        """Commit a group; when an error may belong to one of them, each alone, so that it harms no other."""
        items = [item for item, _ in group]
        is_last = self._rest is None
        try:
            results: Sequence[Result | Exception | None] = self._database.run(
                lambda connection: self._work(connection, items), patient=is_last, autocommit=self._autocommit
            )
        except Exception as error:
            parts = self._divide(group, error)
            if len(parts) > 1:
                for part in parts:
                    self._commit(part)
                return
            results = [None if _has_timed_out(error) and not is_last else error] * len(group)
        self._hand_over(group, results)

    def _divide(self, group: list[_Waiting[Item, Result]], error: Exception) -> list[list[_Waiting[Item, Result]]]:
        """The parts of a group of which one can be to blame for its error."""
        if not is_passing(error):
            return [[one] for one in group]
        parts: dict[Hashable, list[_Waiting[Item, Result]]] = {}
        for one in group:
            parts.setdefault(self._apart(one[0]) if self._apart and _has_timed_out(error) else None, []).append(one)
        return list(parts.values())

    def _hand_over(self, group: list[_Waiting[Item, Result]], results: Sequence[Result | Exception | None]) -> None:
        answers: list[_Answer[Result]] = []
        for (item, waiting), result in zip(group, results, strict=True):
            if result is not None:
                answers.append((waiting, result))
            elif self._rest is not None:
                self._rest._put((item, waiting))
        _answer(answers)


def _has_timed_out(error: Exception) -> bool:
    return classify(error) is Fault.TIMEOUT


def _still_waits(waiting: "Future[Result] | asyncio.Future[Result]") -> bool:
    if isinstance(waiting, asyncio.Future):
        return not waiting.cancelled()
    return waiting.running() or waiting.set_running_or_notify_cancel()  # running: another group had it before


_Answer = tuple[Future[Result] | asyncio.Future[Result], Result | Exception]


def _answer(answers: Sequence[_Answer[Result]]) -> None:
    """Hand over results: those for an event loop in one call, because each call wakes it."""
    by_loop: dict[asyncio.AbstractEventLoop, list[_Answer[Result]]] = {}
    for waiting, result in answers:
        if isinstance(waiting, asyncio.Future):
            by_loop.setdefault(waiting.get_loop(), []).append((waiting, result))
        else:
            _settle(waiting, result)
    for loop, its in by_loop.items():
        with suppress(RuntimeError):  # it is closed: nobody waits any more
            loop.call_soon_threadsafe(_settle_all, its)


def _settle_all(answers: Sequence[_Answer[Result]]) -> None:
    for waiting, result in answers:
        if not waiting.done():  # its caller may have given up
            _settle(waiting, result)


def _settle(waiting: "Future[Result] | asyncio.Future[Result]", result: Result | Exception) -> None:
    if isinstance(result, Exception):
        waiting.set_exception(result)
    else:
        waiting.set_result(result)
