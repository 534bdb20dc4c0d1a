"""Which persons' deactivations are due, found without reading all of them in every round.

A person whom the platform does not know stays due until it knows them, so such rows gather. What becomes due comes last
in the order of time and is found at once; the others are looked at again a slice a round.
"""

from sqlalchemy import Connection

from worker.ledger import due_deactivations
from worker.ledger.due_deactivations import DuePerson, Position

NEW, AGAIN = 5000, 1000
"""Persons that one round looks at: that have become due, and that the platform did not know."""
MOST = 500
"""Learners that one round makes inactive, each in a transaction of its own."""


class DueDeactivations:
    """How far the relay has looked; one a process."""

    def __init__(self) -> None:
        self._new: Position | None = None
        self._again: Position | None = None

    def list_known(self, connection: Connection) -> list[tuple[int, str]]:
        """Persons whose deactivation is due and whom the platform knows, as organisation and external id."""
        found, self._new = self._look(connection, self._new, NEW)
        if len(found) < MOST:
            known, last = self._look(connection, self._again, AGAIN)
            self._again = None if last == self._again else last  # at the end it begins again
            found += [person for person in known if person not in found]
        return found

    def _look(
        self, connection: Connection, after: Position | None, most: int
    ) -> tuple[list[tuple[int, str]], Position | None]:
        """The known ones among the next persons, and the last person that was looked at."""
        known: list[tuple[int, str]] = []
        for person in due_deactivations.list_due_deactivations(connection, after=after, limit=most):
            after = person.position
            if person.known:
                known.append(_key(person))
            if len(known) == MOST:
                break
        return known, after


def _key(person: DuePerson) -> tuple[int, str]:
    return person.position[1:]
