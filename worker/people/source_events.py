"""What an HR source has sent, and a test of the way that its events take."""

from collections.abc import Sequence
from datetime import datetime
from uuid import uuid4

from worker.config import Settings
from worker.database import Database
from worker.errors import ConflictError, NotFoundError
from worker.ledger import audit_log, jobs
from worker.ledger import hr_sources as ledger
from worker.ledger import inbox as receipts
from worker.ledger.hr_sources import RegisteredSource
from worker.ledger.inbox import ShownReceipt
from worker.people import hr_sources, inbox, source_secrets
from worker.people.inbox import IncomingEvent
from worker.texts import text

TEST = "test-"
"""The id of a test begins so."""
_LOOKED_THROUGH = 1000
"""Acts on sources, the newest."""


def list_latest(database: Database, *, organisation_id: int, source_id: int, limit: int = 20) -> list[ShownReceipt]:
    """The newest events of a source, among the last 20,000 of the service.

    Raises:
        NotFoundError: there is no such source in this organisation.
    """
    source = hr_sources.find(database, organisation_id, source_id)
    with database.begin() as connection:
        return receipts.list_latest(connection, organisation_id, f"hr:{source.name}", limit=limit)


def find_unknown_learners(database: Database, *, organisation_id: int, events: Sequence[ShownReceipt]) -> set[int]:
    """The jobs of these events that are about a learner whom the platform does not know."""
    jobs_of = [one.job_id for one in events if one.job_id is not None]
    if not jobs_of:
        return set()
    with database.begin() as connection:
        return receipts.find_unknown_learners(connection, organisation_id, jobs_of)


def list_not_understood(database: Database, *, organisation_id: int, sources: Sequence[RegisteredSource]) -> list[int]:
    """Which of these sources were heard, and sent nothing that was understood, among the service's last 20,000 events.

    Only a sender of Standard Webhooks names the type in words that are this service's own.
    """
    doors = {f"hr:{one.name}": one.id for one in sources if one.kind == "standard" and one.disabled_at is None}
    if not doors:
        return []
    with database.begin() as connection:
        found = receipts.list_not_understood(connection, organisation_id, list(doors), test=TEST)
    return [doors[door] for door in found]


def list_tested(database: Database, *, organisation_id: int) -> dict[int, datetime]:
    """By source: when its last test was taken in, as far back as the record of changes goes that is looked through."""
    with database.begin() as connection:
        acts = audit_log.list_settings_acts(connection, organisation_id, "source", limit=_LOOKED_THROUGH)
    found: dict[int, datetime] = {}
    for act in acts:
        if act.action == "source.test":
            found.setdefault(act.detail["id"], act.at)
    return found


def send_test(
    database: Database, settings: Settings, *, organisation_id: int, source_id: int, actor: str
) -> ShownReceipt:
    """Take in a test event as if the source had sent it; it is about nobody, so it is stored and ignored.

    It shows that the secret can be opened and that events are stored. Whether the HR system has the same secret shows
    the first event that it sends.

    Raises:
        NotFoundError: there is no such live source in this organisation.
        ConflictError: no key that is set opens the secret.
    """
    source = hr_sources.find(database, organisation_id, source_id)
    with database.begin() as connection:
        live = ledger.find_by_id(connection, source.kind, source.id)
    if not live:
        raise NotFoundError(text("there is no live source {source_id} in this organisation", source_id=source_id))
    if source_secrets.source_seal(settings).open(live[0][1][0]) is None:
        raise ConflictError(
            text(
                "no key in WITHDRAWALS_SECRET_KEY opens this source's secret, so each of its events is refused. "
                "Put the key back that sealed it, or replace the secret."
            )
        )
    stored = inbox.receive(database, source, IncomingEvent(f"{TEST}{uuid4().hex}", b"test"))
    assert not isinstance(stored, inbox.RejectedEvent)  # noqa: S101 - for the type checker
    with database.begin() as connection:
        jobs.audit(
            connection, organisation_id=organisation_id, actor=actor, action="source.test",
            detail=f'{{"source": "{source.name}", "id": {source.id}, "receipt": {stored.id}}}',
        )  # fmt: skip
    return inbox.show(database, organisation_id=organisation_id, receipt_id=stored.id)
