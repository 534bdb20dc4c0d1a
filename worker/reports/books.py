"""Do the books balance? Conservation and every invariant, from one consistent snapshot."""

from dataclasses import dataclass

from sqlalchemy import text

from worker.database import Database
from worker.ledger import books


@dataclass(frozen=True, slots=True)
class Books:
    """Both sides of the formula, and whatever breaks a rule."""

    totals: dict[str, int]
    violations: list[books.Violation]

    @property
    def clean(self) -> bool:
        """Whether nothing is lost and nothing counted twice."""
        right = self.totals["outcomes"] + self.totals["unfinished"] + self.totals["closed_whole"]
        return not self.violations and self.totals["accepted"] == right


def check(database: Database) -> Books:
    """Look at the books; takes no lock and writes nothing."""
    with database.engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection:
        connection.execute(text("SET LOCAL statement_timeout = 0"))
        return Books(books.totals(connection), books.violations(connection))
