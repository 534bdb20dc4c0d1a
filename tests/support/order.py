"""The order of the tests where several processes share them: what takes long begins first, in each of them.

xdist gives every process an equal run of the list (`--dist worksteal`), and one that has done its own takes from the
end of another's. A test of half a minute at the end of the list would keep one core busy and the others idle.
"""

from itertools import islice

import pytest

LONG = (
    "tests/faults/test_state_machine.py",
    "tests/telemetry/test_processes.py",
    "tests/faults/test_faults.py",
    "tests/cli/test_wheel.py",
    "tests/console/test_library.py",
    "tests/security/test_roles.py",
    "tests/console/test_desk_stories.py",
    "tests/cli/test_without_servers.py",
    "tests/console/test_jobs.py",
    "tests/security/test_secrets.py",
    "tests/local/test_local.py",
    "tests/console/test_every_page.py",
    "tests/queue/test_rabbitmq.py",
    "tests/schema/test_postgres_versions.py",
    "tests/faults/test_read_only.py",
    "tests/faults/test_chaos_redis.py",
    "tests/faults/test_chaos_postgres.py",
)
"""Files, the longest first. A file stays together, because its tests share what they need."""


def dealt(items: list[pytest.Item], processes: int) -> list[pytest.Item]:
    """The tests in an order by which each of the processes begins with its share of the long files."""
    files = {name: [item for item in items if item.nodeid.startswith(f"{name}::")] for name in LONG}
    shares: list[list[pytest.Item]] = [[] for _ in range(processes)]
    for number, name in enumerate(LONG):
        shares[number % processes] += files[name]
    chosen = {id(item) for share in shares for item in share}
    others = iter([item for item in items if id(item) not in chosen])
    left, found = len(items), list[pytest.Item]()
    for number, share in enumerate(shares):
        size = left // (processes - number)  # as xdist divides them
        left -= size
        found += [*share, *islice(others, max(size - len(share), 0))]
    return [*found, *others]
