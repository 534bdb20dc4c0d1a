"""Processes that die anywhere, stand still, have another clock or are of another release: each request is done once."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from zlib import crc32

import pytest

from ops.local.supervisor import Supervisor
from schemas.client import Client
from schemas.jobs import JobRequest
from tests.support import clocks, kills
from tests.support.chaos import Chaos, administrator, seconds_pass
from tests.support.load import DEADLINE, KILLS, Load, leader, service
from tests.support.processes import CHILDREN, RELAY, WORKER, family, kill
from tests.support.releases import previous_release
from tests.support.scraping import free_port
from tests.world import eventually
from worker.access import tokens
from worker.config import Settings

pytestmark = pytest.mark.timeout(900)

BEYOND_LEASE = 8
"""Seconds; the lease of the children is 5."""
WEB = [sys.executable, "-m", "ops", "web"]


@pytest.mark.scenario("everything-killed")
def test_producers_over_http_get_each_request_done_once_while_every_process_dies(load: Load, chaos: Chaos) -> None:
    port = free_port()
    commands = {"worker-a": WORKER, "worker-b": WORKER, "relay-a": RELAY, "relay-b": RELAY, "web": WEB}
    environment = {**CHILDREN, "WITHDRAWALS_PORT": str(port), "WITHDRAWALS_RATE_LIMIT": "0"}
    with (
        Supervisor(commands, environment) as running,
        Client(f"http://127.0.0.1:{port}", _token(load), patience=DEADLINE) as client,
    ):
        load.send = lambda key, ids: _by_http(client, key, ids)
        with load.submitted_meanwhile():
            for _ in load.moments(KILLS):
                for name in commands:
                    for pid in family(running.pid(name)):
                        if chaos.random.random() < 0.3:
                            kill(pid)
        chaos.conclude(load.verdict())


@pytest.mark.scenario("killed-at-failpoints")
def test_every_process_is_killed_at_every_statement_and_commit_that_it_makes(
    load: Load, chaos: Chaos, tmp_path: Path
) -> None:
    """Between any two statements somebody dies; small jobs follow until no failpoint is left that has not killed."""
    with service(kills.environment(tmp_path)):
        with load.submitted_meanwhile():
            eventually(load.hit, within=DEADLINE, what="work in hand")
            kills.arm(tmp_path)
        eventually(load.finished, within=DEADLINE, what="all jobs finished")
        for number in count():
            before = kills.killed_at(tmp_path)
            load.submit(f"once more {number}", chaos.random.sample(load.ids, 10))
            eventually(load.finished, within=DEADLINE, what="all jobs finished")
            if kills.killed_at(tmp_path) == before:
                break
        kills.disarm(tmp_path)
        chaos.conclude(load.verdict())
    found = kills.killed_at(tmp_path)
    wanted = {f"{at}:{side}" for at in ("claims.claim", "claims.claim_now", "decide.decide",
        "decide.decide_plain_at_once", "drain.decide:commit", "jobs.finish", "recovery.take_over:commit")
        for side in ("before", "after")}  # fmt: skip
    assert wanted <= found, wanted - found


@pytest.mark.scenario("workers-frozen")
def test_workers_that_stood_still_beyond_their_lease_change_nothing_when_they_go_on(
    load: Load, environment: Settings, chaos: Chaos
) -> None:
    with administrator(environment) as admin, service() as running:
        with load.submitted_meanwhile():
            for _ in load.moments(max(KILLS // 3, 1)):
                # A worker with all that belongs to it, and some processes of the other one by chance.
                first, second = chaos.random.sample(["worker-a", "worker-b"], 2)
                victims = family(running.pid(first))
                victims += [pid for pid in family(running.pid(second)) if chaos.random.random() < 0.3]
                with stopped(victims):
                    seconds_pass(admin, BEYOND_LEASE)
        chaos.conclude(load.verdict())


@pytest.mark.scenario("relay-frozen")
def test_a_leading_relay_that_stood_still_is_replaced_and_changes_nothing_later(load: Load, chaos: Chaos) -> None:
    """What arrives while it stands still is done before it goes on: a load at first, then single jobs in a lull."""
    with Supervisor({"relay-a": RELAY}, CHILDREN) as leading:
        eventually(lambda: leader(load.world), what="a relay leads")
        with Supervisor({"worker-a": WORKER, "worker-b": WORKER, "relay-b": RELAY}, CHILDREN) as others:
            with stopped(family(leading.pid("relay-a"))):
                with load.submitted_meanwhile():
                    pass
                eventually(load.finished, within=DEADLINE, what="everything done without the relay that led")
            for number in range(max(KILLS // 4, 1)):
                # The one that replaced the other leads; the other stands by.
                victims = family(others.pid("relay-b") if number % 2 == 0 else leading.pid("relay-a"))
                with stopped(victims):
                    load.submit(f"while the relay stands still {number}", load.ids[number::9])
                    eventually(load.finished, within=DEADLINE, what="the job done without the relay that led")
            chaos.conclude(load.verdict())


@pytest.mark.scenario("clocks-off")
def test_clocks_that_are_five_minutes_off_decide_nothing(load: Load, chaos: Chaos) -> None:
    """Leases, schedules and the order of events follow the database's clock alone."""
    ahead, behind = ({**CHILDREN, **clocks.environment(seconds)} for seconds in (300, -300))
    scheduled = load.world.one("SELECT now() + interval '6 seconds'")
    late = load.submit_at("scheduled", load.ids[::5], scheduled)
    with (
        Supervisor({"worker-a": WORKER, "relay-a": RELAY}, ahead) as first,
        Supervisor({"worker-b": WORKER, "relay-b": RELAY}, behind) as second,
    ):
        with load.submitted_meanwhile():
            for _ in load.moments(KILLS):
                running, name = chaos.random.choice(
                    [(first, "worker-a"), (first, "relay-a"), (second, "worker-b"), (second, "relay-b")]
                )
                for pid in family(running.pid(name)):
                    kill(pid)
        chaos.conclude(load.verdict())
    early = load.world.one(
        "SELECT count(*) FROM withdrawals.outcomes WHERE job_id = :j AND decided_at < :at", j=late, at=scheduled
    )
    assert early == 0, "a job was done before its time"


