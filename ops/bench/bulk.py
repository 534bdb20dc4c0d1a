"""Bulk jobs: by filter, by file and by ids, beside set SQL by hand and beside one job an enrolment in other queues."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from sqlalchemy import text

from ops.bench import peers
from ops.bench.load import id_file
from ops.bench.memory import peak
from ops.bench.results import Results
from ops.bench.site import PATIENCE, BenchError, Site, Size, World, alternate, until
from schemas.jobs import MAX_IDS, FileRequest, Filter, JobRequest
from worker.database import driver
from worker.jobs.files.submit import submit_file
from worker.jobs.submit import Requester, submit


@dataclass(frozen=True, slots=True)
class Amount:
    """How much of everything."""

    enrolments: int = 400_000
    peers: int = 6_000
    """Enrolments for each of the other queues: their rate does not depend on how many there are."""
    feed: int = 100_000
    """Enrolments of the job that is measured with and without the feed of events."""
    small: int = 100_000
    large: int = 1_000_000
    """Enrolments of the job beside the small one; 0 leaves both out."""
    huge: int = 0
    """Enrolments of the largest job; 0 leaves it out."""
    rounds: int = 3
    ways: tuple[str, ...] = ("filter", "file", "ids")


Ask = Callable[[World], None]
"""Asks the service to withdraw every enrolment of a world."""
QUICK = Amount(enrolments=20_000, peers=300, feed=20_000, small=0, large=0, rounds=1, ways=("filter", "file"))
_SLOWEST = 5_000
"""Enrolments a second, below which a bulk job counts as stuck."""
_ARE_FINISHED = "SELECT NOT EXISTS (SELECT FROM withdrawals.jobs WHERE finished_at IS NULL)"
_LIMIT = """
    WITH done AS (UPDATE lms.enrolments SET status = 'withdrawn', withdrawn_at = now(),
        withdrawal_reason = 'not_required', withdrawn_by = 'bench'
        WHERE id = ANY(CAST(:ids AS bigint[])) AND status = 'in_progress' RETURNING id)
    INSERT INTO bench_outcomes (job_id, enrolment_id, outcome) SELECT 1, id, 'withdrawn' FROM done"""
_LIMIT_TABLE = """CREATE TABLE bench_outcomes (job_id bigint, enrolment_id bigint, outcome text,
    decided_at timestamptz DEFAULT now(), PRIMARY KEY (job_id, enrolment_id))"""


def run(site: Site, results: Results, amount: Amount) -> None:
    """Measure bulk jobs beside their limit and their peers, then how the rate holds as they grow."""
    size = Size(bulk=amount.enrolments)
    ways = {name: _WAYS[name] for name in amount.ways}
    for number in range(amount.rounds):
        rates: dict[str, float] = {}

        def measured(name: str, work: Callable[[], float], rates: dict[str, float] = rates) -> None:
            keys = [f"bulk.{name}"] if name != "limit" else [f"bulk.{way}" for way in ways]
            with results.attempt(*keys):
                rates[name] = work()
                results.say(f"{name}: {rates[name]:,.0f} enrolments a second")

        sides: list[Callable[[], None]] = [partial(measured, "limit", partial(_limit, site, size))]
        sides += [partial(measured, way, partial(_bulk, site, size, ask)) for way, ask in ways.items()]
        sides += [partial(measured, name, partial(_peer, site, name, amount.peers)) for name in peers.NAMES]
        alternate(number, *sides)
        for way in ways:
            if way in rates and "limit" in rates:
                results.add(f"bulk.{way}", rates[way], rates["limit"])
        for name in peers.NAMES:
            if name in rates and "filter" in rates:
                results.add(f"bulk.{name}", rates["filter"], rates[name])
    site.forget(size)
    with results.attempt("bulk.feed"):
        _feed(site, results, Size(bulk=amount.feed), amount.rounds)
    if amount.large:
        with results.attempt("growth.large", "memory.web", "memory.worker", "memory.relay"):
            _growth(site, results, amount.small, amount.large, "growth.large", min(amount.rounds, 2))
    if amount.huge:
        with results.attempt("growth.huge"):
            _growth(site, results, amount.large, amount.huge, "growth.huge", 1)


def by_filter(world: World) -> None:
    """Ask for all by a filter."""
    wanted = Filter(status=["in_progress"])
    submit(world.database, _requester(world, "filter"), JobRequest(reason="not_required", filter=wanted))


def by_file(world: World) -> None:
    """Ask for all by a file, as every door reads it."""
    file = id_file(range(1, world.size.bulk + 1))
    submit_file(world.database, _requester(world, "file"), FileRequest(reason="not_required"), file)


def by_ids(world: World) -> None:
    """Ask for all by their ids, in as few requests as one may have ids."""
    for first in range(1, world.size.bulk + 1, MAX_IDS):
        ids = list(range(first, min(first + MAX_IDS, world.size.bulk + 1)))
        wanted = JobRequest(reason="not_required", enrolment_ids=ids)
        submit(world.database, _requester(world, f"ids-{first}"), wanted)


_WAYS: dict[str, Ask] = {"filter": by_filter, "file": by_file, "ids": by_ids}


def _bulk(site: Site, size: Size, ask: Ask) -> float:
    with site.fresh(size) as world, world.processes("worker", "relay"):
        return measure(world, ask)


def measure(world: World, ask: Ask) -> float:
    """Enrolments a second, from before the request to the last outcome.

    Raises:
        BenchError: not all of them are withdrawn.
    """
    within = max(PATIENCE, world.size.bulk / _SLOWEST)
    with world.owner.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        # Asked of the driver: who looks fifty times a second takes the processor from those who are measured.
        asks = driver(connection)
        began = time.monotonic()
        ask(world)
        until(
            lambda: bool(asks.execute(_ARE_FINISHED).fetchone()[0]),
            what="every job has finished",
            every=0.02,
            within=within,
        )
        seconds = time.monotonic() - began
    return _rate(world, seconds)


def _feed(site: Site, results: Results, size: Size, rounds: int) -> None:
    """The rate beside that of the same job without the trigger that writes the feed (decision record 0043)."""
    rates: dict[bool, float] = {}

    def measured(with_feed: bool) -> None:
        with site.fresh(size) as world:
            if not with_feed:
                stop_feed(world)
            with world.processes("worker", "relay"):
                rates[with_feed] = measure(world, by_filter)

    for number in range(rounds):
        alternate(number, partial(measured, True), partial(measured, False))
        results.add("bulk.feed", rates[True], rates[False])
    site.forget(size)


def stop_feed(world: World) -> None:
    """Let decisions write nothing into the feed of events."""
    with world.owner.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE withdrawals.outcomes DISABLE TRIGGER into_feed")


def _limit(site: Site, size: Size) -> float:
    with site.fresh(size) as world:
        return measure_limit(world)


def measure_limit(world: World) -> float:
    """What PostgreSQL can do, in enrolments a second: two connections take alternate sets, and only write.

    Raises:
        BenchError: not all of them are withdrawn.
    """
    with world.owner.begin() as connection:
        connection.exec_driver_sql(_LIMIT_TABLE)
    chunk, last = world.settings.chunk_size, world.size.bulk

    def half(first: int) -> None:
        for start in range(first * chunk + 1, last + 1, 2 * chunk):
            with world.owner.begin() as connection:
                connection.execute(text(_LIMIT), {"ids": list(range(start, min(start + chunk, last + 1)))})

    began = time.monotonic()
    threads = [threading.Thread(target=half, args=(first,)) for first in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return _rate(world, time.monotonic() - began)


def _rate(world: World, seconds: float) -> float:
    if (found := world.withdrawn()) != world.size.bulk:
        raise BenchError(f"{found:,} enrolments are withdrawn, not {world.size.bulk:,}")
    return world.size.bulk / seconds


def _peer(site: Site, name: str, enrolments: int) -> float:
    with peers.running(site, name, enrolments) as peer:
        began = time.monotonic()
        peer.send(range(1, enrolments + 1))
        peers.until_done(peer, enrolments)
        return enrolments / (time.monotonic() - began)


def _growth(site: Site, results: Results, small: int, large: int, key: str, rounds: int) -> None:
    """The rate of a large job beside a small one's, and the memory of every process after the large one."""
    rates: dict[int, float] = {}

    def measured(enrolments: int) -> None:
        with site.fresh(Size(bulk=enrolments)) as world, world.processes("web", "worker", "relay") as processes:
            rates[enrolments] = measure(world, by_filter)
            if enrolments == large:
                for name in ("web", "worker", "relay"):
                    results.add(f"memory.{name}", peak(processes.running.pid(name)))

    for number in range(rounds):
        alternate(number, partial(measured, small), partial(measured, large))
        results.add(key, rates[large], rates[small])
    site.forget(Size(bulk=small))
    site.forget(Size(bulk=large))


def _requester(world: World, key: str) -> Requester:
    return Requester(world.organisation_id, "bench", "api", key)
