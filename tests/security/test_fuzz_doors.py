"""Whatever somebody types into the console or on the command line, the answer is a page or a sentence, never a fault.

What is refused has changed nothing. `forms/` and `words/` keep what was interesting, such as inputs that once failed.
"""

import io
import json
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as budget
from hypothesis import strategies as st
from starlette.testclient import TestClient

from ops.cli import tree
from tests.security.estate import NOBODY_S, Estate, path_for
from tests.support.commandline import withdrawals
from tests.support.console import field_of
from tests.support.load import FULL
from tests.world import assert_balanced
from worker.web.console.app import ROUTERS
from worker.webhooks import safe_post

pytestmark = pytest.mark.timeout(900)

FOLDER = Path(__file__).parent
BUDGET = budget(
    max_examples=1000 if FULL else 25,
    database=None,
    deadline=None,
    phases=[Phase.explicit, Phase.generate, Phase.shrink],
    suppress_health_check=list(HealthCheck),
)
ENDLESS = {"demo", "up", "web", "worker", "relay", "migrate", "load", "doctor"}
"""Commands that run until they are stopped, or are no door to the service's work."""
WATCHES = {"watch"}
SKIPPED = {"help", "wait", "watch"}
"""Options that wait for workers; there are none."""
TYPED = (
    "", " ", "0", "1", "-1", "2", "1,2", "1,,x", "9" * 30, "9223372036854775807", str(NOBODY_S), "not_required",
    "user_deactivated", "withdrawn", "in_progress", "pathway_owned", "open", "brake", "hr", "admin", "correction",
    "bulk", "override", "keep", "cascade", "redrive", "assign", "discard", "2026-03-01", "2026-02-30", "0001-01-01",
    "2026-03-01T08:00:00Z", "2026-03-01T08:00", "9999-12-31", "9999-12-31T23:59:59-14:00", "25:00", "08:30", "NaN",
    "1e400", "0.5", "true", "yes", "on", "\x00", "%", "_", "'", "\\", "\u202e", "\U0001f600", "null", "{}", "[]",
    "x" * 300, "x" * 5000, "series_id=1", "status=in_progress", "learner_ids=anna,,", "held_because=brake", "ids=1,x",
    "a=b=c", "=", "--", "-x", "https://127.0.0.1:1/x", "https://example.com/", "http://[::1", "csv", "xlsx",
    "Europe/Berlin", "operator", "standard",
)  # fmt: skip


@pytest.fixture(autouse=True)
def nothing_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(safe_post, "post", lambda *_, **__: safe_post.Answer(status=204))


def _value(estate: Estate) -> st.SearchStrategy[str]:
    known = tuple(str(found) for found in estate.own.ids.values())
    free = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/"), max_size=6)
    return st.sampled_from((*known, *TYPED)) | free


@cache
def _kept(folder: str) -> tuple[Any, ...]:
    return tuple(json.loads(path.read_text(encoding="utf-8")) for path in sorted((FOLDER / folder).glob("*.json")))


def _fields(dependant: Dependant, method: str) -> set[str]:
    """The names that a page takes, itself and by what it depends on."""
    own = {field.alias for field in (dependant.body_params if method == "POST" else dependant.query_params)}
    return own.union(*(_fields(other, method) for other in dependant.dependencies))


def _pages() -> dict[str, tuple[str, ...]]:
    """Every page and form of the console, with the names of its fields."""
    found = {
        f"{method} {route.path}": tuple(sorted(_fields(route.dependant, method)))
        for router in ROUTERS
        for route in router.routes
        if isinstance(route, APIRoute)
        for method in route.methods or ()
    }
    return {page: found[page] for page in sorted(found) if "sign-" not in page and not page.endswith("/events")}


PAGES = _pages()


