"""What is due, for whoever wakes workers: all of it asked in one round trip, because it is asked every second."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from worker.database import BY_INDEX
from worker.ledger import claims, inbox_sets, lookups, notification_messages, webhook_batches, webhook_deliveries
from worker.ledger.fragments import planned
from worker.ledger.processes import THREADS
from worker.one_message import Part, Step, at_once, is_true


@dataclass(frozen=True, slots=True)
class DueWork:
    """What is due now."""

    drains: int
    """Claims that the due chunks make, and inboxes of organisations; no more than there are threads."""
    requests: bool
    """Whether webhooks or look-ups in HR systems are due."""
    messages: bool
    """Whether notifications are due."""


_MOST = f"(SELECT greatest(({THREADS}), 1))"  # at least one: a hint waits for the first worker to start
_CLAIMS = Step("claims_due", f"SELECT {_MOST}, ({claims.COUNT_CLAIMS})".replace(":most", _MOST))
_INBOXES = Step("inboxes_due", inbox_sets.DUE.text.replace("CAST(:most AS integer)", _MOST))
_REQUESTS = (webhook_deliveries.ANY_DUE, webhook_batches.ANY_DUE, lookups.ANY_DUE)


def find(connection: Connection, *questions: Part, budget: int) -> tuple[DueWork, list[bool]]:
    """What is due, on a connection where each statement commits itself, and the answers to questions beside it.

    Wakes the chunks whose time has come. `budget`: the ids of one claim.
    """
    first = (*planned(connection, BY_INDEX), (claims.WAKE, {"most": claims.MOST_WOKEN}))
    own = [(step, dict[str, Any]()) for step in (_INBOXES, *_REQUESTS, notification_messages.ANY_DUE)]
    found = at_once(connection, *first, (_CLAIMS, {"budget": budget}), *own, *questions)[len(first) :]
    due_claims, inboxes, deliveries, batches, looked_up, messages, *answers = found
    ((threads, waiting),) = due_claims
    due = DueWork(
        min(int(waiting) + len(inboxes), threads),
        any(map(is_true, (deliveries, batches, looked_up))),
        is_true(messages),
    )
    return due, [is_true(rows) for rows in answers]
