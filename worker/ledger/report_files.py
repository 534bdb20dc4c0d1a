"""The files of scheduled reports: which are due, what they became, and their content in parts."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Connection, delete, func, insert, literal, select, text, update

from worker.models import report_files, report_parts, report_schedules
from worker.one_message import Step

_F = report_files.c


@dataclass(frozen=True, slots=True)
class FileRecord:
    """A run of a schedule, and the file that it became."""

    id: int
    schedule_id: int
    organisation_id: int
    report: str
    format: str
    names: bool
    due_at: datetime
    first_day: date | None
    last_day: date | None
    state: str
    attempts: int
    last_error: str | None
    row_count: int | None
    size: int | None
    ended_at: datetime | None


_COLUMNS = (
    _F.id,
    _F.schedule_id,
    _F.organisation_id,
    report_schedules.c.report,
    report_schedules.c.format,
    report_schedules.c.names,
    _F.due_at,
    _F.first_day,
    _F.last_day,
    _F.state,
    _F.attempts,
    _F.last_error,
    _F.row_count,
    _F.size,
    _F.ended_at,
)
_FILES = select(*_COLUMNS).join(report_schedules, report_schedules.c.id == _F.schedule_id)


def list_files(
    connection: Connection, organisation_id: int, *, schedule_id: int | None = None, before: int | None, limit: int
) -> list[FileRecord]:
    """Files of an organisation, or of one schedule, newest first. `before`: the last id of the page before."""
    page = _FILES.where(_F.organisation_id == organisation_id)
    if schedule_id is not None:
        page = page.where(_F.schedule_id == schedule_id)
    if before is not None:
        page = page.where(_F.id < before)
    return [FileRecord(**row) for row in connection.execute(page.order_by(_F.id.desc()).limit(limit)).mappings()]


def find(connection: Connection, organisation_id: int, file_id: int) -> FileRecord | None:
    """A file of an organisation."""
    its = _FILES.where(_F.organisation_id == organisation_id, _F.id == file_id)
    row = connection.execute(its).mappings().one_or_none()
    return FileRecord(**row) if row else None


def read_parts(connection: Connection, organisation_id: int, file_id: int) -> Iterator[bytes]:
    """The content of a file that is ready, one part in memory at a time."""
    its = (_F.organisation_id == organisation_id, _F.id == file_id, _F.state == "ready")
    parts = select(report_parts.c.content).join(report_files, _F.id == report_parts.c.file_id).where(*its)
    in_order = parts.order_by(report_parts.c.number)
    for part in connection.scalars(in_order, execution_options={"yield_per": 1}):
        yield bytes(part)


@dataclass(frozen=True, slots=True)
class ClaimedFile:
    """A file that one process makes until its lease runs out."""

    id: int
    schedule_id: int
    organisation_id: int
    token: UUID
    attempts: int
    first_day: date | None
    last_day: date | None


_DUE = """f.state IN ('due', 'making') AND f.run_after <= clock_timestamp()
    AND (f.state = 'due' OR f.lease_until < clock_timestamp())"""
ANY_DUE = Step("files_due", f"SELECT EXISTS (SELECT FROM withdrawals.report_files f WHERE {_DUE})")
"""What `any_due` asks, as part of a message."""


def any_due(connection: Connection) -> bool:
    """Whether there is a file to make now."""
    return bool(connection.scalar(ANY_DUE.clause))


_CLAIM = text(f"""
WITH taken AS (
    SELECT f.id FROM withdrawals.report_files f WHERE {_DUE}
    ORDER BY f.run_after, f.id LIMIT 1 FOR UPDATE SKIP LOCKED
)
UPDATE withdrawals.report_files f SET state = 'making', token = :token, attempts = attempts + 1,
    lease_until = clock_timestamp() + :lease
FROM taken WHERE f.id = taken.id
RETURNING f.id, f.schedule_id, f.organisation_id, f.token, f.attempts, f.first_day, f.last_day
""")


def claim(connection: Connection, *, lease: timedelta) -> ClaimedFile | None:
    """Claim the file that has been due for longest; None: none is due."""
    row = connection.execute(_CLAIM, {"token": uuid4(), "lease": lease}).mappings().one_or_none()
    return ClaimedFile(**row) if row else None


def _still_ours(claimed: ClaimedFile) -> tuple[Any, ...]:
    return (
        _F.organisation_id == claimed.organisation_id,
        _F.id == claimed.id,
        _F.token == claimed.token,
        _F.state == "making",
    )


def renew(connection: Connection, claimed: ClaimedFile, *, lease: timedelta) -> bool:
    """Go on with a claim. False: another process has it, or nobody wants the file any more."""
    longer = {"lease_until": func.clock_timestamp() + literal(lease)}
    return connection.execute(update(report_files).where(*_still_ours(claimed)).values(longer)).rowcount == 1


def lock_claimed(connection: Connection, claimed: ClaimedFile) -> bool:
    """Whether the claim still stands; then the file is locked."""
    return connection.scalar(select(_F.id).where(*_still_ours(claimed)).with_for_update()) is not None


def add_part(connection: Connection, file_id: int, number: int, content: bytes) -> None:
    """Add a part to a file that is locked."""
    connection.execute(insert(report_parts), {"file_id": file_id, "number": number, "content": content})


def set_ready(connection: Connection, claimed: ClaimedFile, *, rows: int, size: int) -> None:
    """The file is whole. It is locked."""
    ready = {"state": "ready", "row_count": rows, "size": size, "last_error": None}
    ended = {"ended_at": func.now(), "lease_until": None}
    connection.execute(update(report_files).where(*_still_ours(claimed)).values({**ready, **ended}))


def set_failed(connection: Connection, claimed: ClaimedFile, error: str) -> None:
    """The file is tried no more."""
    failed = {"state": "failed", "last_error": error, "ended_at": func.now(), "lease_until": None}
    connection.execute(update(report_files).where(*_still_ours(claimed)).values(failed))


def try_later(connection: Connection, claimed: ClaimedFile, *, error: str | None, rest: timedelta) -> None:
    """Give the file back for another attempt. Without an error the attempt does not count."""
    again: dict[str, Any] = {"state": "due", "lease_until": None, "run_after": func.clock_timestamp() + literal(rest)}
    again |= {"attempts": _F.attempts - 1} if error is None else {"last_error": error}
    connection.execute(update(report_files).where(*_still_ours(claimed)).values(again))


def delete_of_schedule(connection: Connection, organisation_id: int, schedule_id: int) -> int:
    """Delete every file of a schedule, also one that is being made; how many."""
    its = (_F.organisation_id == organisation_id, _F.schedule_id == schedule_id)
    return connection.execute(delete(report_files).where(*its)).rowcount


_AT_ONCE = 10
"""Files that one round of the relay deletes: each may have hundreds of megabytes."""


ANY_OLD = Step(
    "files_old",
    "SELECT EXISTS (SELECT FROM withdrawals.report_files WHERE ended_at < now() - CAST(:keep AS interval))",
)
"""Whether `delete_old` finds any."""


def delete_old(connection: Connection, *, keep: timedelta) -> int:
    """Delete a few files that were kept long enough; how many."""
    old = select(_F.id).where(_F.ended_at < func.now() - literal(keep)).order_by(_F.ended_at).limit(_AT_ONCE)
    return connection.execute(delete(report_files).where(_F.id.in_(old))).rowcount
