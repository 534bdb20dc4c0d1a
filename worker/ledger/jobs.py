"""Jobs from the door to their end: insert, fill with chunks, admit, cancel, finish."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Connection,
    Select,
    Table,
    any_,
    bindparam,
    func,
    insert,
    select,
    text,
    union_all,
    update,
)
from sqlalchemy.dialects import postgresql

from schemas.catalogue import JobState
from worker.ledger import brake_correction
from worker.ledger.fragments import UNFINISHED, one_of, plan_by_index, sql_list
from worker.models import Ids, Instant, job_chunks, receipts
from worker.models import audit as audit_table
from worker.models import jobs as jobs_table
from worker.models import organisations as organisations_table
from worker.one_message import Step
from worker.records import ArrivedEvent, NewJob
from worker.rules import CLEAN, STANDING

_LOCK_SETTINGS = text("""
INSERT INTO withdrawals.organisation_settings (organisation_id) VALUES (:organisation_id)
ON CONFLICT (organisation_id) DO UPDATE SET organisation_id = excluded.organisation_id
RETURNING erasure_key
""")


def lock_settings(connection: Connection, organisation_id: int) -> str | None:
    """Take the organisation's settings row, made if missing, so that admissions come one after the other.

    Returns the sealed key by which erased persons are known; None: nobody was erased.
    """
    sealed_key: str | None = connection.scalar(_LOCK_SETTINGS, {"organisation_id": organisation_id})
    return sealed_key


def _by_key(table: Table, job_id: Any) -> Select[Any]:
    key: dict[str, Any] = {name: bindparam(name) for name in ("organisation_id", "door", "key")}
    return select(job_id, table.c.request_hash).where(
        table.c.organisation_id == key["organisation_id"],
        table.c.door == key["door"],
        table.c.idempotency_key == key["key"],
    )


_FIND_BY_KEY = union_all(_by_key(jobs_table, jobs_table.c.id), _by_key(receipts, receipts.c.job_id)).limit(1)


def find_by_key(
    connection: Connection, *, organisation_id: int, door: str, key: str
) -> tuple[int | None, bytes] | None:
    """The job that a key has made already (None: an event without one), with the hash of its request."""
    row = connection.execute(_FIND_BY_KEY, {"organisation_id": organisation_id, "door": door, "key": key}).one_or_none()
    return (row[0], bytes(row[1])) if row else None


_INSERT_JOB = (
    postgresql.insert(jobs_table)
    .values(state=JobState.SCHEDULED, effective_at=func.coalesce(bindparam("when", type_=Instant), func.now()))
    .on_conflict_do_nothing(index_elements=["organisation_id", "door", "idempotency_key"])
    .returning(jobs_table.c.id, (jobs_table.c.effective_at <= func.now()).label("is_due"))
)


def insert_job(connection: Connection, new: NewJob) -> tuple[int, bool] | None:
    """Insert a job; its id and whether it is due. None when the key was taken, by a job that has committed."""
    row = asdict(new) | {"idempotency_key": new.key, "when": new.effective_at}
    del row["key"], row["effective_at"]
    found = connection.execute(_INSERT_JOB, row).one_or_none()
    return (found.id, found.is_due) if found else None


def let_override(connection: Connection, job_id: int, *, pathway_id: int) -> None:
    """Let a new job withdraw what this pathway owns, and no other: an approver has decided so (rule 6)."""
    override = {"override": True, "override_pathway": pathway_id}
    connection.execute(update(job_chunks).where(job_chunks.c.job_id == job_id).values(override))


def set_counts(connection: Connection, job_id: int, *, accepted: int, duplicates: int) -> None:
    """Write what only the database could count, in the transaction that inserts the job."""
    counts = {"accepted": accepted, "duplicates": duplicates}
    connection.execute(update(jobs_table).where(jobs_table.c.id == job_id).values(counts))


_ADMIT = text("""
WITH admitted AS (
    UPDATE withdrawals.jobs SET state = 'queued', admitted_at = now(), learners = :learners
    WHERE id = :job_id AND state = 'scheduled' AND effective_at <= now() RETURNING id, organisation_id
), readied AS (
    UPDATE withdrawals.chunks c SET state = 'ready', run_after = now()
    FROM admitted WHERE c.job_id = admitted.id AND c.state = 'waiting'
), counted AS (
    INSERT INTO withdrawals.brake_volume AS known (organisation_id, minute, jobs)
    SELECT organisation_id, date_trunc('minute', now()), :learners FROM admitted
    ON CONFLICT (organisation_id, minute) DO UPDATE SET jobs = known.jobs + excluded.jobs
)
SELECT count(*) FROM admitted
""")


def admit(connection: Connection, job_id: int, *, learners: int) -> bool:
    """Queue a scheduled job that is due; False when it is not, or was cancelled or admitted meanwhile.

    `learners`: so many it counts in the brake's window.
    """
    return bool(connection.scalar(_ADMIT, {"job_id": job_id, "learners": learners}))


_HOLD = text("""
WITH held AS (
    UPDATE withdrawals.jobs SET state = 'held', held_because = :because, learners = :learners,
        brake = CAST(:figures AS jsonb)
    WHERE id = :job_id AND state = 'scheduled'
        AND (CAST(:because AS text) = 'policy' OR (effective_at <= now() AND released_at IS NULL)) RETURNING id
), put_back AS (
    UPDATE withdrawals.chunks c SET state = 'waiting' FROM held WHERE c.job_id = held.id AND c.state = 'ready'
)
SELECT count(*) FROM held
""")


def hold(
    connection: Connection, job_id: int, *, because: str, learners: int = 1, figures: dict[str, Any] | None = None
) -> bool:
    """Let a job that is not admitted yet wait for a second person; False when it was cancelled or admitted.

    `because`: `brake` (with its figures) or `policy`. `learners`: so many it counts once it is released.
    """
    values = {"because": because, "learners": learners, "figures": json.dumps(figures) if figures else None}
    return bool(connection.scalar(_HOLD, {"job_id": job_id, **values}))


ANY_DUE = Step(
    "jobs_due",
    "SELECT EXISTS (SELECT FROM withdrawals.jobs WHERE state = 'scheduled' AND effective_at <= now())",
)
"""Whether `due` finds any."""


def due(connection: Connection, *, most: int = 500) -> list[tuple[int, int]]:
    """Scheduled jobs that are due, with their organisations; the longest due first."""
    found = (
        select(jobs_table.c.id, jobs_table.c.organisation_id)
        .where(one_of(jobs_table.c.state, [JobState.SCHEDULED]), jobs_table.c.effective_at <= func.now())
        .order_by(jobs_table.c.effective_at, jobs_table.c.id)
        .limit(most)
    )
    return [(row.id, row.organisation_id) for row in connection.execute(found)]


_NO_CHUNK_IS_UNFINISHED = f"""NOT EXISTS (SELECT 1 FROM withdrawals.job_chunks c WHERE c.job_id = j.id
        AND c.state IN ({sql_list(UNFINISHED)}) OFFSET 0)"""

_FINISH = text(f"""
WITH ended AS (UPDATE withdrawals.jobs j SET finished_at = now(), correct_due = {brake_correction.IS_LARGE},
    state = CASE
    -- every chunk was closed as superseded (a split one stands for its halves), or the job selected nothing
    WHEN NOT EXISTS (SELECT 1 FROM withdrawals.job_chunks c
            WHERE c.job_id = j.id AND c.state NOT IN ('superseded', 'split'))
        THEN CASE WHEN j.epoch IS NULL THEN 'completed' ELSE 'superseded' END
    WHEN EXISTS (SELECT 1 FROM withdrawals.job_chunks c, jsonb_object_keys(c.counts) AS outcome
        WHERE c.job_id = j.id AND outcome NOT IN ({sql_list(CLEAN)})) THEN 'completed_with_exceptions'
    ELSE 'completed' END
WHERE j.id = ANY(:ids) AND j.state IN ({sql_list(STANDING)})
    -- OFFSET 0: looked up for each job, however many chunks of others are unfinished
    AND {_NO_CHUNK_IS_UNFINISHED}
    -- a scheduled or held job without chunks selected nothing, and waits for its time all the same
    AND (j.state IN ('queued', 'paused') OR EXISTS (SELECT 1 FROM withdrawals.chunks c WHERE c.job_id = j.id))
RETURNING j.id, j.state, j.correct_due),
-- Of jobs with several chunks the first that was decided says that they run. A job that somebody else is changing is
-- skipped: the next chunk says it again.
begun AS (UPDATE withdrawals.jobs SET begun = true WHERE id = ANY(ARRAY(SELECT j.id FROM withdrawals.jobs j
    WHERE j.id = ANY(:ids) AND NOT j.begun AND j.accepted > 1 AND j.state IN ('queued', 'paused')
        AND NOT {_NO_CHUNK_IS_UNFINISHED}
        AND EXISTS (SELECT 1 FROM withdrawals.job_chunks c WHERE c.job_id = j.id
            AND c.state NOT IN ('waiting', 'ready', 'claimed') OFFSET 0)
    ORDER BY j.id FOR NO KEY UPDATE SKIP LOCKED)))
