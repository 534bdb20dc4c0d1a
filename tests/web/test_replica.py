"""Reports from a streaming standby: its lag is told, and without it, or too far behind, the primary answers."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pytest
import structlog
from sqlalchemy import text
from starlette.testclient import TestClient

from ops.local.servers import LocalServers
from tests.support.clusters import Cluster, Pair, directory, primary_and_standby
from tests.support.commandline import withdrawals
from tests.world import World, eventually
from worker.access import tokens
from worker.config import Settings, settings
from worker.database import Database
from worker.queue.broker import make_broker
from worker.reports import reader
from worker.reports.reader import ReportReader
from worker.web.app import make_app
from worker.web.pools import Pools

EXPORT = "/v1/reports/enrolments.csv"
LAG = "x-replica-lag-seconds"


@pytest.fixture
def pair(environment: Settings, servers: LocalServers, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pair]:
    """The service's database on a primary, and the standby that is its replica."""
    with directory() as place, primary_and_standby(servers, place) as found:
        monkeypatch.setenv("DATABASE_URL", found.primary.url)
        monkeypatch.setenv("DATABASE_REPLICA_URL", found.standby.url)
        monkeypatch.setenv("WITHDRAWALS_REPLICA_LAG_SECONDS", "86400")
        monkeypatch.setattr(reader, "PAUSE", 0.0)
        assert withdrawals("migrate").code == 0
        settings.cache_clear()
        yield found


@contextmanager
def serving(current: Settings, world: World) -> Iterator[Callable[[str], tuple[list[str], str | None]]]:
    """Get a path of the API: the lines of the answer, and the lag that it tells."""
    pools = Pools.open(current)
    token = tokens.create(
        pools.requests, organisation_id=world.organisation_id, name=uuid4().hex, role="viewer", actor="test:owner"
    )
    broker = make_broker(current.broker_url.get_secret_value())
    with TestClient(make_app(pools, broker, current)) as client:

        def get(path: str) -> tuple[list[str], str | None]:
            answer = client.get(path, headers={"Authorization": f"Bearer {token.secret}"})
            assert answer.status_code == 200, answer.text
            return answer.text.splitlines(), answer.headers.get(LAG)

        yield get
    pools.close()


def catch_up(pair: Pair) -> None:
    """Wait until the standby has all that the primary has committed."""
    with pair.primary.connect() as one, pair.standby.connect() as other:
        (last,) = one.execute("SELECT pg_current_wal_flush_lsn()").fetchone() or ("",)
        eventually(lambda: other.execute("SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", [last]).fetchone() == (True,))


def order(cluster: Cluster, statement: str) -> None:
    with cluster.connect() as admin:
        admin.execute(statement)


def a_read_that_the_standby_ends(pair: Pair) -> None:
    """As a standby does when the primary removed rows that are still being read: it begins again on the primary."""
    primary, replica = Database(settings()), Database(settings(), replica=True, retry_seconds=1)
    read_by: list[str] = []

    def work(database: Database) -> int:
        with database.begin() as connection:
            read_by.append("standby" if connection.scalar(text("SELECT pg_is_in_recovery()")) else "primary")
            if database is replica:
                order(
                    pair.standby, f"SELECT pg_terminate_backend({connection.scalar(text('SELECT pg_backend_pid()'))})"
                )
                connection.execute(text("SELECT 1"))
        return len(read_by)

    reports = ReportReader(primary, replica, most_seconds=86_400)
    read = reports.read(work)
    assert (read.found, read.lag, read_by) == (2, None, ["standby", "primary"])
    assert ReportReader(primary, primary, most_seconds=86_400).read(work).lag is None, "a primary is no replica"
    reports.close()
    primary.close()


def test_reports_are_read_from_a_replica_that_is_near_enough_and_else_from_the_primary(
    pair: Pair, tmp_path: Path
) -> None:
    owner = Database(settings(), as_owner=True)
    world = World(owner)
    world.enrolments(2)
    catch_up(pair)
    with serving(settings(), world) as get, structlog.testing.capture_logs() as entries:
        lines, lag = get(EXPORT)
        assert (len(lines), lag is not None) == (3, True)
        assert get("/v1/reports/summary")[1] is not None
        order(pair.standby, "SELECT pg_wal_replay_pause()")
        world.enrolments(5)
        assert len(get(EXPORT)[0]) == 3, "it was read from the standby, which knows nothing of them"
        assert (len(json.loads("\n".join(get("/v1/enrolments")[0]))["items"]), get("/v1/enrolments")[1]) == (7, None)
        metrics = "\n".join(get("/metrics")[0])
        assert "withdrawals_replica_left 0.0" in metrics
        assert float(metrics.partition("\nwithdrawals_replica_lag_seconds ")[2].split()[0]) > 0

        with serving(settings().model_copy(update={"replica_lag_seconds": 1e-9}), world) as get_near:
            lines, lag = get_near(EXPORT)
            assert (len(lines), lag) == (8, None), "too far behind: the primary answers"
            assert "withdrawals_replica_left 1.0" in "\n".join(get_near("/metrics")[0])
        assert [entry["reason"] for entry in entries if entry["event"] == "replica.left"] == ["behind"]

        order(pair.standby, "SELECT pg_wal_replay_resume()")
        pair.standby.kill()
        lines, lag = get(EXPORT)
        assert (len(lines), lag) == (8, None)
        assert [entry["reason"] for entry in entries if entry["event"] == "replica.left"][1:] == ["OperationalError"]
        pair.standby.start()
        catch_up(pair)
        assert get(EXPORT)[1] is not None
        assert "replica.used_again" in [entry["event"] for entry in entries]

    a_read_that_the_standby_ends(pair)
    found = withdrawals("doctor", "--json").document["items"]
    said = {item["finding"].split(",")[0]: item["level"] for item in found if item["what"] == "replica"}
    assert said["a standby"] == "ok"
    assert any("acts as withdrawals_service" in item["finding"] for item in found if item["what"] == "replica")
    told = withdrawals("report", "enrolments", "-o", str(tmp_path / "all.csv"))
    assert "7 rows" in told.err
    assert "read from a replica, at most" in told.err
    owner.close()
