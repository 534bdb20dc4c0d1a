"""The feed of what was withdrawn, reinstated and kept (decision record 0043).

Triggers write an entry for each deciding statement. The order of what happened to an enrolment is the order of the
entries' ids, because an id is taken while the enrolment is locked; but ids become visible out of order, as their
transactions commit. So one process after the other numbers the entries that it sees, in the order of their ids. Whoever
sees an entry sees every earlier one of the same enrolment, so positions are in that order as well; and readers, who
read positions alone, never see one before a lower one.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Any

from sqlalchemy import Connection, select, text

from schemas.feed import FeedData, FeedEvent, FeedEventType
from worker.errors import GoneError, InvalidInputError
from worker.ids import LARGEST
from worker.ledger.fragments import plan_by_index
from worker.models import feed
from worker.one_message import Step
from worker.texts import text as say

LATEST = "latest"
"""In place of a cursor: the end of the feed."""

MOST = 10_000
"""Entries that one transaction numbers."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TYPES: dict[str, FeedEventType] = {
    "withdrawn": "enrolment.withdrawn",
    "reinstated": "enrolment.reinstated",
    "kept": "enrolment.kept",
}


@dataclass(frozen=True, slots=True)
class Place:
    """A place in the feed of an organisation: after an entry, or after one enrolment of it."""

    position: int = 0
    enrolment_id: int = 0
    """The last that was read of this entry; 0: all of it was."""
    at: int = 0
    """The entry's time, in microseconds of the epoch: after a restore the same position may hold another entry."""

    def __str__(self) -> str:
        return f"{self.position}.{self.enrolment_id}.{self.at}"

    @property
    def finished(self) -> int:
        """The last entry of which all was read."""
        return self.position - 1 if self.enrolment_id else self.position

    @classmethod
    def parse(cls, cursor: str) -> "Place":
        """The place of a cursor.

        Raises:
            InvalidInputError: the service did not make this cursor.
        """
        parts = cursor.split(".")
        if len(parts) != 3 or not all(p.isascii() and p.isdigit() and len(p) < 20 and int(p) <= LARGEST for p in parts):
            raise InvalidInputError(
                say("after: not a cursor of the feed. Use {latest!r}, or leave it out to start over.", latest=LATEST)
            )
        return cls(*map(int, parts))


@dataclass(frozen=True, slots=True)
class Page:
    """What was read."""

    events: list[FeedEvent]
    place: Place
    more: bool
    """Whether there is more to read now."""


# Only one transaction numbers at a time. Its look at the entries is a statement of its own, so that it begins after the
# transaction before has committed.
_LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended('withdrawals.feed', 0))")
_NUMBER = text("""
-- What is new, in the order in which it happened …
WITH new AS MATERIALIZED (
    SELECT id, organisation_id, row_number() OVER (PARTITION BY organisation_id ORDER BY id) AS nth
    FROM (SELECT id, organisation_id FROM withdrawals.feed WHERE position IS NULL ORDER BY id LIMIT :most) f
-- … after the last position of each organisation.
), last AS MATERIALIZED (
    SELECT o.organisation_id, coalesce((SELECT f.position FROM withdrawals.feed f
        WHERE f.organisation_id = o.organisation_id AND f.position IS NOT NULL
        ORDER BY f.position DESC LIMIT 1), 0) AS position
    FROM (SELECT DISTINCT organisation_id FROM new) o
)
UPDATE withdrawals.feed f SET position = l.position + n.nth
FROM new n JOIN last l ON l.organisation_id = n.organisation_id WHERE f.id = n.id
""")
ANY_NEW = Step("feed_new", "SELECT EXISTS (SELECT FROM withdrawals.feed WHERE position IS NULL)")
"""Whether an entry has no position yet."""


def number(connection: Connection, *, most: int = MOST) -> int:
    """Give entries that have committed their positions, so that readers see them; how many."""
    plan_by_index(connection)
    if not connection.scalar(ANY_NEW.clause):
        return 0
    connection.execute(_LOCK)
    return connection.execute(_NUMBER, {"most": most}).rowcount


