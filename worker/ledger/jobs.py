"""Jobs from the door to their end: insert, fill with chunks, admit, cancel, finish."""

import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

from schemas.jobs import MAX_FILE_IDS
from worker.database import CHANNEL, driver
from worker.errors import InvalidInputError
from worker.rules import CLEAN, ENDED, WITHDRAWN

LANE_HR, LANE_LETTERS, LANE_BULK = 0, 1, 2
"""Deactivations go first, then attempts at letters, then everything else."""

_LOCK_SETTINGS = text("""
INSERT INTO withdrawals.organisation_settings (organisation_id) VALUES (:organisation_id)
ON CONFLICT (organisation_id) DO UPDATE SET organisation_id = excluded.organisation_id
""")


def lock_settings(connection: Connection, organisation_id: int) -> None:
    """Take the organisation's settings row, made if missing, so that admissions come one after the other."""
    connection.execute(_LOCK_SETTINGS, {"organisation_id": organisation_id})


_BY_KEY = text("""
SELECT id, request_hash FROM withdrawals.jobs
WHERE organisation_id = :organisation_id AND door = :door AND idempotency_key = :key
UNION ALL
SELECT job_id, request_hash FROM withdrawals.receipts
WHERE organisation_id = :organisation_id AND door = :door AND idempotency_key = :key
LIMIT 1
""")


def find_by_key(
    connection: Connection, *, organisation_id: int, door: str, key: str
) -> tuple[int | None, bytes] | None:
    """The job that a key has made already (None: an event without one), with the hash of its request."""
    row = connection.execute(_BY_KEY, {"organisation_id": organisation_id, "door": door, "key": key}).one_or_none()
    return (row.id, bytes(row.request_hash)) if row else None


_INSERT = text("""
INSERT INTO withdrawals.jobs (organisation_id, kind, reinstates, reason, source, requested_by, note, file_name,
    door, idempotency_key, request_hash, state, learner_external_id, epoch, accepted, duplicates, effective_at)
VALUES (:organisation_id, :kind, :reinstates, :reason, :source, :requested_by, :note, :file_name,
    :door, :key, :request_hash, 'scheduled', :learner_external_id, :epoch, :accepted, :duplicates,
    coalesce(:effective_at, now()))
ON CONFLICT (organisation_id, door, idempotency_key) DO NOTHING
RETURNING id, effective_at <= now() AS due
""")


def insert(connection: Connection, values: dict[str, Any]) -> tuple[int, bool] | None:
    """A new job and whether it is due, or None when the key was taken (by one that has committed)."""
    row = connection.execute(_INSERT, values).one_or_none()
    return (row.id, row.due) if row else None


FILL = """
INSERT INTO withdrawals.chunks (job_id, organisation_id, number, lane, enrolment_ids, size, state)
SELECT :job_id, :organisation_id, number, :lane, array_agg(id ORDER BY id), count(*), :state
FROM (SELECT id, (row_number() OVER (ORDER BY id) - 1) / :chunk_size AS number FROM ({ids}) ids) numbered
GROUP BY number
RETURNING size
"""
"""Freeze what `{ids}` selects into chunks."""
_FILL_LIST = text(FILL.format(ids="SELECT DISTINCT unnest(CAST(:ids AS bigint[])) AS id"))
# As above, and beside each chunk the lines on which its ids stood first.
_FILL_STAGED = text("""
WITH filled AS (
    SELECT number, array_agg(id ORDER BY id) AS ids, array_agg(line ORDER BY id) AS lines, count(*) AS size
    FROM (SELECT id, line, (row_number() OVER (ORDER BY id) - 1) / :chunk_size AS number
        FROM (SELECT enrolment_id AS id, min(line) AS line FROM pg_temp.staged GROUP BY 1) ids) numbered
    GROUP BY number),
kept AS (
    INSERT INTO withdrawals.file_lines (job_id, first_id, enrolment_ids, lines)
    SELECT :job_id, ids[1], ids, lines FROM filled)
INSERT INTO withdrawals.chunks (job_id, organisation_id, number, lane, enrolment_ids, size, state)
SELECT :job_id, :organisation_id, number, :lane, ids, size, :state FROM filled
RETURNING size
""")
FILTERED = f"""
    SELECT e.id FROM lms.enrolments e WHERE e.organisation_id = :organisation_id
        AND (CAST(:series_id AS bigint) IS NULL OR e.series_id = :series_id)
        AND (CAST(:pathway_id AS bigint) IS NULL OR e.pathway_id = :pathway_id)
        AND (CAST(:learner_ids AS bigint[]) IS NULL OR e.learner_id = ANY(:learner_ids))
        AND (CAST(:enrolled_before AS timestamptz) IS NULL OR e.enrolled_at < :enrolled_before)
        AND (CAST(:enrolled_after AS timestamptz) IS NULL OR e.enrolled_at > :enrolled_after)
        AND CASE WHEN CAST(:status AS text[]) IS NOT NULL THEN e.status = ANY(:status)
            ELSE e.status NOT IN ('{WITHDRAWN}', {", ".join(f"'{status}'" for status in ENDED)}) END"""
