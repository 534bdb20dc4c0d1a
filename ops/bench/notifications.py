"""`python -m ops.bench.notifications`: what 64 submitters reach, notifying in the transaction and after it.

Each submitter has an organisation of its own, so that no other lock puts them in one line. The rounds alternate.
"""

import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch
from uuid import uuid4

from sqlalchemy import Connection, text

from ops.cli.common import out
from ops.local.servers import LocalServers
from ops.migrate import migrate
from schemas.jobs import JobRequest
from worker import logs
from worker.config import Settings
from worker.database import CHANNEL, Database
from worker.jobs.submit import Requester, submit

_SUBMITTERS, _SECONDS, _ROUNDS = 64, 5.0, 3


def main() -> None:
    """Print the rate of both, and their ratio."""
    logs.silence()
    directory = Path(tempfile.mkdtemp(prefix="withdrawals-bench-", dir="/tmp"))
    directory.chmod(0o755)
    try:
        with LocalServers(directory / "local") as servers:
            current = Settings(DATABASE_URL=servers.database_url, BROKER_URL=servers.broker_url)
            owner = Database(current, as_owner=True)
            migrate(owner.engine, role=current.database_role)
            with owner.begin() as connection:
                made = text("""INSERT INTO lms.organisations (name, timezone)
                    SELECT n, 'UTC' FROM generate_series(1, :n) n RETURNING id""")
                organisations = list(connection.scalars(made, {"n": _SUBMITTERS}))
            owner.close()
            _compare(current, organisations)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _compare(current: Settings, organisations: list[int]) -> None:
    database = Database(current, pool_size=_SUBMITTERS)
    inside, after = [], []
    for _ in range(_ROUNDS):
        with patch("worker.jobs.singles.notify_after_commit", _notify_inside):
            inside.append(_rate(database, organisations))
        after.append(_rate(database, organisations))
    database.close()
    before, now = statistics.median(inside), statistics.median(after)
    out.print(f"in the transaction: {before:,.0f}/s {_rounded(inside)}   after it: {now:,.0f}/s {_rounded(after)}")
    out.print(f"ratio: {now / before:.2f}")


def _notify_inside(connection: Connection) -> None:
    connection.execute(text(f"NOTIFY {CHANNEL}"))


def _rate(database: Database, organisations: list[int]) -> float:
    end = time.monotonic() + _SECONDS
    counts = [0] * len(organisations)

    def work(n: int) -> None:
        while time.monotonic() < end:
            requester = Requester(organisations[n], "bench", "api", uuid4().hex)
            submit(database, requester, JobRequest(reason="not_required", enrolment_ids=[n + 1]))
            counts[n] += 1

    _all_at_once([lambda n=n: work(n) for n in range(len(organisations))])  # type: ignore[misc]
    return sum(counts) / _SECONDS


def _all_at_once(work: list[Callable[[], None]]) -> None:
    threads = [threading.Thread(target=one) for one in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _rounded(values: list[float]) -> list[int]:
    return [round(value) for value in values]


if __name__ == "__main__":
    main()
