"""Group commit: requests that wait together are committed together, and none is harmed by another."""

import asyncio
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import wait
from contextlib import closing
from typing import Any

import pytest
from sqlalchemy import Connection, text

from worker.config import Settings
from worker.database import Database
from worker.group_commit import GroupCommit
from worker.queue.broker import make_broker
from worker.web.app import make_app


class Work:
    """Inserts numbers; the first group waits until it is let go."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []
        self.go_on = threading.Event()
        self.started = threading.Event()

    def __call__(self, connection: Connection, items: Sequence[int]) -> list[int | Exception]:
        self.groups.append(list(items))
        self.started.set()
        assert self.go_on.wait(60)
        for item in items:
            connection.execute(text("INSERT INTO public.numbers VALUES (:number)"), {"number": item})
        return [ValueError("odd") if item == 99 else item * 10 for item in items]


@pytest.fixture
def work() -> Work:
    return Work()


@pytest.fixture
def group_commit(owner: Database, work: Work) -> Iterator[GroupCommit[int, int]]:
    with owner.begin() as connection:
        connection.execute(text("CREATE TABLE public.numbers (number int CHECK (number > 0))"))
    commits = GroupCommit(owner, work, name="numbers", most=5)
    yield commits
    work.go_on.set()
    commits.close()


def committed(owner: Database) -> list[int]:
    with owner.begin() as connection:
        return list(connection.scalars(text("SELECT number FROM public.numbers ORDER BY number")))


def test_who_waits_while_one_commits_shares_the_next(
    owner: Database, work: Work, group_commit: GroupCommit[int, int]
) -> None:
    first = group_commit.submit(1)
    assert work.started.wait(60)
    others = [group_commit.submit(number) for number in range(2, 9)]
    work.go_on.set()
    assert [item.result(60) for item in [first, *others]] == [10, 20, 30, 40, 50, 60, 70, 80]
    assert work.groups == [[1], [2, 3, 4, 5, 6], [7, 8]]  # never more than five
    assert committed(owner) == [1, 2, 3, 4, 5, 6, 7, 8]


def test_an_error_of_one_does_not_undo_the_others(
    owner: Database, work: Work, group_commit: GroupCommit[int, int]
) -> None:
    group_commit.submit(1)
    assert work.started.wait(60)
    good, bad, refused, another = (group_commit.submit(number) for number in (2, -1, 99, 3))
    work.go_on.set()
    wait([good, bad, refused, another], 60)
    assert (good.result(), another.result()) == (20, 30)
    with pytest.raises(Exception, match="check constraint"):
        bad.result()
    with pytest.raises(ValueError, match="odd"):
        refused.result()
    assert committed(owner) == [1, 2, 3, 99]


def test_who_gives_up_while_waiting_is_left_out(
    owner: Database, work: Work, group_commit: GroupCommit[int, int]
) -> None:
    group_commit.submit(1)
    assert work.started.wait(60)
    given_up, kept = group_commit.submit(2), group_commit.submit(3)
    assert given_up.cancel()
    work.go_on.set()
    assert kept.result(60) == 30
    assert committed(owner) == [1, 3]


def test_closing_commits_what_waits_and_takes_nothing_more(
    owner: Database, work: Work, group_commit: GroupCommit[int, int]
) -> None:
    waiting = [group_commit.submit(number) for number in (1, 2, 3)]
    work.go_on.set()
    group_commit.close()
    assert [item.result(0) for item in waiting] == [10, 20, 30]
    with pytest.raises(RuntimeError, match="closed"):
        group_commit.submit(4)


def test_the_end_of_the_process_commits_what_waits_while_there_are_connections(environment: Settings) -> None:
    """A web process closes its connections last of all; what it has taken in by then is not lost."""
    with closing(Database(environment)) as database:
        services = make_app(
            database, make_broker(environment.broker_url.get_secret_value()), environment
        ).state.services
    anything: Any = object()
    with pytest.raises(RuntimeError, match="closed"):
        services.singles.submit(anything)
    with pytest.raises(RuntimeError, match="closed"):
        services.inbox.submit(anything, anything)


def test_a_database_out_of_reach_fails_all_that_wait_and_then_goes_on(
    owner: Database, work: Work, group_commit: GroupCommit[int, int]
) -> None:
    work.go_on.set()
    owner.retry_seconds = 0.1
    with owner.begin() as connection:
        connection.execute(text("ALTER TABLE public.numbers RENAME TO away"))
        connection.execute(text("CREATE FUNCTION public.busy() RETURNS trigger LANGUAGE plpgsql AS "
                                "$$BEGIN RAISE serialization_failure; END$$"))  # fmt: skip
        connection.execute(text("CREATE TABLE public.numbers (number int)"))
        connection.execute(text("CREATE TRIGGER busy BEFORE INSERT ON public.numbers EXECUTE FUNCTION public.busy()"))
    failed = group_commit.submit(1)
    assert failed.exception(60) is not None
    with owner.begin() as connection:
        connection.execute(text("DROP TABLE public.numbers"))
        connection.execute(text("ALTER TABLE public.away RENAME TO numbers"))
    assert group_commit.submit(2).result(60) == 20
    assert committed(owner) == [2]


@pytest.mark.parametrize("limit", ["lock_timeout", "statement_timeout"])
def test_what_times_out_is_divided_and_what_times_out_again_is_left_to_who_can_wait(
    owner: Database, limit: str
) -> None:
    """The odd ones wait: whatever limit they reach, the even ones have their answers, and no one is refused."""
    groups, together = list[list[int]](), threading.Event()

    def work(connection: Connection, items: Sequence[int]) -> list[int]:
        assert together.wait(60)
        groups.append(list(items))
        if any(item % 2 for item in items):
            connection.execute(text(f"SET LOCAL {limit} = 1"))
            connection.execute(text("SELECT pg_advisory_xact_lock(1)"))
        return list(items)

    rest = GroupCommit[int, int](owner, lambda _, items: [-item for item in items], name="rest")
    commits = GroupCommit[int, int](owner, work, name="numbers", rest=rest, apart=lambda item: item % 2)
    with owner.begin() as holds, closing(commits):
        holds.execute(text("SELECT pg_advisory_xact_lock(1)"))
        futures = [commits.submit(item) for item in (0, 1, 2, 3, 4)]
        together.set()
        assert [future.result(60) for future in futures] == [0, -1, 2, -3, 4]
    assert [len({item % 2 for item in group}) for group in groups[-2:]] == [1, 1]


def test_an_event_loop_gets_the_results_of_a_group_in_one_call(
    work: Work, group_commit: GroupCommit[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[object] = []

    async def storm() -> list[int | BaseException]:
        loop = asyncio.get_running_loop()
        wake = loop.call_soon_threadsafe
        first = asyncio.create_task(group_commit.commit(1))
        assert await asyncio.to_thread(work.started.wait, 60)
        others = [asyncio.create_task(group_commit.commit(number)) for number in (2, 99, 3, 4)]
        await asyncio.sleep(0)
        others[-1].cancel()
        await asyncio.sleep(0)

        def count(*given: Any) -> asyncio.Handle:
            calls.append(given)
            return wake(*given)

        monkeypatch.setattr(loop, "call_soon_threadsafe", count)
        work.go_on.set()
        results = await asyncio.gather(first, *others, return_exceptions=True)
        assert len(calls) == 2, "one for each group"
        return results

    one, two, refused, three, given_up = asyncio.run(storm())
    assert (one, two, three) == (10, 20, 30)
    assert isinstance(refused, ValueError)
    assert isinstance(given_up, asyncio.CancelledError)
    assert work.groups == [[1], [2, 99, 3]]


def test_a_loop_that_is_gone_harms_nobody(owner: Database, work: Work, group_commit: GroupCommit[int, int]) -> None:
    async def leave() -> None:
        asyncio.create_task(group_commit.commit(1)).add_done_callback(lambda _: None)
        assert await asyncio.to_thread(work.started.wait, 60)

    asyncio.run(leave())
    other = group_commit.submit(2)
    work.go_on.set()
    assert other.result(60) == 20
    assert committed(owner) == [1, 2]
