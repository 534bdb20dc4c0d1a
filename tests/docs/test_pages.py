"""The documentation: the site builds without a warning, the reference is current, and its commands work."""

import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx2
import pytest
from typer.core import TyperGroup
from typer.main import get_command

from ops.cli.app import app
from ops.cli.tree import NAMES
from ops.docs.reference import FOLDER, pages
from tests.support.cli_server import quick_commands
from tests.support.pages import blocks
from tests.support.processes import RELAY, WORKER, process
from tests.support.scraping import free_port
from tests.world import PATIENCE, eventually
from worker.config import Settings

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
FIRST = [DOCS / "tutorial.md"]
PAGES = [*FIRST, *sorted({*DOCS.glob("**/*.md"), ROOT / "ops" / "deploy" / "README.md"} - {*FIRST})]
REPOSITORY = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "ops").glob("*.md"))]
"""Pages that are read in the repository."""
ADDRESS = "127.0.0.1:8000"
"""Where the pages say that the service listens."""
COMMAND = re.compile(r"""(?<![\w/.-])withdrawals +((?:"[^"]*"|'[^']*'|[^"'|;&<>)\n])+)""")
PAGE_SECONDS = 300.0
ATTENTION = "\necho 'page: line {line}' >&2\n"


def test_the_reference_is_made_from_the_code() -> None:
    made = pages()
    for words in ("check", "jobs show", "person erase"):
        assert f"\n## withdrawals {words}\n" in made["cli.md"], "commands are loaded when they are asked for"
    assert {path.name for path in FOLDER.iterdir()} == made.keys()
    stale = [name for name, text in made.items() if (FOLDER / name).read_text(encoding="utf-8") != text]
    assert stale == [], "run `python -m ops.docs`"
    assert "## withdrawals protection lift" in made["cli.md"], "the tree loads a command when it is asked for"


def test_the_reference_has_every_word_of_the_command_line() -> None:
    page = (FOLDER / "cli.md").read_text(encoding="utf-8")
    assert [name for name in NAMES if f"## withdrawals {name}" not in page] == []


@pytest.mark.long
def test_the_site_builds_without_a_warning_and_fetches_nothing(tmp_path: Path) -> None:
    """Small: the tests of links and of generated pages."""
    subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", tmp_path],
        cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, check=True, capture_output=True, timeout=600,
    )  # fmt: skip
    shown = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert "fonts.googleapis" not in shown
    assert (tmp_path / "repository" / "ops" / "pooler.html").exists()
    unread = "<code>bash data-not-run"  # what a block looks like whose info string Material does not understand
    assert not [page for page in tmp_path.rglob("*.html") if unread in page.read_text(encoding="utf-8")]


def test_every_page_of_the_documentation_is_in_the_navigation() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert [path for path in DOCS.glob("**/*.md") if path.relative_to(DOCS).as_posix() not in navigation] == []


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "pages",
    [
        pytest.param(FIRST, id="tutorial", marks=pytest.mark.long),
        pytest.param(PAGES, id="docs", marks=pytest.mark.long),
        pytest.param(REPOSITORY, id="repository", marks=pytest.mark.long),
    ],
)
def test_every_command_block_of_the_pages_runs(environment: Settings, tmp_path: Path, pages: list[Path]) -> None:
    """One environment for all pages, the tutorial or README first: it loads the enrolments that the others name.

    Small: the test below.
    """
    (tmp_path / "withdrawals_client").symlink_to(ROOT / "schemas")
    port = free_port()
    web = {"WITHDRAWALS_PORT": str(port), "WITHDRAWALS_WEB_CONNECTIONS": "2"}
    address = f"http://127.0.0.1:{port}"
    programs = tmp_path / "programs"
    programs.mkdir()
    with (
        process([sys.executable, "-m", "ops", "web"], web),
        process(WORKER),
        process(RELAY),
        quick_commands(programs),
    ):
        eventually(lambda: _answers(f"{address}/healthz"))
        for page in pages:
            _run(page, _shell(tmp_path, programs), address.removeprefix("http://"))


def test_every_command_of_the_pages_exists_with_its_options() -> None:
    shown = [
        (page.name, line)
        for page in (*PAGES, *REPOSITORY)
        for block in blocks(page)
        if block.reason is None
        for line in COMMAND.findall(block.commands.replace("\\\n", " ").replace("$(", "\n"))
    ]
    assert [(page, line) for page, line in shown if not _exists(shlex.split(line, comments=True))] == []
    assert len(shown) > 100


def test_every_block_that_is_not_run_says_why() -> None:
    found = [block for page in (*PAGES, *REPOSITORY) for block in blocks(page)]
    assert sum(block.reason is None for block in found) > len(found) / 2
    assert all(len(block.reason) > 10 for block in found if block.reason is not None)


def _exists(words: list[str]) -> bool:
    """Whether the words name a command, and options that it has."""
    found: Any = get_command(app)
    while isinstance(found, TyperGroup) and words and not words[0].startswith("-"):
        found = found.get_command(None, words.pop(0))  # type: ignore[arg-type] # ours look at the name alone
    if found is None:
        return False
    known = {name for parameter in found.params for name in (*parameter.opts, *parameter.secondary_opts)}
    return {word.partition("=")[0] for word in words if re.match("--?[a-z]", word)} <= {*known, "--help", "--version"}


def _run(page: Path, shell: dict[str, str], address: str) -> None:
    wanted = [block for block in blocks(page) if block.reason is None]
    script = "set -euo pipefail\n" + "".join(ATTENTION.format(line=one.line) + one.commands for one in wanted)
    folder = Path(shell["HOME"]) / page.stem
    folder.mkdir()
    (folder / "ops").symlink_to(ROOT / "ops")
    said = folder / "said.txt"
    with said.open("wb") as file:
        running = subprocess.Popen(
            ["/bin/bash", "-c", script.replace(ADDRESS, address)],
            env=shell, cwd=folder, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True,
        )  # fmt: skip
        try:
            code = running.wait(PAGE_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(running.pid, signal.SIGKILL)
            code = running.wait()
    assert code == 0, f"{page.name}, exit code {code}: {said.read_text(encoding='utf-8')[-3000:]}"


def _shell(home: Path, programs: Path) -> dict[str, str]:
    python = Path(sys.executable).parent
    postgres = next((python.parent / "lib").glob("python*/site-packages/*pgserver/pginstall*/bin"))
    path = os.pathsep.join([str(programs), str(python), str(postgres), os.environ["PATH"]])
    return {**os.environ, "PATH": path, "HOME": str(home), "PYTHONPATH": f"{home}{os.pathsep}{ROOT}", "USER": "docs"}


def _answers(url: str) -> bool:
    try:
        return httpx2.get(url, timeout=PATIENCE).is_success
    except httpx2.TransportError:
        return False
