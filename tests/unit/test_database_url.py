"""`DATABASE_URL` as libpq has it: one server or several, and no secret in what is said of a wrong one."""

from typing import Any

import pytest

from worker.database_urls import parse_url
from worker.errors import SettingsError

USUAL = {"user": "u", "dbname": "db"}
ONE = {**USUAL, "host": "h"}
TWO = {**USUAL, "host": "h1,h2", "target_session_attrs": "read-write"}


@pytest.mark.parametrize(
    ("url", "parameters"),
    [
        ("postgresql://u@h/db", ONE),
        ("postgresql+psycopg://u@h/db", ONE),
        ("postgresql://u:p%40w@h:5/db?sslmode=require", {**ONE, "password": "p@w", "port": "5", "sslmode": "require"}),
        ("postgresql://u:a/b@h/db", {**ONE, "password": "a/b"}),
        ("postgresql://u@[::1]:5/db", {**USUAL, "host": "::1", "port": "5"}),
        ("postgresql://u@/db?host=/run/x&port=5432", {**USUAL, "host": "/run/x", "port": "5432"}),
        ("postgresql://u@h1:5432,h2:5433/db", {**TWO, "port": "5432,5433"}),
        ("postgresql://u@h1,h2/db", TWO),
        ("postgresql://u@%2Frun%2Fa:1,%2Frun%2Fb:2/db", {**TWO, "host": "/run/a,/run/b", "port": "1,2"}),
        ("postgresql://u@/db?host=h1,h2&port=1,2", {**TWO, "port": "1,2"}),
        ("postgresql://u@h1:1,h2:2/db?target_session_attrs=any", {**TWO, "port": "1,2", "target_session_attrs": "any"}),
    ],
)  # fmt: skip
def test_a_url_names_one_server_or_several(url: str, parameters: dict[str, Any]) -> None:
    assert {name: str(value) for name, value in parse_url(url).items()} == parameters


@pytest.mark.parametrize(
    "url",
    ["", "hunter2", "mysql://u:hunter2@h/db", "postgresql://u:hunter2@h1:1,h2:2/db?hunter2=1", "postgres:hunter2"],
)
def test_a_wrong_url_is_refused_without_being_quoted(url: str) -> None:
    with pytest.raises(SettingsError, match=r"^DATABASE_URL: ") as refused:
        parse_url(url)
    assert "hunter2" not in str(refused.value)
    assert refused.value.__cause__ is None
