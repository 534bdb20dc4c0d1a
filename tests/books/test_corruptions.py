"""The books see everything: whatever is corrupted by hand is named with its rule and its row."""

from pathlib import Path

import pytest
from sqlalchemy import text

from tests.books.corruptions import ALL, Corruption
from worker.database import Database
from worker.ledger.books import RULES
from worker.ledger.books.rule import Severity
from worker.reports.books import check


@pytest.mark.parametrize("corruption", ALL, ids=lambda one: one.what)
def test_what_is_corrupted_is_named_with_its_rule_and_its_row(
    db: Database, owner: Database, corruption: Corruption
) -> None:
    with owner.begin() as connection:
        connection.execute(text("SET LOCAL session_replication_role = replica"))
        for statement in corruption.before:
            connection.execute(text(statement))
        subject = connection.scalar(text(corruption.statement))
    assert subject, "the world has such a row"
    books = check(db)
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
