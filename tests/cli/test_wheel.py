"""The wheels outside of the repository: what they hold, and that everything works from a foreign folder."""

import json
import os
import re
import secrets
import signal
import subprocess
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import pytest
import redis
import sqlalchemy

from ops.local.servers import LocalServers
from tests.cli.test_package import pins
from tests.schema.test_rights import Site, empty, parts, site
from tests.support import processes, wheels
from tests.support.scraping import free_port
from tests.support.web import signed
from tests.support.wheels import Installed
from tests.world import PATIENCE, World, eventually
from worker.config import Settings

__all__ = ["empty", "site"]
HOSTILE = "import pathlib, sys; pathlib.Path(__file__).with_name('ran').touch(); sys.exit('a stranger')\n"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """Both wheels, in an environment without the repository."""
    return wheels.install(tmp_path_factory.mktemp("installed"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of somebody else, with the same names as ours."""
    for name in ("ops", "worker", "schemas", "dramatiq"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(HOSTILE, encoding="utf-8")
    (tmp_path / "Procfile").write_text("web: touch ran\n", encoding="utf-8")
    return tmp_path


def test_a_wheel_puts_only_its_own_name_beside_other_packages(installed: Installed) -> None:
    names = {}
    for wheel in installed.wheels:
        packed = zipfile.ZipFile(wheel).namelist()
        names[wheel.name.partition("-")[0]] = {name.partition("/")[0] for name in packed if ".dist-info" not in name}
        assert not [name for name in packed if name.endswith((".png", ".lock")) or "/bench/" in name]
    assert names == {"withdrawals": {"withdrawals"}, "withdrawals_client": {"withdrawals_client"}}


def test_the_client_works_without_the_service_and_its_dependencies(installed: Installed, folder: Path) -> None:
    program = (
        "from withdrawals_client.client import Client\n"
        "from withdrawals_client.jobs import JobRequest\n"
        "Client('http://127.0.0.1:1', 'token').close()\n"
        "print(JobRequest(reason='not_required', enrolment_ids=[1]).reason)\n"
        "import importlib.util\n"
        "assert not any(map(importlib.util.find_spec, ['ops', 'worker', 'schemas']))\n"
    )
    only = wheels.needed_by("httpx2", "pydantic", "tenacity")
    ran = subprocess.run(
        [installed.python, "-P", "-c", program],
        env=installed.environment(only=only), cwd=folder, capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip
    assert (ran.returncode, ran.stdout) == (0, "not_required\n"), ran.stderr
    assert not only & {"sqlalchemy", "dramatiq", "fastapi"}


@pytest.mark.parametrize("command", ["web", pytest.param("up", marks=pytest.mark.long)])
def test_a_production_install_serves_from_a_foreign_folder_and_runs_nothing_of_it(
    installed: Installed, folder: Path, environment: Settings, world: World, command: str
) -> None:
    """In the suite one process of three; tests/cli/test_without_servers.py runs `up`."""
    port = free_port()
    more = {"WITHDRAWALS_PORT": str(port), "WITHDRAWALS_PROCESSES": "1"}
    env = {**installed.environment(only=pins("production")), **more}
    completion = {"_WITHDRAWALS_COMPLETE": "source_bash"}  # a test has no shell to be detected by --show-completion
    for words, shell in ((["--version"], {}), (["migrate"], {}), ([], completion)):
        ran = subprocess.run(
            [installed.withdrawals, *words], env=env | shell, cwd=folder, capture_output=True, text=True, check=False
        )
        assert ran.returncode == 0, ran.stderr
    assert "_withdrawals_completion" in ran.stdout
    with subprocess.Popen([installed.withdrawals, command], env=env, cwd=folder, start_new_session=True) as up:
        try:
            with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE) as client:

                def ready() -> bool:
                    with suppress(httpx2.TransportError):
                        return client.get("/readyz" if command == "up" else "/healthz").status_code == 200
                    return False

                eventually(ready)
                for path in ("/openapi.json", "/console/sign-in", "/console/static/console.css"):
                    assert client.get(path).status_code == 200
            job = subprocess.run(
                [installed.withdrawals, "submit", str(world.enrolment()), "--reason", "not_required"],
                env=env, cwd=folder, capture_output=True, text=True, check=False,
            )  # fmt: skip
            assert job.returncode == 0, job.stderr
            if command == "up":
                eventually(lambda: world.one("SELECT state FROM withdrawals.jobs") == "completed")
            up.send_signal(signal.SIGINT)
            assert up.wait(PATIENCE) == 0
        finally:
            for pid in processes.family(up.pid):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
    assert not list(folder.rglob("ran")), "nothing of the folder was run"


@pytest.fixture
def empty_folder(tmp_path: Path) -> Iterator[Path]:
    """An empty folder; embedded servers that were started in it are removed."""
    yield tmp_path
    processes.erase(LocalServers(tmp_path / ".local/withdrawals"))


@pytest.mark.long
def test_the_demo_works_from_an_empty_folder(
    installed: Installed, empty_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in list(os.environ):
        if name.startswith(("WITHDRAWALS_", "DATABASE_", "BROKER_")):
            monkeypatch.delenv(name)
    ran = subprocess.run(
        [installed.withdrawals, "demo", "brake"],
        env=installed.environment(only=pins("local")), cwd=empty_folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert [path.name for path in empty_folder.iterdir()] == [".local"]


REDIS_RULES = re.compile(r"^ *ACL SETUSER (?P<words>.+)$", re.MULTILINE)


@pytest.mark.long
def test_an_installation_by_the_docs_needs_neither_a_superuser_nor_all_of_redis(
    installed: Installed, site: Site, environment: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """docs/operations/install.md, step by step: logins of a DBA's making, an ACL user, an event in, its withdrawal."""
    port = free_port()
    server = redis.Redis.from_url(environment.broker_url.get_secret_value())
    address = f"http://127.0.0.1:{port}"
    env = {
        **installed.environment(only=pins("production")),
        "DATABASE_URL": site.url(site.login), "DATABASE_DIRECT_URL": site.url(site.owner),
        "BROKER_URL": acl_user(server, environment), "WITHDRAWALS_SECRET_KEY": secrets.token_urlsafe(32),
        "WITHDRAWALS_PORT": str(port), "WITHDRAWALS_PROCESSES": "1", "WITHDRAWALS_BRAKE_FLOOR": "100",
        "WITHDRAWALS_REFUSAL_LIMIT": "2",
    }  # fmt: skip

    def run(*words: str) -> str:
        ran = subprocess.run(
            [installed.withdrawals, *words], env=env, cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert ran.returncode == 0, (words, ran.stdout, ran.stderr)
        return ran.stdout

    superuser, database_owner, platform, owner = parts(site)
    site.run(*superuser)
    site.run(*database_owner, as_=site.database_owner)
    site.run(*platform, as_=site.platform)
    run("migrate", "--no-grants")
    site.run(*owner, as_=site.owner)
    site.run(
        "INSERT INTO lms.organisations (name) VALUES ('Acme')",
        "INSERT INTO lms.learners (organisation_id, external_id) VALUES (1, 'anna')",
        "INSERT INTO lms.series (organisation_id, code, title) VALUES (1, 'FIRE', 'Fire safety')",
        "INSERT INTO lms.enrolments (organisation_id, learner_id, series_id, status) VALUES (1, 1, 1, 'in_progress')",
        as_=site.platform,
    )
    env["DATABASE_DIRECT_URL"] = site.url(site.login)
    run("tokens", "create", "--name", "first-approver", "--role", "approver", "--organisation", "Acme")
    source = json.loads(run("sources", "create", "--name", "payroll", "--kind", "standard", "--json"))
    running = [
        subprocess.Popen([installed.withdrawals, name], env=env, cwd=tmp_path, start_new_session=True)
        for name in ("web", "worker", "relay")
    ]
    try:
        eventually(lambda: answers(f"{address}/readyz"), what="web is ready")
        guessed = {"Authorization": "Bearer wrong"}
        answered = [httpx2.get(f"{address}/v1/jobs", headers=guessed, timeout=PATIENCE).status_code for _ in range(3)]
        assert answered == [401, 401, 429], "refused requests are counted in Redis"
        body = json.dumps({
            "type": "user.deactivated", "timestamp": datetime.now(UTC).isoformat(), "data": {"external_id": "anna"},
        }).encode()  # fmt: skip
        sent = httpx2.post(
            f"{address}/hooks/hr/{source['id']}", content=body, headers=signed(source["secret"], body), timeout=PATIENCE
        )
        assert sent.status_code == 202, sent.text
        done = sqlalchemy.text("""SELECT true FROM lms.enrolments e, withdrawals.jobs j
            WHERE e.status = 'withdrawn' AND j.state = 'completed'""")
        with site.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            eventually(lambda: connection.execute(done).scalar(), what="the withdrawal")
        levels = {(item["what"], item["level"]) for item in json.loads(run("doctor", "--json"))["items"]}
        assert {("session", "ok"), ("broker", "ok"), ("relay", "ok"), ("worker", "ok")} <= levels
        run("check")
    finally:
        for one in running:
            one.send_signal(signal.SIGTERM)
        for one in running:
            one.wait(PATIENCE)
    refused = [(entry["object"], entry["context"]) for entry in server.acl_log()]
    assert refused == [], "what the page grants is enough"


def acl_user(server: "redis.Redis", environment: Settings) -> str:
    """Make the Redis user of docs/operations/least-privilege.md; its address."""
    page = (wheels.ROOT / "docs/operations/least-privilege.md").read_text(encoding="utf-8")
    words = REDIS_RULES.search(page)
    assert words is not None
    rules = words["words"].replace("PASSWORD", "secret").split()
    server.acl_log_reset()
    server.execute_command("ACL", "SETUSER", *rules)  # type: ignore[no-untyped-call]
    url = urlsplit(environment.broker_url.get_secret_value())
    return url._replace(netloc=f"withdrawals:secret@{url.netloc}").geturl()


def answers(url: str) -> bool:
    with suppress(httpx2.TransportError):
        return httpx2.get(url, timeout=PATIENCE).is_success
    return False
