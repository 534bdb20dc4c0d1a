"""What `doctor` says about schema `lms`: tables, columns and types that the service needs, and its role's rights."""

from collections.abc import Iterator
from typing import Any

from sqlalchemy import BigInteger, Boolean, Column, Connection, DateTime, Numeric, String, Table, text
from sqlalchemy.types import TypeEngine

from ops import grants
from ops.doctor.findings import Finding
from worker import models
from worker.ledger.books.guards import KEPT

TABLES = (
    models.organisations, models.learners, models.series, models.pathways, models.enrolments, models.resource_access,
)  # fmt: skip
_TYPES: tuple[tuple[type[TypeEngine[Any]], tuple[str, ...]], ...] = (
    (BigInteger, ("bigint", "integer")),
    (Boolean, ("boolean",)),
    (DateTime, ("timestamp with time zone",)),
    (Numeric, ("numeric", "double precision", "real", "integer", "bigint")),
    (String, ("text", "character varying", "character", "citext")),
)
"""For each type of a column, the types of PostgreSQL that do; the first one is the contract's."""
_INSERTS = 8
"""A bit of `pg_relation_is_updatable`."""

_COLUMNS = text("""
SELECT c.relname AS name, c.relkind::text AS kind, pg_relation_is_updatable(c.oid, true) AS takes,
    array_agg(a.attname::text) AS columns, array_agg(pg_column_is_updatable(c.oid, a.attnum, true)) AS writable,
    array_agg(format_type(COALESCE(NULLIF(t.typbasetype, 0), t.oid), NULL)) AS types
FROM pg_class c
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
JOIN pg_type t ON t.oid = a.atttypid
WHERE c.relnamespace = to_regnamespace('lms') AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
GROUP BY c.oid, c.relname, c.relkind""")
_ONE_ACTIVE = text("""
SELECT EXISTS (SELECT FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid
    WHERE c.relnamespace = to_regnamespace('lms') AND c.relname = 'enrolments'
        AND i.indisunique AND i.indisvalid AND i.indnullsnotdistinct
        AND (SELECT array_agg(a.attname::text ORDER BY a.attname) FROM pg_attribute a
            WHERE a.attrelid = c.oid AND a.attnum = ANY(i.indkey)) = ARRAY['learner_id', 'pathway_id', 'series_id'])""")
_TOO_MUCH = text("""
SELECT r.name || ' ON lms.' || c.relname FROM pg_class c
CROSS JOIN (VALUES ('INSERT'), ('UPDATE'), ('DELETE'), ('TRUNCATE')) r(name)
WHERE c.relnamespace = to_regnamespace('lms') AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
    AND has_table_privilege(:role, c.oid, r.name)
UNION ALL
SELECT r.name || ' (' || a.attname || ') ON lms.' || c.relname FROM pg_class c
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
CROSS JOIN (VALUES ('INSERT'), ('UPDATE')) r(name)
WHERE c.relnamespace = to_regnamespace('lms') AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
    AND has_column_privilege(:role, c.oid, a.attnum, r.name) AND NOT has_table_privilege(:role, c.oid, r.name)
    AND r.name || ' lms.' || c.relname || '.' || a.attname <> ALL(:granted)
UNION ALL
SELECT r.name || ' ON withdrawals.' || t.name FROM unnest(CAST(:kept AS text[])) t(name)
CROSS JOIN (VALUES ('UPDATE'), ('DELETE'), ('TRUNCATE')) r(name)
WHERE has_table_privilege(:role, to_regclass('withdrawals.' || t.name), r.name)
ORDER BY 1""")


def shape(connection: Connection) -> list[Finding]:
    """Whether every table and column is there, with a type that does."""
    found = {row.name: row for row in connection.execute(_COLUMNS)}
    wrong: list[str] = []
    for table in TABLES:
        row = found.get(table.name)
        if row is None:
            wrong.append(f"there is no table or view lms.{table.name}: make one with the columns {_describe(table)}")
        else:
            wrong += _columns(table, dict(zip(row.columns, row.types, strict=True)))
            if row.kind in ("v", "m"):
                wrong += _writes(table.name, row.takes, dict(zip(row.columns, row.writable, strict=True)))
    findings = [Finding("wrong", "lms", what) for what in wrong]
    if not findings:
        findings.append(Finding("ok", "lms", f"{len(TABLES)} tables have the columns and types that are needed"))
    enrolments = found.get("enrolments")
    if enrolments is not None and enrolments.kind in ("r", "p") and not connection.scalar(_ONE_ACTIVE):
        advice = "lms.enrolments has no unique index that keeps one active enrolment per learner, series and pathway"
        findings.append(Finding("warn", "lms", f"{advice} (NULLS NOT DISTINCT): an undo may enrol somebody twice"))
    return findings


def rights(connection: Connection, role: str) -> list[Finding]:
    """Whether the role has the rights on schema `lms` that it needs, and none beyond them."""
    findings = []
    if missing := grants.missing(connection, role):
        sql = " ".join(grants.to_grant(missing, role))
        advice = f"role {role} lacks {', '.join(map(str, missing))}. As the owner of schema lms, run: {sql}"
        findings.append(Finding("wrong", "rights", advice))
    granted = [f"{right.privilege} {right.name}.{right.column}" for right in grants.needed() if right.column]
    too_much = list(connection.scalars(_TOO_MUCH, {"role": role, "granted": granted, "kept": list(KEPT)}))
    if too_much:
        sql = " ".join(f"REVOKE {right} FROM {role};" for right in too_much)
        findings.append(
            Finding("wrong", "role", f"role {role} may do too much. As the owner of the tables, run: {sql}")
        )
    else:
        findings.append(Finding("ok", "role", f"acts as {role}, which has no rights beyond those it needs"))
    return findings


def _columns(table: Table, types: dict[str, str]) -> Iterator[str]:
    for column in table.columns:
        wanted = _accepted(column)
        found = types.get(column.name)
        if found is None:
            yield f"lms.{table.name} has no column {column.name} ({wanted[0]})"
        elif found not in wanted:
            yield f"lms.{table.name}.{column.name} is {found}, needed {wanted[0]}"


def _writes(name: str, takes: int, writable: dict[str, bool]) -> Iterator[str]:
    """A view that is not a plain selection, or a column that is computed, takes writes only with a trigger."""
    advice = "make it a plain selection of one table, or give the view INSTEAD OF triggers"
    if name == "learners" and not takes & _INSERTS:
        yield f"lms.{name} is a view that takes no new rows: {advice}"
    for right in grants.needed():
        if right.privilege == "UPDATE" and right.name == f"lms.{name}" and writable.get(right.column or "") is False:
            yield f"lms.{name} is a view whose column {right.column} takes no writes: {advice}"


def _describe(table: Table) -> str:
    return ", ".join(f"{column.name} {_accepted(column)[0]}" for column in table.columns)


def _accepted(column: Column[object]) -> tuple[str, ...]:
    return next(names for kind, names in _TYPES if isinstance(column.type, kind))