"""What a filter finds; without statuses, all that is neither ended nor withdrawn."""
_FILL_FILTER = text(FILL.format(ids=FILTERED))


def fill_from_list(connection: Connection, ids: Sequence[int], **chunk: Any) -> int:
    """Freeze ids into chunks; the number of distinct ids."""
    return sum(connection.scalars(_FILL_LIST, {"ids": list(ids), **chunk}))


def fill_from_filter(connection: Connection, conditions: dict[str, Any], **chunk: Any) -> int:
    """Freeze what a filter finds into chunks; without statuses, all that is neither ended nor withdrawn."""
    return sum(connection.scalars(_FILL_FILTER, {**conditions, **chunk}))


def fill_from_staged(connection: Connection, **chunk: Any) -> int:
    """Freeze the staged ids into chunks, and keep on which line each stood first; the number of distinct ids."""
    return sum(connection.scalars(_FILL_STAGED, chunk))


_FILL_PERSON = text("""
INSERT INTO withdrawals.chunks (job_id, organisation_id, number, lane, learner_external_id, size, state)
VALUES (:job_id, :organisation_id, 0, :lane, :learner_external_id, 1, :state)
""")


def fill_with_person(connection: Connection, learner_external_id: str, **chunk: Any) -> None:
    """One chunk that names the learner; what they are enrolled in is decided when it is applied."""
    values = {key: chunk[key] for key in ("job_id", "organisation_id", "lane", "state")}
    connection.execute(_FILL_PERSON, {"learner_external_id": learner_external_id, **values})


def stage(connection: Connection, rows: Iterable[tuple[int, int]]) -> tuple[int, str]:
    """Stream lines and ids into a temporary table; how many came, and the SHA-256 of them sorted, comma-separated.

    Raises:
        InvalidInputError: there are none, or more than a million.
    """
    connection.execute(text("SET LOCAL statement_timeout = 0"))
    connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))  # a pipe may be slow
    connection.execute(text("CREATE TEMP TABLE staged (line integer, enrolment_id bigint NOT NULL) ON COMMIT DROP"))
    with driver(connection).cursor().copy("COPY pg_temp.staged FROM STDIN") as copy:
        for count, row in enumerate(rows, start=1):
            if count > MAX_FILE_IDS:
                raise InvalidInputError(f"a file takes up to {MAX_FILE_IDS:,} rows; split it")
            copy.write_row(row)
    found = connection.execute(
        text("""
        SELECT count(*) AS given, encode(sha256(convert_to(
            coalesce(string_agg(enrolment_id::text, ',' ORDER BY enrolment_id), ''), 'UTF8')), 'hex') AS digest
        FROM pg_temp.staged""")
    ).one()
    if found.given == 0:
        raise InvalidInputError("the file has no rows; it needs at least one enrolment_id")
    return found.given, found.digest


_LET_OVERRIDE = text("""
UPDATE withdrawals.chunks SET override = true, override_pathway = :pathway_id WHERE job_id = :job_id
""")


def let_override(connection: Connection, job_id: int, *, pathway_id: int) -> None:
    """Let a new job withdraw what this pathway owns, and no other: an approver has decided so (rule 6)."""
    connection.execute(_LET_OVERRIDE, {"job_id": job_id, "pathway_id": pathway_id})


_SET_COUNTS = text("UPDATE withdrawals.jobs SET accepted = :accepted, duplicates = :duplicates WHERE id = :job_id")


def set_counts(connection: Connection, job_id: int, *, accepted: int, duplicates: int) -> None:
    """Write what only the database could count, in the transaction that inserts the job."""
    connection.execute(_SET_COUNTS, {"job_id": job_id, "accepted": accepted, "duplicates": duplicates})


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


_SCHEDULED_FOR = text("""
SELECT min(effective_at) FROM withdrawals.jobs WHERE id = ANY(:ids) AND state = 'scheduled' AND door = :door
""")


def scheduled_for(connection: Connection, job_ids: Sequence[int], *, door: str) -> datetime | None:
    """The earliest time that those of these jobs wait for which came through one door, None when none waits."""
    found: datetime | None = connection.scalar(_SCHEDULED_FOR, {"ids": list(job_ids), "door": door})
    return found


