"""Events that have to be looked up in the HR system before they are applied.

Such an event says only that a person's record changed. A look-up is claimed for the time of a lease, and asks the HR
system outside of any transaction. What it found is written into the same receipt, which then waits in the inbox like
any other. An index allows one look-up a person and source at a time, from its claim until what it found is applied. So
what a later one finds is newer, and it is compared with what the source has said last.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, text

from schemas.catalogue import ReceiptStatus
from worker.ledger.inbox_sets import WaitingEvent
from worker.one_message import Step
from worker.records import StoredEvent


@dataclass(frozen=True, slots=True)
class ClaimedLookup:
    """A look-up that one worker may make until its lease runs out."""

    event: WaitingEvent
    organisation_id: int
    began_at: datetime
    """By the database's clock; it tells the claim from a later one."""

    @property
    def source(self) -> str:
        return self.event.door.removeprefix("hr:")


@dataclass(frozen=True, slots=True)
class SourceApi:
    """How the API of a source's HR system is asked."""

    kind: str
    key: str | None
    """Sealed."""
    url: str | None


# OFFSET 0: nothing is looked at but what waits for a look-up. Joined, all of the inbox was read.
_DUE = """SELECT d.id FROM withdrawals.receipts d WHERE d.lookup AND d.run_after <= now() AND NOT EXISTS (
    SELECT 1 FROM withdrawals.receipts o WHERE o.waiting AND o.organisation_id = d.organisation_id
        AND o.external_id = d.external_id AND o.door = d.door AND o.id <> d.id
        AND (o.id < d.id OR o.looked_up_at IS NOT NULL) OFFSET 0)
    ORDER BY d.run_after, d.id LIMIT 1"""
ANY_DUE = Step("lookup_due", f"SELECT EXISTS ({_DUE})")


_CLAIM = text(f"""
UPDATE withdrawals.receipts r SET looked_up_at = clock_timestamp(),
    run_after = clock_timestamp() + CAST(:lease AS interval)
WHERE r.id = ({_DUE} FOR UPDATE SKIP LOCKED)
RETURNING r.id, r.door, r.idempotency_key AS key, r.request_hash, r.type, r.external_id, r.sequence, r.occurred_at,
    r.effective_at, r.received_at, r.attempts, r.own_failures, r.tried_for, r.request_id, r.traceparent,
    clock_timestamp() - r.received_at AS waited, r.organisation_id, r.looked_up_at
""")


def claim(connection: Connection, *, lease: timedelta) -> ClaimedLookup | None:
    """Claim the look-up that has been due for longest.

    Raises:
        IntegrityError: another worker has just begun one of the same person.
    """
    row = connection.execute(_CLAIM, {"lease": lease}).one_or_none()
    return None if row is None else ClaimedLookup(WaitingEvent(*row[:-2]), row.organisation_id, row.looked_up_at)


_SOURCE_API = text("""
SELECT s.kind, s.api_key, s.api_url FROM withdrawals.sources s
WHERE s.organisation_id = :organisation_id AND s.name = :name ORDER BY s.disabled_at IS NULL DESC, s.id DESC LIMIT 1
""")


def find_api(connection: Connection, claimed: ClaimedLookup) -> SourceApi | None:
    """How to ask the source's HR system: of the live source, else of the one that was disabled last."""
    values = {"organisation_id": claimed.organisation_id, "name": claimed.source}
    row = connection.execute(_SOURCE_API, values).one_or_none()
    return None if row is None else SourceApi(*row)


_LOCK = text("""
SELECT r.id FROM withdrawals.receipts r WHERE r.organisation_id = :organisation_id AND r.id = :id AND r.lookup
    AND r.looked_up_at = :began_at FOR UPDATE
""")


def lock(connection: Connection, claimed: ClaimedLookup) -> bool:
    """Lock a claimed look-up; False: its lease ran out, and another worker has it or has ended it."""
    values = {"organisation_id": claimed.organisation_id, "id": claimed.event.id, "began_at": claimed.began_at}
    return connection.execute(_LOCK, values).one_or_none() is not None


_LAST = text("""
SELECT e.source, e.type, e.sequence, e.occurred_at, e.effective_at FROM withdrawals.person_events e
WHERE e.organisation_id = :organisation_id AND e.external_id = :external_id AND e.source = :source
""")


def find_last(connection: Connection, claimed: ClaimedLookup) -> StoredEvent | None:
    """What the source has said last about the person."""
    values = {
        "organisation_id": claimed.organisation_id,
        "external_id": claimed.event.external_id,
        "source": claimed.source,
    }
    row = connection.execute(_LAST, values).one_or_none()
    return None if row is None else StoredEvent(*row)


_WRITE = text("""
UPDATE withdrawals.receipts SET lookup = false, type = :type, effective_at = :effective_at, sequence = :sequence,
    occurred_at = greatest(coalesce(occurred_at, received_at), CAST(:not_before AS timestamptz)), run_after = now(),
    attempts = 0, own_failures = 0, tried_for = '0'
WHERE organisation_id = :organisation_id AND id = :id AND lookup
""")


def write_found(
    connection: Connection,
    claimed: ClaimedLookup,
    *,
    event_type: str,
    effective_at: datetime | None,
    last: StoredEvent | None,
) -> None:
    """Let a locked look-up's event wait in the inbox with what was found.

    Among the events of its source it ranks by when the look-up began; among those of other sources by when the record
    changed, which is never before what this source has said last.
    """
    values = {
        "organisation_id": claimed.organisation_id,
        "id": claimed.event.id,
        "type": event_type,
        "effective_at": effective_at,
        "sequence": int(claimed.began_at.timestamp() * 1_000_000),
        "not_before": last.occurred_at if last else None,
    }
    connection.execute(_WRITE, values)


_IGNORE = text("""
UPDATE withdrawals.receipts SET waiting = false, lookup = false, external_id = NULL, run_after = NULL,
    applied_at = clock_timestamp(), status = :status
WHERE organisation_id = :organisation_id AND id = :id AND lookup
""")


def ignore(connection: Connection, claimed: ClaimedLookup) -> None:
    """End a locked look-up that found nothing new."""
    values = {"organisation_id": claimed.organisation_id, "id": claimed.event.id, "status": ReceiptStatus.IGNORED}
    connection.execute(_IGNORE, values)


_RETRY = text("""
UPDATE withdrawals.receipts SET looked_up_at = NULL, run_after = clock_timestamp() + CAST(:wait AS interval),
    attempts = attempts + 1, tried_for = tried_for + CAST(:wait AS interval)
WHERE organisation_id = :organisation_id AND id = :id AND lookup
""")


def retry(connection: Connection, claimed: ClaimedLookup, *, wait: timedelta) -> None:
    """Let a locked look-up that failed be made again after `wait`."""
    connection.execute(_RETRY, {"organisation_id": claimed.organisation_id, "id": claimed.event.id, "wait": wait})
