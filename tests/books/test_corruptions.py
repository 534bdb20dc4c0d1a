"""The books see everything: whatever is corrupted by hand is named with its rule and its row."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import pytest
import sqlalchemy
from sqlalchemy import Connection, text

from ops.local.servers import LocalServers
from tests.books.corruptions import ALL, Corruption
from tests.support.databases import Databases
from worker.config import Settings
from worker.database import Database
from worker.ledger.books import RULES
from worker.ledger.books.rule import Severity
from worker.reports import books as books_of_reports
from worker.reports.books import check


@pytest.fixture(scope="module")
def session(servers: LocalServers, databases: Databases) -> Iterator[Connection]:
    """The owner's session with a database for all corruptions: none of them is committed."""
    name = databases.take()
    url = sqlalchemy.make_url(servers.database_url).set(database=name, drivername="postgresql+psycopg")
    engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)
    with engine.connect() as connection:
        yield connection
    databases.give_back(name)


@pytest.fixture
def read_in_place(session: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the books be read in the transaction that has corrupted them."""

    @contextmanager
    def same(_: Database) -> Iterator[Connection]:
        yield session

    monkeypatch.setattr(books_of_reports, "_snapshot", same)
    monkeypatch.setattr(books_of_reports, "settings", Settings)


@pytest.mark.parametrize("corruption", ALL, ids=lambda one: one.what)
def test_what_is_corrupted_is_named_with_its_rule_and_its_row(
    session: Connection, read_in_place: None, corruption: Corruption
) -> None:
    transaction = session.begin()
    try:
        session.execute(text("SET LOCAL session_replication_role = replica"))
        for statement in corruption.before:
            session.execute(text(statement))
        subject = session.scalar(text(corruption.statement))
        assert subject, "the world has such a row"
        books = check(cast(Database, session))
    finally:
        transaction.rollback()
    is_warning = RULES[corruption.rule].severity is Severity.WARNING
    found = [one.subject for one in (books.warnings if is_warning else books.violations) if one.rule == corruption.rule]
    assert any(one.startswith(subject) for one in found), (subject, books)
    if not is_warning:
        assert not books.clean


def test_every_rule_has_a_corruption_that_it_finds() -> None:
    assert {corruption.rule for corruption in ALL} == RULES.keys()


def test_the_page_about_the_books_lists_every_rule_as_the_code_has_it() -> None:
    page = Path("ops/books.md").read_text(encoding="utf-8")
    listed = [line for line in page.splitlines() if line.startswith("| `")]
    assert listed == [
        f"| `{rule.code}` | {rule.severity} | {rule.meaning} | {rule.advice} |" for rule in RULES.values()
    ]
