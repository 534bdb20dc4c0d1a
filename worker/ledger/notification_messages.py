"""Messages on their way to targets. A claim has a token and a lease, so another worker takes over after a crash."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID, uuid4

from sqlalchemy import Connection, func, insert, select, text, update

from worker.models import notification_messages, notification_targets
from worker.one_message import Step

_M = notification_messages.c


@dataclass(frozen=True, slots=True)
class MessageRecord:
    """A message on its way, or sent."""

    id: int
    target_id: int
    is_test: bool
    state: str
    attempts: int
    last_error: str | None
    give_up_at: datetime
    created_at: datetime
    ended_at: datetime | None


@dataclass(frozen=True, slots=True)
class ClaimedMessage:
    """A message that one worker may send until its lease runs out, with what is needed to send it."""

    id: int
    target_id: int
    organisation_id: int
    token: UUID
    after_notice: int | None
    up_to_notice: int | None
    attempts: int
    created_at: datetime
    member_id: int | None
    kinds: list[str]
    address: str | None
    """Sealed; None: the member's e-mail."""
    target_since: datetime
    is_removed: bool
    """Whether the target was removed meanwhile."""


_COLUMNS = (
    _M.id, _M.target_id, _M.up_to_notice.is_(None).label("is_test"), _M.state, _M.attempts, _M.last_error,
    _M.give_up_at, _M.created_at, _M.ended_at,
)  # fmt: skip


def insert_test(connection: Connection, organisation_id: int, target_id: int, *, lifetime: timedelta) -> int | None:
    """Insert a test message. None: the organisation has no such target, or it was removed."""
    its = notification_targets.c.id == target_id, notification_targets.c.organisation_id == organisation_id
    live = select(
        notification_targets.c.id, notification_targets.c.organisation_id, (func.now() + lifetime).label("give_up_at")
    ).where(*its, notification_targets.c.removed_at.is_(None))
    new = insert(notification_messages).from_select(["target_id", "organisation_id", "give_up_at"], live)
    return connection.scalar(new.returning(_M.id))


def list_messages(
    connection: Connection,
    organisation_id: int,
    target_id: int | None = None,
    *,
    state: str | None = None,
    before: int | None = None,
    limit: int = 50,
) -> list[MessageRecord]:
    """Messages of an organisation, or of one target, newest first. `before`: the last id of the page before."""
    conditions = [_M.organisation_id == organisation_id]
    if target_id is not None:
        conditions.append(_M.target_id == target_id)
    if state is not None:
        conditions.append(_M.state == state)
    if before is not None:
        conditions.append(_M.id < before)
    page = select(*_COLUMNS).where(*conditions).order_by(_M.id.desc()).limit(limit)
    return [MessageRecord(**row) for row in connection.execute(page).mappings()]


def find_message(connection: Connection, organisation_id: int, message_id: int) -> MessageRecord | None:
    """One message of an organisation."""
    its = select(*_COLUMNS).where(_M.id == message_id, _M.organisation_id == organisation_id)
    row = connection.execute(its).mappings().one_or_none()
    return MessageRecord(**row) if row else None


_SENDABLE = """m.state IN ('due', 'sending') AND m.run_after <= clock_timestamp()
    AND (m.state = 'due' OR m.lease_until < clock_timestamp())"""
ANY_DUE = Step("message_due", f"SELECT EXISTS (SELECT FROM withdrawals.notification_messages m WHERE {_SENDABLE})")


# `taken` locks one message and skips those that another worker holds.
_CLAIM = """
WITH taken AS (
    SELECT m.id FROM withdrawals.notification_messages m WHERE {which} AND {sendable}
    ORDER BY m.run_after, m.id LIMIT 1 FOR UPDATE SKIP LOCKED
)
UPDATE withdrawals.notification_messages m SET state = 'sending', token = :token, attempts = attempts + 1,
    lease_until = clock_timestamp() + :lease
FROM taken, withdrawals.notification_targets t WHERE m.id = taken.id AND t.id = m.target_id
RETURNING m.id, m.target_id, m.organisation_id, m.token, m.after_notice, m.up_to_notice, m.attempts, m.created_at,
    t.member_id, t.kinds, t.address, t.created_at AS target_since,
    t.removed_at IS NOT NULL AS is_removed
"""
_CLAIM_DUE = text(_CLAIM.format(which="true", sendable=_SENDABLE))
_CLAIM_ONE = text(_CLAIM.format(which="m.id = :id", sendable=_SENDABLE))


def claim(connection: Connection, *, lease: timedelta, message_id: int | None = None) -> ClaimedMessage | None:
    """Claim the next message that is due, or a given one. None: none is due."""
    statement, which = (_CLAIM_DUE, {}) if message_id is None else (_CLAIM_ONE, {"id": message_id})
    row = connection.execute(statement, {"token": uuid4(), "lease": lease, **which}).mappings().one_or_none()
    return ClaimedMessage(**row) if row else None


def record_delivered(connection: Connection, claimed: ClaimedMessage) -> bool:
    """Record that a message was taken in. False: the claim was lost to another worker, which sends it again."""
    delivered = {"state": "delivered", "ended_at": func.now(), "last_error": None, "lease_until": None}
    still_ours = _M.id == claimed.id, _M.token == claimed.token, _M.state == "sending"
    return connection.execute(update(notification_messages).where(*still_ours).values(delivered)).rowcount == 1


_FAILED = text("""
UPDATE withdrawals.notification_messages SET last_error = :error, lease_until = NULL,
    run_after = clock_timestamp() + :rest,
    state = CASE WHEN :final OR give_up_at <= clock_timestamp() + :rest THEN 'failed' ELSE 'due' END,
    ended_at = CASE WHEN :final OR give_up_at <= clock_timestamp() + :rest THEN now() END
WHERE id = :id AND token = :token AND state = 'sending'
RETURNING state
""")


def record_failure(
    connection: Connection, claimed: ClaimedMessage, *, error: str, rest: timedelta, final: bool
) -> str | None:
    """Record a failed attempt; the state now: `failed` once its time is over, or if it is `final`. None: claim lost."""
    values = {"id": claimed.id, "token": claimed.token, "error": error, "rest": rest, "final": final}
    state: str | None = connection.scalar(_FAILED, values)
    return state


def retry(connection: Connection, organisation_id: int, message_id: int, *, lifetime: timedelta) -> bool:
    """Make a message due again that has failed. False: there is no such message, or it has not failed."""
    its = _M.id == message_id, _M.organisation_id == organisation_id, _M.state == "failed"
    due = {
        "state": "due", "ended_at": None, "run_after": func.now(), "give_up_at": func.now() + lifetime,
        "attempts": 0, "last_error": None,
    }  # fmt: skip
    return connection.execute(update(notification_messages).where(*its).values(due)).rowcount == 1
