"""What the scenarios of `make chaos` share: their seed, their random choices, and the record of what came of them."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random

import psycopg

from ops.chaos.table import Record
from ops.local.servers import LocalServers
from tests.support import processes
from tests.support.load import FULL, Verdict
from tests.world import eventually
from worker.config import Settings

Admin = psycopg.Connection[tuple[object, ...]]

SEED = int(os.environ.get("CHAOS_SEED") or (secrets.randbelow(2**31) if FULL else 1))
"""Of this run. In the suite always the same, so that a change is to blame for what breaks."""
ONLY = os.environ.get("CHAOS_ONLY")
"""The one scenario to run."""


@dataclass
class Chaos:
    """One scenario that runs: its random choices and its record."""

    random: Random
    record: Record

    @classmethod
    def of(cls, name: str) -> "Chaos":
        return cls(Random(f"{SEED} {name}"), Record(name, SEED))

    def conclude(self, verdict: Verdict) -> None:
        """Record what came of it.

        Raises:
            AssertionError: something was lost, double or wrong.
        """
        record = self.record
        record.accepted, record.lost = verdict.accepted, verdict.lost
        record.double, record.wrong = verdict.double, verdict.wrong
        record.problems += verdict.problems
        assert verdict.clean, verdict


@contextmanager
def left_running(servers: LocalServers) -> Iterator[None]:
    """Whatever a scenario does to the servers, the next test finds them up."""
    try:
        yield
    finally:
        processes.start_redis(servers)
        processes.start_postgres(servers)


@contextmanager
def administrator(environment: Settings) -> Iterator[Admin]:
    """A connection that no fault reaches: it may write while the database is read-only, and nobody ends it."""
    url = environment.database_url.get_secret_value()
    with psycopg.connect(url, autocommit=True, options="-c default_transaction_read_only=off") as connection:
        yield connection


def seconds_pass(admin: Admin, seconds: float) -> None:
    """Let processes meet a fault for so long, by the database's clock."""
    (until,) = admin.execute("SELECT clock_timestamp() + make_interval(secs => %s)", [seconds]).fetchone() or ()
    eventually(lambda: (admin.execute("SELECT clock_timestamp() > %s", [until]).fetchone() or [0])[0], what="time")
