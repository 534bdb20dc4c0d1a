"""What there is to tell, and the messages that are made of it.

One relay at a time writes here, under a lock, so the ids of notices rise in the order of the commits. A message covers
the notices from one id to another, and a target remembers the last one that it was told: so each is told once.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, any_, delete, exists, func, insert, literal, select, text, update
from sqlalchemy.dialects.postgresql import insert as upsert

from worker.ledger.fragments import plan_by_index
from worker.ledger.letter_filter import Targets
from worker.ledger.notice_findings import Find, Scan
from worker.models import notice_scans, notices, notification_messages, notification_targets, organisations
from worker.one_message import Step

_LIVE = notification_targets.c.removed_at.is_(None)


ANY_TARGET = Step(
    "notices_wanted", "SELECT EXISTS (SELECT FROM withdrawals.notification_targets WHERE removed_at IS NULL)"
)
"""Whether anybody wants to be told anything."""


def any_target(connection: Connection) -> bool:
    """Whether anybody wants to be told anything."""
    return bool(connection.scalar(ANY_TARGET.clause))


_LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended('withdrawals.notices', 0))")


def lock(connection: Connection) -> None:
    """Let nobody else insert notices or make messages of them until this transaction ends."""
    connection.execute(_LOCK)


def find_scan(connection: Connection, kind: str, targets: Targets) -> Scan | None:
    """Where a kind is looked for, and from when on: from the last complete look, else from its first target.

    `targets`: how long dead letters may stay open. None: nobody wants it.
    """
    wanting = (_LIVE, literal(kind) == any_(notification_targets.c.kinds))
    houses = func.array_agg(notification_targets.c.organisation_id.distinct())
    first = func.min(notification_targets.c.created_at)
    last = select(notice_scans.c.since).where(notice_scans.c.kind == kind).scalar_subquery()
    row = connection.execute(
        select(houses.label("houses"), func.coalesce(last, first).label("since")).where(*wanting)
    ).one()
    return Scan(row.houses, row.since, targets) if row.houses else None


def insert_found(connection: Connection, kind: str, find: Find, scan: Scan, *, most: int) -> int:
    """Insert what a query finds and nobody was told, for organisations where somebody wants it; how many, of `most`.

    What happened before anybody wanted it is left out. So a new target gets no old news.
    """
    plan_by_index(connection)
    found = find(scan).subquery("found")
    wanted = exists().where(
        notification_targets.c.organisation_id == found.c.organisation_id,
        _LIVE,
        literal(kind) == any_(notification_targets.c.kinds),
        notification_targets.c.created_at <= found.c.at,
    )
    columns = (found.c.organisation_id, literal(kind), found.c.subject, found.c.at, found.c.detail)
    new = select(*columns).where(wanted, ~_is_known(kind, found)).order_by(found.c.at).limit(most)
    names = ["organisation_id", "kind", "subject", "at", "detail"]
    statement = upsert(notices).from_select(names, new).on_conflict_do_nothing()
    return connection.execute(statement).rowcount


def _is_known(kind: str, found: Any) -> ColumnElement[bool]:
    its = notices.c.organisation_id == found.c.organisation_id, notices.c.subject == found.c.subject
    return exists().where(*its, notices.c.kind == kind)


def record_scan(connection: Connection, kind: str, *, overlap: timedelta) -> None:
    """Record a complete look. The next begins `overlap` earlier, because what a transaction wrote bears its start."""
    row = upsert(notice_scans).values(kind=kind, since=func.now() - overlap)
    newer = row.on_conflict_do_update(index_elements=[notice_scans.c.kind], set_={"since": row.excluded.since})
    connection.execute(newer)


@dataclass(frozen=True, slots=True)
class Waiting:
    """A target that has something to be told now."""

    target_id: int
    organisation_id: int
    digest_hour: int | None
    timezone: str
    after_notice: int
    up_to_notice: int


# Of each kind that a target wants, the first and the last notice since its last message. A target has one message on
# its way at most: what comes meanwhile goes into the next one.
_WAITING = text("""
SELECT t.id AS target_id, t.organisation_id, t.digest_hour, coalesce(o.timezone, 'UTC') AS timezone,
    t.told_up_to AS after_notice, n.last AS up_to_notice
FROM withdrawals.notification_targets t
LEFT JOIN lms.organisations o ON o.id = t.organisation_id
CROSS JOIN LATERAL (
    SELECT max(newest.id) AS last, min(oldest.found_at) AS first
    FROM unnest(t.kinds) AS k(kind)
    CROSS JOIN LATERAL (SELECT n.id FROM withdrawals.notices n WHERE n.organisation_id = t.organisation_id
        AND n.kind = k.kind AND n.id > t.told_up_to AND n.at >= t.created_at ORDER BY n.id DESC LIMIT 1) newest
    CROSS JOIN LATERAL (SELECT n.found_at FROM withdrawals.notices n WHERE n.organisation_id = t.organisation_id
        AND n.kind = k.kind AND n.id > t.told_up_to AND n.at >= t.created_at ORDER BY n.id LIMIT 1) oldest) n