SELECT id, state, correct_due AS is_large FROM ended
UNION ALL
-- Cancelled before, while a chunk was being decided that is closed now. What it withdrew is known only now.
SELECT j.id, NULL, false FROM withdrawals.jobs j
WHERE j.id = ANY(:ids) AND j.correct_due AND NOT {brake_correction.IS_LARGE} AND {_NO_CHUNK_IS_UNFINISHED}
""")
# Asked of the locked row: whoever comes second finds that an undo has given back already.
_CORRECTED = (
    update(jobs_table)
    .where(jobs_table.c.id == any_(bindparam("ids", type_=Ids)), jobs_table.c.correct_due)
    .values(correct_due=False)
    .returning(jobs_table.c.id)
)


def finish(connection: Connection, job_ids: Sequence[int]) -> list[tuple[int, str]]:
    """End those jobs whose chunks are all decided, and count whom they withdrew; the jobs that ended, with their state.

    Of the others, mark those that have begun.

    Its own guarded statement after the chunk's commit: of two workers that decide the last two chunks, the
    one that commits last sees both; the sweep repeats it should that one die. Whom a job of many enrolments withdrew is
    counted later, by the relay.
    """
    rows = connection.execute(_FINISH, {"ids": list(job_ids), "slice": brake_correction.SLICE}).all()
    to_correct = [row.id for row in rows if row.state is not None and not row.is_large]
    cancelled = [row.id for row in rows if row.state is None]
    if cancelled:
        to_correct += connection.scalars(_CORRECTED, {"ids": cancelled})
    if to_correct:
        brake_correction.correct(connection, to_correct)
    return [(row.id, row.state) for row in rows if row.state is not None]


_TOUCHED = text(f"""
SELECT t.job_id FROM (SELECT DISTINCT c.job_id FROM withdrawals.chunks c
    WHERE c.closed_at > :after AND c.closed_at <= :until AND c.redrives IS NULL) t