@pytest.fixture
def visit(client: TestClient, estate: Estate) -> Callable[[str, list[tuple[str, str]]], Any]:
    """Somebody signed in as an approver, who sends fields to a page."""
    assert client.post("/console/sign-in", data={"token": estate.token("approver")}).status_code == 303
    csrf = field_of(client.get("/console").text, "csrf")

    def send(page: str, fields: list[tuple[str, str]]) -> Any:
        method, path = page.split(" ")
        path = path_for(path, estate.own.ids)
        given: dict[str, list[str]] = {}
        for name, value in fields:
            given.setdefault(name, []).append(value)
        if method == "GET":
            return client.get(path, params=given)
        given.setdefault("csrf", [csrf])
        file = given.pop("file", None)
        return client.post(path, data=given, files={"file": ("ids.csv", file[0].encode())} if file else None)

    return send


def _is_a_page(estate: Estate, visit: Callable[..., Any], page: str, fields: list[tuple[str, str]]) -> None:
    before = estate.written()
    answer = visit(page, fields)
    assert answer.status_code < 500, (page, fields, answer.status_code, answer.text[:500])
    if answer.status_code >= 400:
        assert estate.written() == before, (page, fields, answer.status_code)


def test_whatever_is_typed_into_a_form_is_done_whole_or_explained(
    estate: Estate, visit: Callable[[str, list[tuple[str, str]]], Any]
) -> None:
    for kept in _kept("forms"):
        _is_a_page(estate, visit, kept["page"], [(name, value) for name, value in kept["fields"]])

    @st.composite
    def sent(draw: st.DrawFn) -> tuple[str, list[tuple[str, str]]]:
        page = draw(st.sampled_from(tuple(PAGES)))
        names = st.sampled_from(PAGES[page] or ("x",))
        return page, draw(st.lists(st.tuples(names, _value(estate)), max_size=6))

    @BUDGET
    @given(sent())
    def each(sent: tuple[str, list[tuple[str, str]]]) -> None:
        _is_a_page(estate, visit, *sent)

    each()
    assert_balanced(estate.db)


def _commands(group: Any = None, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command that ends by itself, with its parameters."""
    for name in tree.NAMES if group is None else group.commands:
        command = tree._load(name) if group is None else group.commands[name]
        if hasattr(command, "commands"):
            yield from _commands(command, (*words, name))
        elif name not in ENDLESS | WATCHES:
            yield (*words, name), command


COMMANDS = dict(_commands())


@st.composite
def _words(draw: st.DrawFn, estate: Estate, files: tuple[str, ...]) -> tuple[str, ...]:
    """A command with some of its options and arguments; files are those of the test alone."""
    name = draw(st.sampled_from(tuple(COMMANDS)))
    words = list(name)
    for parameter in COMMANDS[name].params:
        wanted = draw(st.integers(0, 9)) < (9 if parameter.required else 3)
        if not wanted or parameter.name in SKIPPED:
            continue
        value = draw(
            st.sampled_from(files) if "file" in parameter.name or parameter.name == "output" else _value(estate)
        )
        if parameter.param_type_name == "argument":
            words.append(value)
        else:
            words += [parameter.opts[0]] if parameter.is_flag else [parameter.opts[0], value]
    return tuple(words)


def _is_a_sentence(estate: Estate, words: tuple[str, ...]) -> None:
    before = estate.written()
    with mock.patch.object(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"enrolment_id\n1\n"))):
        ran = withdrawals(*words)
    assert ran.code in (0, 1, 2), (words, ran)
    assert "fingerprint " not in ran.err, (words, ran.err)  # an error that nobody expected
    if ran.code == 2:
        assert estate.written() == before, (words, ran.err)


def test_whatever_is_typed_on_the_command_line_is_done_whole_or_explained(
    estate: Estate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    contents = {"ids.csv": b"enrolment_id\n1\n2\n", "bad.csv": b"enrolment_id\n1\nx\n", "raw.csv": b"\xff\xfe\x00"}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    for kept in _kept("words"):
        _is_a_sentence(estate, tuple(kept))

    @BUDGET
    @given(_words(estate, (*contents, "absent.csv", "out.csv", "out.xlsx")))
    def each(words: tuple[str, ...]) -> None:
        _is_a_sentence(estate, words)

    each()
    assert_balanced(estate.db)


def test_the_kept_inputs_name_pages_and_commands_that_exist() -> None:
    assert {kept["page"] for kept in _kept("forms")} <= set(PAGES)
    assert {kept[0] for kept in _kept("words")} <= set(tree.NAMES)
