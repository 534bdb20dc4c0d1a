"""How fast a bulk job is worked off by one, two and three machines: `python -m ops.bench.hosts`. Needs root.

The machines are network namespaces with addresses of their own, against one PostgreSQL and one Redis on the bridge
between them. Each has a part of a processor core, so that the database has room: on the same cores, the second
machine would only take from the first what it brings. `--database` confines PostgreSQL too: then it becomes the limit.

With `--keep` the figures go to `last-hosts.json` and to the page that shows them, see growth.py.
"""

import argparse
import os
import platform
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import text

from ops.bench import growth, report
from ops.bench.growth import Growth, Step
from ops.bench.site import SERVICE, Size, World, open_site, until
from ops.chaos.hosts import Host, Network
from ops.local.postgres import Postgres
from ops.local.redis import find_program
from ops.local.supervisor import Supervisor
from schemas.jobs import JobRequest
from worker.jobs.submit import Requester, submit

_RULES = "local all all trust\nhost all all {net} trust\n"
_FIRST_ID = 1


def main() -> None:
    """Measure, print the figures as they come, and keep them if asked to."""
    parser = argparse.ArgumentParser(prog="python -m ops.bench.hosts", description=__doc__)
    parser.add_argument("--size", type=int, default=20_000, help="enrolments of the job")
    parser.add_argument("--share", type=float, default=0.2, help="of a processor core, for each machine")
    parser.add_argument("--database", type=float, help="of a processor core, for PostgreSQL; default: no limit")
    parser.add_argument("--hosts", type=int, default=3, help="machines at most")
    parser.add_argument("--chunk", type=int, default=50, help="enrolments of a chunk")
    parser.add_argument("--keep", action="store_true", help="write the figures to last-hosts.json and into the page")
    given = parser.parse_args()
    run = _run(given.size, given.share, given.database, given.hosts, given.chunk)
    if given.keep:
        growth.add(run)
        growth.main()


def _run(size: int, share: float, limit: float | None, most: int, chunk: int) -> Growth:
    """Measure with one host, two, and so on up to `most`; `limit`: PostgreSQL's part of a processor core."""
    steps: list[Step] = []
    with Network() as network, ExitStack() as stack:
        rules = Path(f"/tmp/{network.name}-hba")  # noqa: S108 - the server's account reads it
        rules.write_text(_RULES.format(net=network.net), encoding="utf-8")
        stack.callback(rules.unlink)
        listen = {"listen_addresses": network.address, "hba_file": str(rules)}
        Postgres.settings = Postgres.settings | listen
        hosts = [network.host(share=share) for _ in range(most)]
        site = stack.enter_context(open_site())
        versions = {"python": platform.python_version(), "postgresql": site.version(), "linux": platform.release()}
        if limit is not None:
            network.confine(site.server_pids(), limit)
        broker = stack.enter_context(_redis(network))
        for count in range(1, most + 1):
            with site.fresh(Size(bulk=size)) as world:
                rate, database, used = _measure(world, network, hosts[:count], broker, size, chunk)
            steps.append(Step(count, round(rate), round(database, 2), round(used, 2)))
            print(growth.line(steps[-1], steps[0]), flush=True)
    ended = datetime.now(UTC).isoformat(timespec="minutes")
    return Growth(ended, report.describe_machine(), versions, size, share, limit, chunk, steps)


def _measure(
    world: World, network: Network, hosts: list[Host], broker: str, size: int, chunk: int
) -> tuple[float, float, float]:
    """Enrolments a second from the submission to the last withdrawal, and the cores that both sides used."""
    name = world.settings.database_url.get_secret_value().partition("@/")[2].partition("?")[0]
    environment = {
        "DATABASE_URL": f"postgresql://withdrawals@{network.address}:5432/{name}",
        "BROKER_URL": broker,
        "WITHDRAWALS_PORT": "8000",
        "WITHDRAWALS_PROCESSES": "1",
        "WITHDRAWALS_CHUNK_SIZE": str(chunk),
    }
    commands = {f"{one.name} {kind}": one.command(command) for one in hosts for kind, command in SERVICE.items()}
    with Supervisor(commands, environment, output=Path(os.devnull)):
        kinds = "SELECT count(*) FROM withdrawals.processes WHERE kind IN ('worker', 'relay')"
        with network.without_limits():
            until(lambda: world.count(kinds) == 2 * len(hosts), what="workers and relays run", within=120)
            time.sleep(5)  # what processes do as they start is over
        ids = list(range(_FIRST_ID, _FIRST_ID + size))
        request = JobRequest(reason="not_required", enrolment_ids=ids)
        submit(world.database, Requester(1, "bench", "cli", "k"), request, chunk_size=chunk)
        begun, before = time.monotonic(), (_used(_backends(world)), _used_by(hosts))
        until(lambda: world.withdrawn() == size, what="all are withdrawn", every=0.1)
        seconds = time.monotonic() - begun
        after = _used(_backends(world)), _used_by(hosts)
    database, inside = ((after[n] - before[n]) / seconds for n in (0, 1))
    return size / seconds, database, inside


def _backends(world: World) -> list[int]:
    with world.owner.begin() as connection:
        return list(connection.scalars(text("SELECT pid FROM pg_stat_activity")))


def _used_by(hosts: list[Host]) -> float:
    return _used([pid for one in hosts for pid in one.pids()])


@contextmanager
def _redis(network: Network) -> Iterator[str]:
    options = ["--bind", network.address, "--port", "6379", "--save", "", "--protected-mode", "no"]
    child = subprocess.Popen([find_program(), *options], stdout=subprocess.DEVNULL, cwd="/")
    try:
        yield f"redis://{network.address}:6379/0"
    finally:
        child.kill()
        child.wait()


def _used(pids: list[int]) -> float:
    """Seconds of processor time that processes have used so far."""
    ticks = 0
    for pid in pids:
        with suppress(OSError):
            after = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
            ticks += int(after[11]) + int(after[12])
    return ticks / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
