"""Parquet files of rows that are about to be pruned: one for each organisation, table and step.

A file is complete and on disk before the record that names it commits. A step that fails leaves at most a file that no
record names.
"""

import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Connection,
    DateTime,
    Integer,
    SmallInteger,
    Table,
    Text,
    any_,
    bindparam,
    cast,
    select,
)
from sqlalchemy.types import String

from worker.ledger.fragments import among
from worker.models import attempts, audit, chunks, file_lines, outcomes, receipts, roster_lines
from worker.reports.formats import Column, ColumnType, Format, write

_ROWS = 10_000
_TABLES = {"receipts": receipts, "audit": audit}


def export_jobs(
    connection: Connection, organisation_id: int, job_ids: Sequence[int], directory: Path
) -> list[dict[str, Any]]:
    """Write the details of jobs of an organisation; name, rows and SHA-256 of each file."""
    of_jobs = select(chunks.c.id).where(among(chunks.c.job_id, job_ids))
    tables = (
        (outcomes, among(outcomes.c.job_id, job_ids)),
        (chunks, among(chunks.c.job_id, job_ids)),
        (attempts, attempts.c.chunk_id.in_(of_jobs)),
        (file_lines, among(file_lines.c.job_id, job_ids)),
    )
    made = [_export(connection, organisation_id, table, rows, directory) for table, rows in tables]
    return [one for one in made if one is not None]


def export_rows(
    connection: Connection, table: str, organisation_ids: Sequence[int], ids: Sequence[int], directory: Path
) -> dict[int, list[dict[str, Any]]]:
    """Write rows of the audit or the receipts; the files of each organisation."""
    source = _TABLES[table]
    made = {}
    for one in organisation_ids:
        rows = among(source.c.id, ids) & (source.c.organisation_id == one)
        file = _export(connection, one, source, rows, directory)
        made[one] = [file] if file else []
    return made


def export_lines(
    connection: Connection, organisation_id: int, roster_id: int, people: Sequence[str], directory: Path
) -> list[dict[str, Any]]:
    """Write lines of a roster, by their people; the file, if there is one."""
    chosen = roster_lines.c.external_id == any_(bindparam("people", list(people), ARRAY(Text)))
    file = _export(
        connection, organisation_id, roster_lines, (roster_lines.c.roster_id == roster_id) & chosen, directory
    )
    return [file] if file else []


def _export(
    connection: Connection, organisation_id: int, table: Table, rows: Any, directory: Path
) -> dict[str, Any] | None:
    columns = [Column(column.name, _type(column.type)) for column in table.columns]
    values = [column if _is_plain(column.type) else cast(column, Text) for column in table.columns]
    statement = select(*values).where(rows).order_by(*table.primary_key.columns)
    result = connection.execute(statement.execution_options(stream_results=True))

    def batches() -> Iterator[Sequence[Any]]:
        for part in result.partitions(_ROWS):
            yield [tuple(row) for row in part]

    name = f"{table.name}-organisation-{organisation_id}-{uuid4().hex}.parquet"
    part = directory / f"{name}.part"
    try:
        with part.open("xb") as sink:
            count = write(Format.PARQUET, table.name, columns, batches(), sink)
            sink.flush()
            os.fsync(sink.fileno())
        if not count:
            return None
        with part.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        part.rename(directory / name)
        _sync(directory)
    finally:
        part.unlink(missing_ok=True)
    return {"name": name, "rows": count, "sha256": digest}


def _is_plain(found: Any) -> bool:
    return isinstance(found, BigInteger | Integer | SmallInteger | DateTime | String)


def _type(found: Any) -> ColumnType:
    if isinstance(found, BigInteger | Integer | SmallInteger):
        return ColumnType.INTEGER
    return ColumnType.TIME if isinstance(found, DateTime) else ColumnType.TEXT


def _sync(directory: Path) -> None:
    """Make the file's name durable as well."""
    opened = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
