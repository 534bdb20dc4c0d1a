"""Rules, dashboards, runbook and the page of metrics are about what the processes really export."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx2
import pytest
from starlette.testclient import TestClient

from ops import monitoring
from ops.local.servers import LocalServers
from ops.monitoring.__main__ import FOLDER, written
from ops.monitoring.panels import BOARDS, RATE
from tests.support import processes, prometheus
from tests.support.scraping import ask, free_port
from tests.support.web import event, make_source, signed
from tests.telemetry.test_processes import WEB, status
from tests.world import PATIENCE, World, eventually
from worker.config import Settings
from worker.database import Database
from worker.queue.broker import make_broker
from worker.web.app import make_app

OPS = Path(monitoring.__file__).parent
RULES = OPS / "rules.yaml"
RUNBOOK = (OPS.parent / "runbook.md").read_text(encoding="utf-8")
PAGE = (OPS.parent / "metrics.md").read_text(encoding="utf-8")
ALERTS = re.findall(r"^ +- alert: (\w+)$", RULES.read_text(encoding="utf-8"), re.MULTILINE)
QUERIES = {
    f"{board.uid}, {panel.title}": query.expr
    for board in BOARDS
    for _, panels in board.rows
    for panel in panels
    for query in panel.queries
}
NAME = re.compile(r"\bwithdrawals_\w+")


def test_the_dashboards_are_as_their_generator_writes_them() -> None:
    kept = {path: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.json")}
    assert kept == written(), "run `python -m ops.monitoring`"


def test_every_panel_has_a_query_and_says_what_it_shows() -> None:
    for path in FOLDER.glob("*.json"):
        for panel in json.loads(path.read_text(encoding="utf-8"))["panels"]:
            assert panel["type"] == "row" or (panel["description"] and panel["targets"]), (path, panel["title"])


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["check", "config", "prometheus.yaml"], id="valid"),
        pytest.param(["test", "rules", "rules_test.yaml"], id="fire", marks=pytest.mark.long),
    ],
)
def test_the_rules_are_valid_and_fire_when_they_should_and_only_then(arguments: list[str]) -> None:
    """In the suite: valid, all about metrics that exist, and each with a test in which it fires."""
    promtool = prometheus.program("promtool")
    done = subprocess.run([promtool, *arguments], cwd=OPS, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_a_test_in_which_it_fires() -> None:
    tested = re.findall(r'alertname="(\w+)"', (OPS / "rules_test.yaml").read_text(encoding="utf-8"))
    assert sorted(set(tested)) == sorted(ALERTS)


def test_every_alert_has_its_section_of_the_runbook_and_no_section_is_left_over() -> None:
    sections = dict(re.findall(r"^## (\w+)\n\n(.*?)(?=^## |\Z)", RUNBOOK, re.MULTILINE | re.DOTALL))
    assert sorted(sections) == sorted(ALERTS)
    for alert, text in sections.items():
        assert [*re.findall(r"^- \*\*(\w+):\*\*", text, re.MULTILINE)] == ["Meaning", "Look", "Act"], alert
    links = re.findall(r"runbook: ops/runbook.md#(\w+)", RULES.read_text(encoding="utf-8"))
    assert links == [alert.lower() for alert in ALERTS]


@contextmanager
def a_running_service() -> Iterator[dict[str, int]]:
    """Web, worker and relay as processes; the port on which each tells about itself, by its job in Prometheus."""
    ports = {job: free_port() for job in ("withdrawals-web", "withdrawals-worker", "withdrawals-relay")}
    web, worker, relay = ports.values()
    with ExitStack() as stack:
        stack.enter_context(processes.process(WEB, {"WITHDRAWALS_PORT": str(web)}))
        more = {"WITHDRAWALS_HEALTH_PORT": str(worker)}
        stack.enter_context(processes.process(processes.WORKER, more))
        stack.enter_context(processes.process(processes.RELAY, {"WITHDRAWALS_HEALTH_PORT": str(relay)}))
        for port in ports.values():
            eventually(lambda port=port: status(port, "/readyz") == 200, what=f"{ports}: {port} is ready")  # type: ignore[misc]
        yield ports


def use(port: int, db: Database, environment: Settings, world: World) -> None:
    """Give the service a little of everything to do."""
    world.enrolment("anna")
    secret = make_source(db, environment, world.organisation_id, "workday")
    body = json.dumps(event()).encode()
    address = f"http://127.0.0.1:{port}/hooks/hr/workday"
    for headers, answer in ((signed(secret, body), 202), (signed("whsec_" + "A" * 32, body), 401)):
        assert httpx2.post(address, content=body, headers=headers, timeout=PATIENCE).status_code == answer
    world.submit(db, [world.enrolment("ben"), world.enrolment("ben", pathway_id=world.pathway())])
    eventually(lambda: world.one("SELECT count(*) FROM withdrawals.outcomes") == 3)


def test_each_metric_that_is_named_anywhere_is_one_of_the_code(
    db: Database, environment: Settings, world: World
) -> None:
    world.relay_leads()
    app = make_app(db, make_broker(environment.broker_url.get_secret_value()), environment)
    with TestClient(app) as client:
        told = client.get("/metrics").text
    families = set(re.findall(r"^# TYPE (withdrawals_\w+)", told, re.MULTILINE))
    named = {name for text in (*QUERIES.values(), RULES.read_text(encoding="utf-8")) for name in NAME.findall(text)}
    assert {
        name for name in named if name not in families and re.sub(r"_(bucket|sum|count)$", "", name) not in families
    } == set()
    assert set(re.findall(r"^\| `(withdrawals_\w+)`", PAGE, re.MULTILINE)) == families, "ops/metrics.md"


@pytest.mark.long
def test_each_metric_that_is_named_anywhere_exists(db: Database, environment: Settings, world: World) -> None:
    """Small: the test above."""
    with a_running_service() as ports:
        use(ports["withdrawals-web"], db, environment, world)
        texts = [answer.text for port in ports.values() if (answer := ask(port, "/metrics")) is not None]
    exported = {name for text in texts for name in re.findall(r"^(withdrawals_\w+)", text, re.MULTILINE)}
    families = {re.sub(r"_(bucket|sum|count)$", "", name) for name in exported}
    named = {name for text in (*QUERIES.values(), RULES.read_text(encoding="utf-8")) for name in NAME.findall(text)}
    assert named - exported == set()
    assert set(re.findall(r"^\| `(withdrawals_\w+)`", PAGE, re.MULTILINE)) == families, "ops/metrics.md"
    labels = {
        name: {label for _, found in re.findall(rf"^{name}(_bucket)?\{{(.*)\}} ", "\n".join(texts), re.MULTILINE)
               for label in re.findall(r"(\w+)=", found)} - {"le", "pid"}
        for name in families
    }  # fmt: skip
    told = {
        name: {label for label in told.split(", ") if label}
        for name, told in re.findall(r"^\| `(withdrawals_\w+)` \| (.*?) \|", PAGE.replace("||", "| |"), re.MULTILINE)
    }
    assert told == labels, "the labels in ops/metrics.md"


@pytest.mark.long
def test_every_query_of_the_dashboards_has_data_and_what_dies_is_seen(
    db: Database, environment: Settings, world: World, servers: LocalServers, tmp_path: Path
) -> None:
    prometheus.program("prometheus")
    with a_running_service() as ports, prometheus.running(tmp_path, RULES, ports) as watching:
        use(ports["withdrawals-web"], db, environment, world)

        def empty() -> list[str]:
            return [name for name, expr in QUERIES.items() if not watching.query(expr.replace(RATE, "20s"))]

        eventually(lambda: not empty(), what="data for every panel")
        rules = watching.rules()
        assert sorted(rules) == sorted(ALERTS)
        lost = rules["WithdrawalsProcessLost"]
        assert watching.query(lost) == []

        for pid in _family("worker"):
            processes.kill(pid)
        eventually(lambda: watching.query(lost), what="the worker that was killed")
        assert watching.query(lost)[0]["metric"] == {"kind": "worker"}
        eventually(lambda: watching.query(rules["WithdrawalsTargetDown"]))
        for pid in _family("relay"):
            processes.kill(pid)
        eventually(lambda: watching.query(rules["WithdrawalsRelayGone"]), what="the leader that was killed")
        processes.kill_postgres(servers)
        try:
            eventually(lambda: watching.query(rules["WithdrawalsDatabaseDown"]), what="the database that was killed")
        finally:
            processes.start_postgres(servers)
        eventually(lambda: not watching.query(rules["WithdrawalsDatabaseDown"]))


def _family(command: str) -> list[int]:
    """The processes of a command that this test run started."""
    found: list[int] = []
    for pid in processes.family(os.getpid())[1:]:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        if words[:4] == [sys.executable.encode(), b"-m", b"ops", command.encode()]:
            found += processes.family(pid)
    assert found, signal.SIGKILL
    return found