-- OFFSET 0: each is looked up in the index of those that have not ended, which has none of a storm's ended jobs
WHERE EXISTS (SELECT FROM withdrawals.jobs j WHERE j.id = t.job_id AND j.state IN ({sql_list(STANDING)}) OFFSET 0)
""")


# Two ranges of one index, of which each question reads one entry, however many chunks were closed.
ANY_TOUCHED = Step(
    "jobs_touched",
    """
SELECT EXISTS (SELECT FROM withdrawals.chunks WHERE closed_at > CAST(:seen AS timestamptz))
    OR EXISTS (SELECT FROM withdrawals.chunks
        WHERE closed_at > CAST(:settled AS timestamptz) AND closed_at <= now() - CAST(:settled_after AS interval))
""",
)
"""Whether a chunk was closed after `seen`, or between `settled` and so long ago."""


def list_touched(connection: Connection, *, after: datetime, until: datetime) -> list[int]:
    """Jobs that have not ended, of which a chunk was closed in this time (`after` excluded)."""
    plan_by_index(connection)
    return list(connection.scalars(_TOUCHED, {"after": after, "until": until}))


_STANDING = (
    select(jobs_table.c.id)
    .where(one_of(jobs_table.c.state, STANDING), jobs_table.c.id > bindparam("after", type_=BigInteger))
    .order_by(jobs_table.c.id)
    .limit(bindparam("most", type_=BigInteger))
)


def list_standing(connection: Connection, *, after: int, most: int) -> list[int]:
    """Jobs that have not ended, by rising id from the one after `after`."""
    plan_by_index(connection)
    return list(connection.scalars(_STANDING, {"after": after, "most": most}))


_TO_CORRECT = text(f"""
SELECT j.id FROM withdrawals.jobs j WHERE j.correct_due AND NOT {brake_correction.IS_LARGE} ORDER BY j.id LIMIT 1000
""")


ANY_TO_CORRECT = Step("jobs_to_correct", "SELECT EXISTS (SELECT FROM withdrawals.jobs WHERE correct_due)")
"""Whether there is a job to correct, a large one or another."""


def list_to_correct(connection: Connection) -> list[int]:
    """Jobs that were cancelled while a chunk was being decided: `finish` corrects those whose chunks are closed."""
    plan_by_index(connection)
    return list(connection.scalars(_TO_CORRECT, {"slice": brake_correction.SLICE}))


def cancel(connection: Connection, job_id: int, organisation_id: int) -> bool:
    """Cancel a job that has not ended; the claim reads this state. `finish` corrects what the brake counts of it."""
    standing = one_of(jobs_table.c.state, STANDING)
    ours = update(jobs_table).where(jobs_table.c.id == job_id, jobs_table.c.organisation_id == organisation_id)
    ended = {"state": JobState.CANCELLED, "finished_at": func.now(), "correct_due": True}
    return connection.execute(ours.where(standing).values(ended)).rowcount == 1


_AUDIT = insert(audit_table)


def audit(
    connection: Connection,
    *,
    organisation_id: int,
    actor: str,
    action: str,
    job_id: int | None = None,
    dead_letter_id: int | None = None,
    note: str | None = None,
    detail: str = "{}",
) -> None:
    """One row per act of a person or a producer; `detail` is JSON."""
    row = {"organisation_id": organisation_id, "actor": actor, "action": action, "job_id": job_id}
    row |= {"dead_letter_id": dead_letter_id, "note": note, "detail": json.loads(detail)}
    connection.execute(_AUDIT, row)


_AUDIT_EVENTS = text("""
INSERT INTO withdrawals.audit (organisation_id, actor, action, detail)
SELECT :organisation_id, g.actor, g.action, jsonb_build_object('source', g.source, 'external_id', g.person)
FROM unnest(CAST(:actors AS text[]), CAST(:actions AS text[]), CAST(:sources AS text[]), CAST(:persons AS text[]))
    WITH ORDINALITY AS g(actor, action, source, person, place) ORDER BY g.place
""")


def audit_events(connection: Connection, organisation_id: int, arrived: Sequence[ArrivedEvent]) -> None:
    """One audit row for each event about a person."""
    values = {
        "organisation_id": organisation_id,
        "actors": [one.actor for one in arrived],
        "actions": [one.event.type for one in arrived],
        "sources": [one.event.source for one in arrived],
        "persons": [one.external_id for one in arrived],
    }
    connection.execute(_AUDIT_EVENTS, values)


def organisations(connection: Connection) -> list[tuple[int, str, str]]:
    """Every organisation: id, name, time zone."""
    found = select(organisations_table.c.id, organisations_table.c.name, organisations_table.c.timezone)
    return [(row.id, row.name, row.timezone) for row in connection.execute(found.order_by(organisations_table.c.id))]


def timezone(connection: Connection, organisation_id: int) -> str:
    """The organisation's time zone, an IANA name."""
    its = select(organisations_table.c.timezone).where(organisations_table.c.id == organisation_id)
    return connection.scalar(its) or "UTC"


def database_now(connection: Connection) -> datetime:
    """The database's clock: the only one that decides anything."""
    now = connection.scalar(text("SELECT clock_timestamp()"))
    assert isinstance(now, datetime)  # noqa: S101 - for the type checker
    return now
