"""Files that were sent, kept for a day in parts, so that whoever has looked at a plan does not send the file again."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID, uuid4

from sqlalchemy import Connection, delete, func, insert, literal, select, text

from worker.models import upload_parts, uploads
from worker.one_message import Step


@dataclass(frozen=True, slots=True)
class Upload:
    """A file that was sent. `faults`: the name that its file of faults has, None if it has none."""

    id: UUID
    file_name: str | None
    faults: str | None
    created_at: datetime


def insert_upload(connection: Connection, organisation_id: int, *, requested_by: str, file_name: str | None) -> Upload:
    """Begin to keep a file."""
    row = {"id": uuid4(), "organisation_id": organisation_id, "requested_by": requested_by, "file_name": file_name}
    made = connection.execute(insert(uploads).values(row).returning(uploads.c.id, uploads.c.created_at)).one()
    return Upload(made.id, file_name, None, made.created_at)


def add_part(connection: Connection, upload_id: UUID, kind: str, number: int, content: bytes) -> None:
    """Keep a part of the file (`kind`: `file`), or of its rows with faults (`faults`)."""
    row = {"upload_id": upload_id, "kind": kind, "number": number, "content": content}
    connection.execute(insert(upload_parts), row)


_NAME_FAULTS = text("""
UPDATE withdrawals.uploads SET faults = :name WHERE id = :id AND organisation_id = :organisation_id
""")


def begin_faults(connection: Connection, organisation_id: int, upload_id: UUID, name: str | None) -> None:
    """Forget the rows with faults of an earlier look, and name the file of the new ones; None: there are none."""
    connection.execute(_NAME_FAULTS, {"id": upload_id, "organisation_id": organisation_id, "name": name})
    connection.execute(_FORGET_FAULTS, {"id": upload_id})


_FORGET_FAULTS = text("DELETE FROM withdrawals.upload_parts WHERE upload_id = :id AND kind = 'faults'")


def find_upload(connection: Connection, organisation_id: int, *, requested_by: str, upload_id: UUID) -> Upload | None:
    """A file that this requester has sent."""
    found = select(uploads.c.id, uploads.c.file_name, uploads.c.faults, uploads.c.created_at).where(
        uploads.c.id == upload_id,
        uploads.c.organisation_id == organisation_id,
        uploads.c.requested_by == requested_by,
    )
    row = connection.execute(found).one_or_none()
    return Upload(*row) if row else None


def read_parts(connection: Connection, upload_id: UUID, kind: str) -> Iterator[bytes]:
    """The content of a file, one part in memory at a time; whole, also when it is forgotten meanwhile."""
    of_file = upload_parts.c.upload_id == upload_id, upload_parts.c.kind == kind
    in_order = select(upload_parts.c.content).where(*of_file).order_by(upload_parts.c.number)
    for part in connection.scalars(in_order, execution_options={"yield_per": 1}):
        yield bytes(part)


def delete_more(connection: Connection, organisation_id: int, *, requested_by: str, most: int) -> None:
    """Delete the oldest files of a requester beyond so many."""
    kept = (
        select(uploads.c.id)
        .where(uploads.c.organisation_id == organisation_id, uploads.c.requested_by == requested_by)
        .order_by(uploads.c.created_at.desc(), uploads.c.id)
        .offset(most)
    )
    connection.execute(delete(uploads).where(uploads.c.organisation_id == organisation_id, uploads.c.id.in_(kept)))


_AT_ONCE = 10
"""Files that one round of the relay deletes: each may have a hundred megabytes."""


ANY_OLD = Step(
    "uploads_old",
    "SELECT EXISTS (SELECT FROM withdrawals.uploads WHERE created_at < now() - CAST(:keep AS interval))",
)
"""Whether `delete_old` finds any."""


def delete_old(connection: Connection, *, keep: timedelta) -> int:
    """Delete a few files that were kept long enough; how many."""
    old = select(uploads.c.id).where(uploads.c.created_at < func.now() - literal(keep)).limit(_AT_ONCE)
    return connection.execute(delete(uploads).where(uploads.c.id.in_(old))).rowcount