# An entry is deleted once the one after it is old enough too: the last old one stays as the place where readers stand.
_DELETE_OLD = text("""
DELETE FROM withdrawals.feed WHERE id IN (
    SELECT f.id FROM withdrawals.feed f WHERE f.at < now() - CAST(:keep AS interval) AND EXISTS (
        SELECT FROM withdrawals.feed n WHERE n.organisation_id = f.organisation_id AND n.position = f.position + 1
            AND n.at < now() - CAST(:keep AS interval))
    ORDER BY f.id LIMIT :most)
""")


def delete_old(connection: Connection, *, keep: timedelta, most: int = 10_000) -> int:
    """Delete what every reader should have read by now; how many entries."""
    return connection.execute(_DELETE_OLD, {"keep": keep, "most": most}).rowcount


def find_end(connection: Connection, organisation_id: int) -> Place:
    """The place after everything that readers see."""
    mine = (feed.c.organisation_id == organisation_id, feed.c.position.is_not(None))
    newest = select(feed.c.position, feed.c.at).where(*mine).order_by(feed.c.position.desc()).limit(1)
    row = connection.execute(newest).one_or_none()
    return Place(row.position or 0, 0, _microseconds(row.at)) if row else Place()


def read(
    connection: Connection, organisation_id: int, after: Place | None, *, limit: int, types: Sequence[str] = ()
) -> Page:
    """What happened after a place, up to `limit` events; from the oldest that is kept without one.

    `types`: only these; all if empty. A page may be empty although there is more.

    Raises:
        GoneError: the place is older than what is kept, or of another history of this database.
    """
    plan_by_index(connection)
    entries = _list_entries(connection, organisation_id, after, limit=limit)
    if not entries:
        return Page([], after or Place(), more=False)
    found = {
        position: list(rows)
        for position, rows in groupby(_expand(connection, organisation_id, entries), lambda row: int(row.position))
    }
    events: list[FeedEvent] = []
    place = after or Place()
    for entry in entries:
        rows = found.get(entry.position, [])
        if len(rows) != entry.size:
            if after is None and not events:  # the oldest entry only marks a place, which holds
                place = Place(entry.position, 0, _microseconds(entry.at))
                continue
            raise _gone("part of what follows this place was deleted with its job")
        at = _microseconds(entry.at)
        if after is not None and entry.position == after.position:
            place = Place(entry.position, 0, at)
            unread = [row for row in rows if row.enrolment_id > after.enrolment_id]
        else:
            unread = rows
        for row in unread[: limit - len(events)]:
            last = row is rows[-1]
            place = Place(entry.position, 0 if last else row.enrolment_id, at)
            events.append(_event(organisation_id, row, place))
        if len(events) >= limit:
            break
    newest = find_end(connection, organisation_id)
    wanted = [event for event in events if not types or event.type in types]
    return Page(wanted, place, more=place.finished < newest.position)


def _list_entries(connection: Connection, organisation_id: int, after: Place | None, *, limit: int) -> list[Any]:
    """The entries to read: as many as hold `limit` events beyond the place, the entry in which it lies included."""
    statement = (
        select(feed.c.position, feed.c.at, feed.c.size)
        .where(feed.c.organisation_id == organisation_id, feed.c.position >= (after.position if after else 0))
        .order_by(feed.c.position)
        .limit(limit + 2)
    )
    rows = list(connection.execute(statement))
    if after is not None:
        rows = _check_place(connection, organisation_id, after, rows)
    chosen: list[Any] = []
    room = limit
    for row in rows:
        if chosen and row.position != chosen[-1].position + 1:
            raise _gone(say("what follows this place was deleted"))
        if room <= 0:
            break
        chosen.append(row)
        room -= 0 if after and row.position == after.position else row.size
    return chosen


def _check_place(connection: Connection, organisation_id: int, after: Place, rows: list[Any]) -> list[Any]:
    """What of these entries is still to be read, if the feed is the one in which the place was found."""
    if after.position == 0:
        if rows and rows[0].position != 1:
            raise _gone(say("what follows this place was deleted"))
        return rows
    if not rows or rows[0].position != after.position:
        if not rows and after.position > find_end(connection, organisation_id).position:
            raise _gone(say("the database was restored, and this place is not in its feed"))
        raise _gone(say("what follows this place was deleted"))
    if _microseconds(rows[0].at) != after.at:
        raise _gone(say("the database was restored, and this place was in another feed"))
    return rows if after.enrolment_id else rows[1:]


def _gone(why: str) -> GoneError:
    return GoneError(
        say(
            "after: {why}. Begin again: ask with after={latest} for a new place, then read the list of withdrawn "
            "enrolments, then follow the feed from that place.",
            why=why,
            latest=LATEST,
        )
    )


