"""The files of scheduled reports: made one at a time, from one snapshot each, and kept in the database for a while.

Every web process sees a file there, and what is lost with a machine is made again. A file that is being made has a
lease: of a process that dies over it, or hangs, nothing is kept, and another makes it.
"""

import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from typing import IO, BinaryIO

import structlog
from sqlalchemy import Connection

from worker.config import Settings
from worker.database import Database
from worker.errors import InvalidInputError, NotFoundError
from worker.faults import describe
from worker.ledger import report_files, report_schedules
from worker.ledger.report_files import ClaimedFile, FileRecord
from worker.reports import exports, schedules
from worker.reports.exports import ExportAbandoned
from worker.reports.formats import Format
from worker.reports.reader import ReportReader
from worker.texts import mark, text

log = structlog.get_logger(__name__)

LARGEST = 500_000_000
"""Bytes of a file that is kept in the database."""
ATTEMPTS = 5
"""After so many a file has failed."""
_LEASE = timedelta(minutes=10)
_RENEW_EVERY = 30.0
_PART = 1 << 20
"""Bytes that are in memory at a time."""
_REST = timedelta(minutes=1)
"""After the first failure; four times as long after each other."""


def make_due(database: Database, settings: Settings, *, go_on: Callable[[], bool] = lambda: True) -> int:
    """Make the files that are due until there are none; how many attempts."""
    attempts = 0
    with closing(ReportReader.open(settings, database, pool_size=1)) as reader:
        while go_on():
            claimed = database.run(lambda connection: report_files.claim(connection, lease=_LEASE))
            if claimed is None:
                break
            attempts += 1
            _make(database, reader, claimed, go_on)
    return attempts


def show(database: Database, *, organisation_id: int, file_id: int) -> FileRecord:
    """A file.

    Raises:
        NotFoundError: this organisation has no such file, or it was kept long enough.
    """
    with database.begin() as connection:
        found = report_files.find(connection, organisation_id, file_id)
    if found is None:
        raise NotFoundError(
            text("there is no report file {file_id} in this organisation, or it was kept long enough", file_id=file_id)
        )
    return found


def copy_content(database: Database, *, organisation_id: int, file_id: int, sink: BinaryIO) -> None:
    """Copy the content of a file that is ready.

    Raises:
        NotFoundError: it is not whole any more: it was deleted meanwhile.
    """
    with database.begin() as connection:
        size = sum(sink.write(part) for part in report_files.read_parts(connection, organisation_id, file_id))
    found = show(database, organisation_id=organisation_id, file_id=file_id)
    if found.state != "ready" or found.size != size:
        raise NotFoundError(text("report file {file_id} is not ready, or was deleted", file_id=file_id))


def delete_old(database: Database, *, days: int) -> None:
    """Delete files that were kept long enough, a batch a round."""
    with database.begin() as connection:
        report_files.delete_old(connection, keep=timedelta(days=days))


def _make(database: Database, reader: ReportReader, claimed: ClaimedFile, go_on: Callable[[], bool]) -> None:
    """Make one attempt."""
    try:
        made = database.run(lambda connection: _end_if_it_must(connection, claimed))
        if made:
            with tempfile.TemporaryFile(prefix="withdrawals-report-") as spool:
                _write(database, reader, claimed, spool, go_on)
    except ExportAbandoned:  # this relay stops, or the file is not wanted any more
        database.run(lambda connection: report_files.try_later(connection, claimed, error=None, rest=timedelta()))
    except Exception as error:
        _record_failure(database, claimed, error)


def _end_if_it_must(connection: Connection, claimed: ClaimedFile) -> bool:
    """Whether it is to be made. Whoever scheduled it may still have it, else the schedule ends, and the file with it.

    A file whose attempts have all ended with their process is given up.
    """
    if claimed.attempts > ATTEMPTS:  # one that records its failure is not claimed again
        report_files.set_failed(connection, claimed, f"None of {ATTEMPTS} attempts came to its end.")
        return False
    organisation_id, schedule_id = claimed.organisation_id, claimed.schedule_id
    schedule = report_schedules.lock(connection, organisation_id, schedule_id)
    because = schedules.why_ended(connection, schedule) if schedule is not None else mark("The schedule has ended.")
    if because is None:
        return True
    report_files.set_failed(connection, claimed, because)
    if schedule is not None:
        schedules.end_by_itself(connection, schedule, because)
    return False


def _write(
    database: Database, reader: ReportReader, claimed: ClaimedFile, spool: IO[bytes], go_on: Callable[[], bool]
) -> None:
    renewed = time.monotonic()

    def abandoned() -> bool:
        nonlocal renewed
        if not go_on():
            return True
        if time.monotonic() - renewed < _RENEW_EVERY:
            return False
        renewed = time.monotonic()
        return not database.run(lambda connection: report_files.renew(connection, claimed, lease=_LEASE))

    schedule = schedules.show(database, organisation_id=claimed.organisation_id, schedule_id=claimed.schedule_id)
    wanted = schedules.filter_of(schedule, claimed.first_day, claimed.last_day)

    def export(source: Database) -> int:
        spool.seek(0)  # what a replica left that failed on the way
        spool.truncate()
        return exports.export(
            source,
            claimed.organisation_id,
            wanted,
            Format(schedule.format),
            spool,  # type: ignore[arg-type]
            names=schedule.names,
            abandoned=abandoned,
        )

    rows = reader.read(export).found
    size = spool.seek(0, 2)
    if size > LARGEST:
        raise InvalidInputError(text("the file has more than {size} MB. Narrow the filter.", size=LARGEST // 1_000_000))
    if database.run(lambda connection: _keep(connection, claimed, spool, rows, size)):
        log.info("report.made", file_id=claimed.id, organisation_id=claimed.organisation_id, rows=rows, bytes=size)


def _keep(connection: Connection, claimed: ClaimedFile, spool: IO[bytes], rows: int, size: int) -> bool:
    if not report_files.lock_claimed(connection, claimed):
        return False
    spool.seek(0)
    number = 0
    while part := spool.read(_PART):
        report_files.add_part(connection, claimed.id, number, part)
        number += 1
    report_files.set_ready(connection, claimed, rows=rows, size=size)
    return True


def _record_failure(database: Database, claimed: ClaimedFile, error: Exception) -> None:
    name, message, fingerprint = describe(error)
    said = str(error) if isinstance(error, InvalidInputError) else f"{name}: {message}"
    log.warning("report.failed", file_id=claimed.id, error_class=name, message=message, fingerprint=fingerprint)
    final = isinstance(error, InvalidInputError) or claimed.attempts >= ATTEMPTS
    rest = _REST * 4 ** (claimed.attempts - 1)

    def record(connection: Connection) -> None:
        if final:
            report_files.set_failed(connection, claimed, said)
        else:
            report_files.try_later(connection, claimed, error=said, rest=rest)

    database.run(record)