@pytest.mark.scenario("two-releases")
def test_processes_of_the_previous_release_run_beside_those_of_this_one(
    load: Load, chaos: Chaos, tmp_path: Path
) -> None:
    """On the schema of this release, as during a deployment: both kinds of worker, relay and producer."""
    previous = previous_release(tmp_path / "previous")
    older = {**CHILDREN, "PYTHONPATH": str(previous), "PYTHONSAFEPATH": "1"}
    there = [
        "env",
        "-C",
        str(previous),
    ]  # Dramatiq looks for modules in the folder in which it is started, before all others
    assert _imports_from(previous, there, older)
    port = free_port()
    older |= {"WITHDRAWALS_PORT": str(port), "WITHDRAWALS_RATE_LIMIT": "0"}
    with (
        Supervisor({"worker-a": WORKER, "relay-a": RELAY}, CHILDREN) as newer,
        Supervisor({"worker-b": there + WORKER, "relay-b": there + RELAY, "web": there + WEB}, older) as old,
        Client(f"http://127.0.0.1:{port}", _token(load), patience=DEADLINE) as client,
    ):
        load.send = lambda key, ids: (
            _by_http(client, key, ids) if crc32(key.encode()) % 2 else load.submit_here(key, ids)
        )
        with load.submitted_meanwhile():
            for _ in load.moments(KILLS):
                running, name = chaos.random.choice(
                    [(newer, "worker-a"), (newer, "relay-a"), (old, "worker-b"), (old, "relay-b")]
                )
                for pid in family(running.pid(name)):
                    kill(pid)
        chaos.conclude(load.verdict())


@contextmanager
def stopped(pids: list[int]) -> Iterator[None]:
    """Stop processes (SIGSTOP) for a block."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def _token(load: Load) -> str:
    """Of a producer."""
    organisation_id = load.world.organisation_id
    made = tokens.create(load.db, organisation_id=organisation_id, name="chaos", role="producer", actor="test:approver")
    return made.secret


def _by_http(client: Client, key: str, ids: list[int]) -> tuple[int, None]:
    return client.submit(JobRequest(reason="not_required", enrolment_ids=ids), key=key).id, None


def _imports_from(directory: Path, there: list[str], environment: dict[str, str]) -> bool:
    """Whether even Dramatiq's processes, which put their folder first, find the code in `directory`."""
    done = subprocess.run(
        [*there, sys.executable, "-c", "import sys; sys.path.insert(0, '.'); import worker; print(worker.__file__)"],
        env={**os.environ, **environment}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return Path(directory, done.stdout.strip()).resolve().is_relative_to(directory)