# Every enrolment of the entries. Outcomes that were decided at another time than the entry came with another entry.
# OFFSET 0 keeps each look-up apart, by its index.
_EXPAND = text("""
WITH entries AS MATERIALIZED (
    SELECT f.position, f.at, f.chunk_ids, f.job_id, f.enrolment_id, f.dead_letter_id FROM withdrawals.feed f
    WHERE f.organisation_id = :organisation_id AND f.position = ANY(:positions)
), chunks AS MATERIALIZED (
    SELECT e.position, e.at, c.* FROM entries e CROSS JOIN LATERAL unnest(e.chunk_ids) u(id)
    CROSS JOIN LATERAL (SELECT c.id, c.job_id, c.enrolment_ids FROM withdrawals.chunks c WHERE c.id = u.id OFFSET 0) c

-- The outcomes of chunks that name their enrolments …
), found AS MATERIALIZED (
    SELECT c.position, c.at, o.* FROM chunks c CROSS JOIN LATERAL (
        SELECT o.job_id, o.enrolment_id, o.outcome, o.prior_status FROM withdrawals.outcomes o
        WHERE o.job_id = c.job_id AND o.enrolment_id = ANY(c.enrolment_ids) AND o.chunk_id = c.id
            AND o.decided_at = c.at AND o.outcome IN ('withdrawn', 'reinstated') OFFSET 0) o
    -- … and of a person's chunk, the only one of its job.
    UNION ALL
    SELECT c.position, c.at, o.* FROM chunks c CROSS JOIN LATERAL (
        SELECT o.job_id, o.enrolment_id, o.outcome, o.prior_status FROM withdrawals.outcomes o
        WHERE o.job_id = c.job_id AND o.chunk_id = c.id
            AND o.decided_at = c.at AND o.outcome IN ('withdrawn', 'reinstated') OFFSET 0) o
    WHERE c.enrolment_ids IS NULL
    -- Outcomes that replaced others.
    UNION ALL
    SELECT e.position, e.at, o.* FROM entries e CROSS JOIN LATERAL (
        SELECT o.job_id, o.enrolment_id, o.outcome, o.prior_status FROM withdrawals.outcomes o
        WHERE o.job_id = e.job_id AND o.enrolment_id = e.enrolment_id
            AND o.decided_at = e.at AND o.outcome IN ('withdrawn', 'reinstated') OFFSET 0) o
)
SELECT f.position, f.at, f.outcome AS what, f.enrolment_id, f.job_id, j.reason, j.source, f.prior_status,
    NULL::bigint AS dead_letter_id,
    -- The job that was taken back knows which status was put back.
    CASE WHEN f.outcome = 'withdrawn' THEN f.outcome ELSE (SELECT o.prior_status FROM withdrawals.outcomes o
        WHERE o.job_id = j.reinstates AND o.enrolment_id = f.enrolment_id) END AS status
FROM found f JOIN withdrawals.jobs j ON j.id = f.job_id
UNION ALL
SELECT e.position, e.at, 'kept', d.enrolment_id, d.job_id, j.reason, j.source, NULL, d.id, NULL
FROM entries e JOIN withdrawals.dead_letters d ON d.id = e.dead_letter_id
LEFT JOIN withdrawals.jobs j ON j.id = d.job_id
ORDER BY 1, 4
""")


def _expand(connection: Connection, organisation_id: int, entries: Sequence[Any]) -> Iterator[Any]:
    positions = [entry.position for entry in entries]
    return iter(connection.execute(_EXPAND, {"organisation_id": organisation_id, "positions": positions}))


def _event(organisation_id: int, row: Any, place: Place) -> FeedEvent:
    about = row.dead_letter_id if row.what == "kept" else f"{row.job_id}-{row.enrolment_id}"
    return FeedEvent(
        id=f"{row.what}-{about}",
        source=f"/organisations/{organisation_id}",
        type=_TYPES[row.what],
        subject=str(row.enrolment_id),
        time=row.at,
        sequence=f"{row.position:019}.{row.enrolment_id:019}",
        cursor=str(place),
        data=FeedData.model_validate(row),
    )


def _microseconds(at: datetime) -> int:
    return (at - _EPOCH) // timedelta(microseconds=1)