_DUE = text("""
SELECT id, organisation_id FROM withdrawals.jobs
WHERE state = 'scheduled' AND effective_at <= now() ORDER BY effective_at, id LIMIT :most
""")


def due(connection: Connection, *, most: int = 500) -> list[tuple[int, int]]:
    """Scheduled jobs that are due, with their organisations; the longest due first."""
    return [(row.id, row.organisation_id) for row in connection.execute(_DUE, {"most": most})]


_FINISH = f"""
UPDATE withdrawals.jobs j SET finished_at = now(), state = CASE
    WHEN NOT EXISTS (SELECT 1 FROM withdrawals.chunks c WHERE c.job_id = j.id AND c.redrives IS NULL
        AND c.state <> 'superseded') THEN CASE WHEN j.epoch IS NULL THEN 'completed' ELSE 'superseded' END
    WHEN EXISTS (SELECT 1 FROM withdrawals.chunks c, jsonb_object_keys(c.counts) AS outcome
        WHERE c.job_id = j.id AND c.redrives IS NULL
        AND outcome NOT IN ({", ".join(f"'{outcome}'" for outcome in sorted(CLEAN))})) THEN 'completed_with_exceptions'
    ELSE 'completed' END
WHERE {{which}} j.state IN ('scheduled', 'held', 'queued', 'paused')
    AND NOT EXISTS (SELECT 1 FROM withdrawals.chunks c WHERE c.job_id = j.id AND c.redrives IS NULL
        AND c.state IN ('waiting', 'ready', 'claimed'))
    AND (j.state = 'queued' OR j.state = 'paused' OR EXISTS (SELECT 1 FROM withdrawals.chunks c WHERE c.job_id = j.id))
RETURNING j.id, j.state
"""
_FINISH_THESE = text(_FINISH.format(which="j.id = ANY(:ids) AND"))
_FINISH_ANY = text(_FINISH.format(which=""))


def finish(connection: Connection, job_ids: Sequence[int] | None) -> list[tuple[int, str]]:
    """End those jobs (None: any) whose chunks are all decided; the jobs that ended, with their state.

    Its own guarded statement after the chunk's commit: of two workers that decide the last two chunks, the
    one that commits last sees both; the sweep repeats it should that one die.
    """
    if job_ids is None:
        return [(row.id, row.state) for row in connection.execute(_FINISH_ANY)]
    return [(row.id, row.state) for row in connection.execute(_FINISH_THESE, {"ids": list(job_ids)})]


_CANCEL = text("""
UPDATE withdrawals.jobs SET state = 'cancelled', finished_at = now()
WHERE id = :job_id AND organisation_id = :organisation_id
    AND state IN ('scheduled', 'held', 'queued', 'paused')
""")


def cancel(connection: Connection, job_id: int, organisation_id: int) -> bool:
    """Cancel a job that has not ended; the claim reads this state."""
    return connection.execute(_CANCEL, {"job_id": job_id, "organisation_id": organisation_id}).rowcount == 1


def notify(connection: Connection) -> None:
    """Tell the relay, when this transaction commits, that something is due."""
    connection.execute(text("SELECT pg_notify(:channel, '')"), {"channel": CHANNEL})


_AUDIT = text("""
INSERT INTO withdrawals.audit (organisation_id, actor, action, job_id, dead_letter_id, note, detail)
VALUES (:organisation_id, :actor, :action, :job_id, :dead_letter_id, :note, CAST(:detail AS jsonb))
""")


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
    values = {"organisation_id": organisation_id, "actor": actor, "action": action, "job_id": job_id}
    connection.execute(_AUDIT, {**values, "dead_letter_id": dead_letter_id, "note": note, "detail": detail})


_EXISTING = text("SELECT id, name, timezone FROM lms.organisations ORDER BY id")


def organisations(connection: Connection) -> list[tuple[int, str, str]]:
    """Every organisation: id, name, time zone."""
    return [(row.id, row.name, row.timezone) for row in connection.execute(_EXISTING)]


def timezone(connection: Connection, organisation_id: int) -> str:
    """The organisation's time zone, an IANA name."""
    found = connection.scalar(text("SELECT timezone FROM lms.organisations WHERE id = :id"), {"id": organisation_id})
    return str(found or "UTC")


def database_now(connection: Connection) -> datetime:
    """The database's clock: the only one that decides anything."""
    now = connection.scalar(text("SELECT clock_timestamp()"))
    assert isinstance(now, datetime)  # noqa: S101 - for the type checker
    return now
