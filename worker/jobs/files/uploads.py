"""Files that are kept for a day: a large file is sent once, and its plan and its confirmation name it.

They are kept in the database: every web process sees them there, they are gone with a transaction that fails, and a
backup or a server that is lost leaves nothing of them on another disk. Whoever sent a file reads it, and nobody else.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from typing import IO
from uuid import UUID

from sqlalchemy import Connection

from worker.database import Database
from worker.errors import NotFoundError
from worker.jobs.submit import file_name
from worker.ledger import uploads as ledger
from worker.ledger.uploads import Upload
from worker.texts import text

KEPT = timedelta(days=1)
"""For how long."""
NOT_KEPT = text("there is no such upload of yours. A file is kept for a day. Send it again.")
_MOST = 20
"""Files that are kept of one requester; an older one is forgotten."""
_PART = 1 << 20
"""Bytes that are in memory at a time."""


def keep(
    connection: Connection, organisation_id: int, *, requested_by: str, name: str | None, stream: IO[bytes] | None
) -> Upload:
    """Keep a file for a day, in the caller's transaction; without `stream`, only the place for its rows with faults."""
    made = ledger.insert_upload(
        connection, organisation_id, requested_by=requested_by, file_name=file_name(name)
    )  # fmt: skip
    if stream is not None:
        _add(connection, made.id, "file", stream)
    ledger.delete_more(connection, organisation_id, requested_by=requested_by, most=_MOST)
    return made


def keep_faults(
    connection: Connection, organisation_id: int, upload: Upload, faults: IO[bytes] | None, suffix: str
) -> None:
    """Keep the rows with faults beside their file, in place of earlier ones; None: there are none any more."""
    name = None if faults is None else faults_name(upload.file_name, suffix)
    ledger.begin_faults(connection, organisation_id, upload.id, name)
    if faults is not None:
        _add(connection, upload.id, "faults", faults)


def faults_name(name: str | None, suffix: str) -> str:
    """The name of the file of faults of a file: `leavers faults.csv`."""
    stem = (name or "file").rsplit(".", 1)[0][:200] or "file"
    return f"{stem} faults.{suffix}"


def find(database: Database, organisation_id: int, *, requested_by: str, upload_id: UUID) -> Upload:
    """A file that this requester sent.

    Raises:
        NotFoundError: they sent none with this id, or it is more than a day ago.
    """
    with database.begin() as connection:
        found = ledger.find_upload(connection, organisation_id, requested_by=requested_by, upload_id=upload_id)
    if found is None:
        raise NotFoundError(NOT_KEPT)
    return found


@contextmanager
def opened(database: Database, upload: Upload, kind: str = "file") -> Iterator[IO[bytes]]:
    """The content of a file, or of its rows with faults, as a temporary file.

    Raises:
        NotFoundError: it is not kept any more.
    """
    with tempfile.TemporaryFile() as copy:
        with database.begin() as connection:
            for part in ledger.read_parts(connection, upload.id, kind):
                copy.write(part)
        if not copy.tell():
            raise NotFoundError(NOT_KEPT)
        copy.seek(0)
        yield copy


def delete_old(database: Database) -> int:
    """Forget a few of the files that were kept for a day; how many."""
    return database.run(partial(ledger.delete_old, keep=KEPT))


def _add(connection: Connection, upload_id: UUID, kind: str, stream: IO[bytes]) -> None:
    stream.seek(0)
    for number, part in enumerate(iter(lambda: stream.read(_PART), b"")):
        ledger.add_part(connection, upload_id, kind, number, part)
