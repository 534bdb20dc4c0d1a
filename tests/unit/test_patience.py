"""No test fails because a machine was slow: each says for how long it waits for an answer."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
ASKS = {"Client", "AsyncClient", "request", "stream", "get", "head", "options", "post", "put", "patch", "delete"}


def _without_limit(path: Path) -> Iterator[int]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and isinstance(node.func.value, ast.Name)
            and node.func.value.id == "httpx2"
            and node.func.attr in ASKS
            and "timeout" not in {keyword.arg for keyword in node.keywords}
        ):
            yield node.lineno


def test_every_request_of_a_test_says_how_long_it_waits() -> None:
    assert not [f"{path.relative_to(TESTS)}:{line}" for path in TESTS.rglob("*.py") for line in _without_limit(path)]


@pytest.mark.parametrize(
    ("source", "lines"), [("httpx2.get(url)", [1]), ("httpx2.get(url, timeout=60)", []), ("httpx2.Client()", [1])]
)
def test_a_request_without_a_limit_is_found(tmp_path: Path, source: str, lines: list[int]) -> None:
    (tmp_path / "asks.py").write_text(source)
    assert list(_without_limit(tmp_path / "asks.py")) == lines
