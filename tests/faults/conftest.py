"""Scenarios of `make chaos`: which of them run, with what, and the records that they leave."""

from collections.abc import Iterator
from typing import Any

import pytest

from ops.chaos.scenarios import SCENARIOS
from ops.chaos.table import Record, add_run, summary
from tests.support.chaos import ONLY, SEED, Chaos
from tests.support.load import FULL, Load, slow_platform
from tests.world import World
from worker.config import Settings
from worker.database import Database

_CHAOS = pytest.StashKey[Chaos]()
_records: list[Record] = []


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "scenario(name, small=False): a scenario of ops/chaos/scenarios.py; `small`: also part of the suite"
    )


def pytest_report_header() -> str | None:
    return f"chaos: CHAOS_SEED={SEED}" if FULL else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave to `make chaos` what takes long."""
    unwanted = [item for item in items if not _is_wanted(item)]
    if unwanted:
        config.hook.pytest_deselected(items=unwanted)
        items[:] = [item for item in items if item not in unwanted]


def _is_wanted(item: pytest.Item) -> bool:
    marker = item.get_closest_marker("scenario")
    if ONLY:
        return marker is not None and marker.args[0] == ONLY
    return marker is None or FULL or bool(marker.kwargs.get("small"))


def pytest_runtest_setup(item: pytest.Item) -> None:
    if marker := item.get_closest_marker("scenario"):
        item.stash[_CHAOS] = chaos = Chaos.of(marker.args[0])
        _records.append(chaos.record)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    report: Any = yield
    chaos = item.stash.get(_CHAOS, None)
    if chaos and report.failed and not chaos.record.problems:
        chaos.record.problems = [(str(call.excinfo.value).splitlines() or ["failed"])[0][:300]] if call.excinfo else []
    if chaos and report.skipped and call.excinfo:
        chaos.record.skipped = str(call.excinfo.value)
    return report  # type: ignore[no-any-return]


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if FULL and _records:
        terminalreporter.section(f"chaos, CHAOS_SEED={SEED}")
        for line in summary(_records):
            terminalreporter.write_line(line)


def pytest_sessionfinish() -> None:
    """Keep the figures of a whole run, none of a part."""
    if FULL and {record.scenario for record in _records} == {scenario.name for scenario in SCENARIOS}:
        add_run(SEED, _records)


@pytest.fixture
def chaos(request: pytest.FixtureRequest) -> Chaos:
    """The scenario that this test is."""
    return request.node.stash[_CHAOS]  # type: ignore[no-any-return]


@pytest.fixture
def producers(environment: Settings) -> Iterator[Database]:
    """What producers submit through: it repeats for 15 seconds what passes by itself."""
    database = Database(environment.model_copy(update={"lease_seconds": 30}), pool_size=4)
    yield database
    database.close()


@pytest.fixture
def load(world: World, producers: Database, chaos: Chaos) -> Load:
    """Requests over a slow platform; the random choices are the scenario's."""
    slow_platform(world)
    return Load.over(world, producers, random=chaos.random)
