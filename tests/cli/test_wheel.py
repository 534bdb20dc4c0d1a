"""The wheels outside of the repository: what they hold, and that everything works from a foreign folder."""

import os
import signal
import socket
import subprocess
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx2
import pytest

from ops.local.servers import LocalServers
from tests.cli.test_package import pins
from tests.support import processes, wheels
from tests.support.wheels import Installed
from tests.world import World, eventually
from worker.config import Settings

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
        env=installed.environment(only=only), cwd=folder, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert (ran.returncode, ran.stdout) == (0, "not_required\n"), ran.stderr
    assert not only & {"sqlalchemy", "dramatiq", "fastapi"}


@pytest.mark.timeout(300)
def test_a_production_install_serves_from_a_foreign_folder_and_runs_nothing_of_it(
    installed: Installed, folder: Path, environment: Settings, world: World
) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    more = {"WITHDRAWALS_PORT": str(port), "WITHDRAWALS_PROCESSES": "1"}
    env = {**installed.environment(only=pins("production")), **more}
    completion = {"_WITHDRAWALS_COMPLETE": "source_bash"}  # a test has no shell to be detected by --show-completion
    for words, shell in ((["--version"], {}), (["migrate"], {}), ([], completion)):
        ran = subprocess.run(
            [installed.withdrawals, *words], env=env | shell, cwd=folder, capture_output=True, text=True, check=False
        )
        assert ran.returncode == 0, ran.stderr
    assert "_withdrawals_completion" in ran.stdout
    with subprocess.Popen([installed.withdrawals, "up"], env=env, cwd=folder, start_new_session=True) as up:
        try:
            with httpx2.Client(base_url=f"http://127.0.0.1:{port}") as client:

                def ready() -> bool:
                    with suppress(httpx2.TransportError):
                        return client.get("/readyz").status_code == 200
                    return False

                eventually(ready)
                for path in ("/openapi.json", "/console/sign-in", "/console/static/console.css"):
                    assert client.get(path).status_code == 200
            job = subprocess.run(
                [installed.withdrawals, "submit", str(world.enrolment()), "--reason", "not_required"],
                env=env, cwd=folder, capture_output=True, text=True, check=False,
            )  # fmt: skip
            assert job.returncode == 0, job.stderr
            eventually(lambda: world.one("SELECT state FROM withdrawals.jobs") == "completed")
            up.send_signal(signal.SIGINT)
            assert up.wait(60) == 0
        finally:
            for pid in processes.family(up.pid):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
    assert not list(folder.rglob("ran")), "nothing of the folder was run"


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Path]:
    """An empty folder; embedded servers that were started in it are removed."""
    yield tmp_path
    processes.erase(LocalServers(tmp_path / ".local/withdrawals"))


@pytest.mark.long
@pytest.mark.timeout(300)
def test_the_demo_works_from_an_empty_folder(
    installed: Installed, empty: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in list(os.environ):
        if name.startswith(("WITHDRAWALS_", "DATABASE_", "BROKER_")):
            monkeypatch.delenv(name)
    ran = subprocess.run(
        [installed.withdrawals, "demo", "brake"],
        env=installed.environment(only=pins("local")), cwd=empty, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert [path.name for path in empty.iterdir()] == [".local"]