WHERE t.removed_at IS NULL AND t.next_at <= now() AND n.last IS NOT NULL
    AND (t.digest_hour IS NOT NULL OR n.first <= now() - CAST(:gather AS interval))
    AND NOT EXISTS (SELECT FROM withdrawals.notification_messages m WHERE m.target_id = t.id
        AND m.state IN ('due', 'sending') AND m.up_to_notice IS NOT NULL)
ORDER BY t.id LIMIT :most
""")


def list_waiting(connection: Connection, *, gather: timedelta, most: int) -> list[Waiting]:
    """Targets that a message is to be made for. `gather`: how long the first notice waits for others."""
    plan_by_index(connection)
    return [Waiting(*row) for row in connection.execute(_WAITING, {"gather": gather, "most": most})]


def insert_message(connection: Connection, waiting: Waiting, *, next_at: datetime, lifetime: timedelta) -> None:
    """Make the message, and remember that the target is told. No other is made for it before `next_at`."""
    told = {"told_up_to": waiting.up_to_notice, "next_at": next_at}
    its = notification_targets.c.id == waiting.target_id
    connection.execute(
        update(notification_targets)
        .where(its, notification_targets.c.organisation_id == waiting.organisation_id)
        .values(told)
    )
    row = {
        "target_id": waiting.target_id,
        "organisation_id": waiting.organisation_id,
        "after_notice": waiting.after_notice,
        "up_to_notice": waiting.up_to_notice,
        "give_up_at": func.now() + lifetime,
    }
    connection.execute(insert(notification_messages).values(row))


@dataclass(frozen=True, slots=True)
class Told:
    """What a message tells of one kind: how many, and the first of them."""

    kind: str
    count: int
    first: list[tuple[str, dict[str, Any]]]
    """Subjects with their facts."""


# The first of each kind, and how many there are, each kind from its index.
_COVERED = text("""
SELECT k.kind, counted.number, first.subject, first.detail
FROM unnest(CAST(:kinds AS text[])) WITH ORDINALITY AS k(kind, place)
CROSS JOIN LATERAL (SELECT count(*) AS number FROM withdrawals.notices n WHERE n.organisation_id = :organisation_id
    AND n.kind = k.kind AND n.id > :after AND n.id <= :up_to AND n.at >= :since) counted
CROSS JOIN LATERAL (SELECT n.id, n.subject, n.detail FROM withdrawals.notices n
    WHERE n.organisation_id = :organisation_id AND n.kind = k.kind AND n.id > :after AND n.id <= :up_to
        AND n.at >= :since
    ORDER BY n.id LIMIT :listed) first
ORDER BY k.place, first.id
""")


def read_covered(
    connection: Connection,
    organisation_id: int,
    *,
    kinds: list[str],
    after: int,
    up_to: int,
    since: datetime,
    listed: int,
) -> list[Told]:
    """What a message covers, by kind in their order. `since`: what happened before is left out."""
    values: dict[str, Any] = {"kinds": kinds, "organisation_id": organisation_id, "after": after, "up_to": up_to}
    found: dict[str, Told] = {}
    for kind, number, subject, detail in connection.execute(_COVERED, {**values, "since": since, "listed": listed}):
        found.setdefault(kind, Told(kind, number, [])).first.append((subject, detail))
    return list(found.values())


def find_organisation(connection: Connection, organisation_id: int) -> str:
    """An organisation's name."""
    its = select(organisations.c.name).where(organisations.c.id == organisation_id)
    return connection.scalar(its) or f"Organisation {organisation_id}"


def delete_old(connection: Connection, kind: str, find: Find, scan: Scan | None, *, keep: timedelta, most: int) -> int:
    """Delete notices of a kind that were found longer ago than they are kept; how many, of `most`.

    One that would be found again stays: its subject would be told anew.
    """
    plan_by_index(connection)
    old = select(notices.c.id).where(notices.c.kind == kind, notices.c.found_at < func.now() - keep)
    if scan is not None:
        found = find(scan).subquery("found")
        its = found.c.organisation_id == notices.c.organisation_id, found.c.subject == notices.c.subject
        old = old.where(~exists().where(*its))
    past = old.order_by(notices.c.found_at).limit(most)
    return connection.execute(delete(notices).where(notices.c.id.in_(past))).rowcount


def delete_messages(connection: Connection, *, keep: timedelta, most: int) -> int:
    """Delete messages that ended longer ago than they are kept; how many, of `most`."""
    plan_by_index(connection)
    ended = notification_messages.c.ended_at
    old = select(notification_messages.c.id).where(ended < func.now() - keep).order_by(ended).limit(most)
    return connection.execute(delete(notification_messages).where(notification_messages.c.id.in_(old))).rowcount
