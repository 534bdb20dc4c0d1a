"""What `make bench` compares does the same work on either side. Nothing here is about time."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from ops.bench import bulk, door, idle, peers
from ops.bench.results import Results
from ops.bench.site import BenchError, Site, Size, World, environment
from ops.local.servers import LocalServers
from worker.config import settings

COUNT = 24
SIZE = Size(bulk=COUNT)


@pytest.fixture
def site(servers: LocalServers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """The bench's own databases, on the servers of the tests."""
    for name, value in environment(servers).items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("WITHDRAWALS_TEST_CHAOS", raising=False)  # no setting of the service
    settings.cache_clear()
    site = Site(servers, tmp_path, settle=0)
    yield site
    site.close()
    settings.cache_clear()


def books(world: World, up_to: int = COUNT) -> list[tuple[str, str | None, int]]:
    """How many of the first enrolments are in which state, and why."""
    with world.owner.begin() as connection:
        rows = connection.exec_driver_sql(
            f"SELECT status, withdrawal_reason, count(*) FROM lms.enrolments WHERE id <= {up_to} GROUP BY 1, 2"
        )
        return [(row[0], row[1], row[2]) for row in rows]


@pytest.mark.long
def test_a_storm_reaches_the_service_and_the_bare_receiver(site: Site) -> None:
    results = Results()
    door.run_storms(site, results, door.Amount(requests=COUNT, connections=4, rounds=1), "asynchronous")
    assert {key for key, row in results.rows.items() if row.failed} == set()
    compared = {"door.events", "door.events.p50", "door.events.p99", "door.singles"}
    assert {key for key, row in results.rows.items() if len(row.ratios) == 1} == compared
    assert results.rows["door.drain"].ours


@pytest.mark.long
def test_bulk_jobs_of_the_bench_withdraw_all_of_it_in_each_way(site: Site) -> None:
    """Small: the tests of set SQL and of Dramatiq below."""
    with site.fresh(SIZE) as world, world.processes("worker", "relay"):
        for ask in (bulk.by_filter, bulk.by_file, bulk.by_ids):
            with world.owner.begin() as connection:
                connection.exec_driver_sql("UPDATE lms.enrolments SET status = 'in_progress', withdrawal_reason = NULL")
            assert bulk.measure(world, ask) > 0
            assert books(world) == [("withdrawn", "not_required", COUNT)]


@pytest.mark.long
def test_without_the_feed_a_bulk_job_withdraws_all_the_same(site: Site) -> None:
    """Small: the tests of set SQL and of Dramatiq below."""
    with site.fresh(SIZE) as world, world.processes("worker", "relay"):
        for entries in (1, 0):
            with world.owner.begin() as connection:
                connection.exec_driver_sql("UPDATE lms.enrolments SET status = 'in_progress', withdrawal_reason = NULL")
                connection.exec_driver_sql("TRUNCATE withdrawals.feed CASCADE")
            if not entries:
                bulk.stop_feed(world)
            assert bulk.measure(world, bulk.by_filter if entries else bulk.by_ids) > 0
            assert world.count("SELECT count(*) FROM withdrawals.feed") == entries
            assert books(world) == [("withdrawn", "not_required", COUNT)]


def test_set_sql_by_hand_withdraws_all_of_it(site: Site) -> None:
    with site.fresh(SIZE) as world:
        assert bulk.measure_limit(world) > 0
        assert books(world) == [("withdrawn", "not_required", COUNT)]
        assert world.count("SELECT count(*) FROM bench_outcomes") == COUNT


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name == "dramatiq" else pytest.mark.long) for name in peers.NAMES]
)
def test_another_queue_withdraws_all_of_it(site: Site, name: str) -> None:
    pytest.importorskip(name)
    with peers.running(site, name, COUNT) as peer:
        peer.send(range(1, COUNT + 1))
        peers.until_done(peer, COUNT)
        assert books(peer.world) == [("withdrawn", "not_required", COUNT)]


@pytest.mark.long
def test_an_idle_system_is_watched(site: Site) -> None:
    results = Results()
    idle.watch(site, results, 0.5)
    assert {key: len(row.ours) for key, row in results.rows.items()} == {"idle.cpu": 1, "idle.redis": 1, "idle.wal": 1}


def test_every_side_begins_with_the_same_rows(site: Site) -> None:
    with site.fresh(SIZE) as world:
        with world.owner.begin() as connection:
            connection.exec_driver_sql("UPDATE lms.enrolments SET status = 'mastered'")
        assert books(world) == [("mastered", None, COUNT)]
    with site.fresh(SIZE) as world:
        assert books(world) == [("in_progress", None, COUNT)]


def test_work_that_was_not_done_fails_the_row_and_no_other(site: Site) -> None:
    results = Results()
    with site.fresh(SIZE) as world:
        with results.attempt("bulk.filter"):
            bulk.measure(world, lambda _: None)  # nothing was asked for, so that nothing is withdrawn
        with results.attempt("bulk.file"):
            raise BenchError("the other row")
    assert results.rows["bulk.filter"].failed == f"BenchError: 0 enrolments are withdrawn, not {COUNT}"
    assert results.rows["bulk.file"].failed == "BenchError: the other row"
