"""What the decisions of several small chunks in one message have in common: their locks, what they write, their answer.

Each statement of a message has a snapshot of its own, so what is decided is read after the last lock, as `decide.py`
does it in several round trips. The locks are in the order that holds everywhere. What was locked is left in settings of
the transaction: what has come since is not decided.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from worker.ledger.fragments import ASKED_AT, IS_PROTECTED, read_sql, sql_list
from worker.records import Asked, Decided
from worker.rules import ACTIVE, ENDED, WITHDRAWN

IDS = "CAST(:ids AS bigint[])"
OWN = f"c.id = ANY({IDS}) AND c.token = CAST(:token AS uuid) AND c.state = 'claimed'"
"""Whether a chunk `c` is still the claim's own."""
ENROLMENTS = "withdrawals.enrolments"
"""The setting that has the enrolments that were locked."""


def leave(name: str) -> str:
    """The beginning of a statement that leaves the ids of its rows `locked` in a setting."""
    return f"SELECT set_config('{name}', '{{' || coalesce(string_agg(locked.id::text, ','), '') || '}}', true)"


def left(name: str) -> str:
    """The ids that an earlier statement has left in a setting."""
    return f"CAST(current_setting('{name}') AS bigint[])"


def read_decision(name: str, **values: str) -> str:
    """The statement in the file `name`, which decides, with the end that writes what was decided."""
    values |= {"withdrawn": WITHDRAWN, "active": sql_list(ACTIVE), "ended": sql_list(ENDED)}
    values |= {"own": OWN, "asked_at": ASKED_AT, "is_protected": IS_PROTECTED, "enrolments": left(ENROLMENTS)}
    return read_sql(name, **values) + read_sql("decide_at_once.sql", **values)


@dataclass(frozen=True, slots=True)
class DecidedAtOnce:
    """The chunks of a claim that had nothing special in them."""

    decided: list[Decided] = field(default_factory=list)
    asked: dict[int, Asked] = field(default_factory=dict)
    finished: list[tuple[int, str]] = field(default_factory=list)
    """Their jobs that have ended with them, with their state."""

    @classmethod
    def of(cls, rows: Iterable[Any]) -> "DecidedAtOnce":
        """What the statement of `read_decision` has returned."""
        found = cls()
        for row in rows:
            found._add(*row[:-1])
        return found

    def _add(
        self,
        chunk_id: int,
        job_id: int,
        counts: dict[str, int],
        lane: int,
        waited: timedelta,
        request_id: str | None,
        ended_as: str | None,
    ) -> None:
        self.decided.append(Decided(chunk_id, job_id, counts))
        self.asked[chunk_id] = Asked(lane, waited, request_id)
        if ended_as is not None:
            self.finished.append((job_id, ended_as))
