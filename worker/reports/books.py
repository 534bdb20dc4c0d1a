"""The books: does the conservation formula hold, and every invariant? Read from one consistent snapshot."""

from dataclasses import dataclass

from sqlalchemy import text

from worker.database import Database
from worker.ledger import books
from worker.ledger.books import Violation


@dataclass(frozen=True, slots=True)
class Books:
    """Both sides of the formula, and whatever breaks a rule."""

    totals: dict[str, int]
    violations: list[Violation]

    @property
    def clean(self) -> bool:
        """Whether nothing is lost and nothing is counted twice."""
        accounted = self.totals["outcomes"] + self.totals["unfinished"] + self.totals["closed_whole"]
        return not self.violations and self.totals["accepted"] == accounted


def check(database: Database) -> Books:
    """Check the books. Takes no lock and writes nothing."""
    with database.engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection:
        connection.execute(text("SET LOCAL statement_timeout = 0"))
        return Books(books.totals(connection), books.violations(connection))
