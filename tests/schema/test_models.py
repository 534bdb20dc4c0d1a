"""The table metadata in `worker/models` is what the migrations make."""

from typing import Any

import pytest
import sqlalchemy
from sqlalchemy import Table
from sqlalchemy.dialects import postgresql
from sqlalchemy.types import TypeEngine

from worker.database import Database
from worker.models import metadata


# SQLAlchemy 2.1.0 stumbles over a check constraint that is NOT VALID, and goes on.
@pytest.mark.filterwarnings("ignore:Can't validate argument 'dialect_options'")
def test_the_metadata_is_the_migrated_schema(owner: Database) -> None:
    reflected = _reflect(owner, "lms") | _reflect(owner, "withdrawals")
    assert {table.fullname: _described(table) for table in metadata.tables.values()} == reflected


def _reflect(owner: Database, schema: str) -> dict[str, dict[str, Any]]:
    found = sqlalchemy.MetaData()
    found.reflect(owner.engine, schema=schema, views=True)
    return {
        table.fullname: _described(table)
        for table in found.tables.values()
        if table.schema == schema and table.name != "schema_version"
    }


def _described(table: Table) -> dict[str, Any]:
    """Name, type, nullability, key and reference of each column. A view has neither keys nor nullability of its own."""
    is_view = table.name in ("job_chunks", "letter_chunks")
    return {
        column.name: (
            _type(column.type),
            None if is_view else (column.nullable, column.primary_key),
            None if is_view else sorted(key.target_fullname for key in column.foreign_keys),
        )
        for column in sorted(table.columns, key=lambda one: one.name)
    }


def _type(found: TypeEngine[Any]) -> str:
    """The type in PostgreSQL's words; `varchar` without a length is `text` to it."""
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    name = str(found.compile(dialect=dialect))
    return {"VARCHAR": "TEXT", "FLOAT": "DOUBLE PRECISION"}.get(name, name)
