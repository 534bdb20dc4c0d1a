"""`withdrawals load`: sample enrolments for the platform's tables, for embedded use and tests."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import sqlalchemy.exc
from sqlalchemy import Connection, text

from ops.files import read_rows
from worker.database import Database, driver
from worker.errors import InvalidInputError
from worker.faults import driver_error
from worker.ids import parse_id

_REQUIRED = ("enrolment_id", "learner_external_id", "series_code", "pathway_title")


@dataclass(frozen=True, slots=True)
class Loaded:
    """How many enrolments a file created, and how many existed before."""

    organisation: str
    created: int
    existing: int


def load_file(database: Database, path: Path, organisation: str) -> Loaded:
    """Load a CSV file in one transaction: all rows or none.

    Raises:
        InvalidInputError: a row is invalid or its enrolment belongs to another organisation; names the line.
    """
    if not organisation.strip():
        raise InvalidInputError("--organisation: give a name")
    try:
        with database.begin() as connection:
            _stage(connection, path)
            return fill(connection, organisation)
    except (psycopg.errors.UniqueViolation, sqlalchemy.exc.IntegrityError) as error:
        detail = getattr(getattr(driver_error(error), "diag", None), "message_detail", "") or ""
        raise InvalidInputError(
            "a learner has two active enrolments in one series and pathway: " + re.sub(r"^Key ", "", detail)
        ) from None


def create_staging(connection: Connection) -> None:
    """Create the temporary table that `fill` reads; it is dropped with the transaction."""
    connection.execute(
        text("""
        CREATE TEMP TABLE loading (line bigint, id bigint PRIMARY KEY, learner text, series text, pathway text,
            status text, enrolled_at timestamptz, progress numeric) ON COMMIT DROP""")
    )


_FILL = """
INSERT INTO lms.organisations (name) VALUES (:name) ON CONFLICT (name) DO NOTHING;
INSERT INTO lms.learners (organisation_id, external_id)
    SELECT o.id, learner FROM lms.organisations o, (SELECT DISTINCT learner FROM pg_temp.loading) l
    WHERE o.name = :name ORDER BY learner ON CONFLICT (organisation_id, external_id) DO NOTHING;
INSERT INTO lms.series (organisation_id, code, title)
    SELECT o.id, series, series FROM lms.organisations o, (SELECT DISTINCT series FROM pg_temp.loading) s
    WHERE o.name = :name ORDER BY series ON CONFLICT (organisation_id, code) DO NOTHING;
INSERT INTO lms.pathways (organisation_id, title)
    SELECT o.id, pathway FROM lms.organisations o, (SELECT DISTINCT pathway FROM pg_temp.loading) p
    WHERE o.name = :name AND pathway IS NOT NULL ORDER BY pathway ON CONFLICT (organisation_id, title) DO NOTHING
"""
_OTHER_ORGANISATION = text("""
SELECT g.line, g.id FROM pg_temp.loading g JOIN lms.enrolments e ON e.id = g.id
JOIN lms.organisations o ON o.id = e.organisation_id WHERE o.name <> :name ORDER BY g.line LIMIT 1
""")
_ENROL = text("""
INSERT INTO lms.enrolments (id, organisation_id, learner_id, series_id, pathway_id, status, enrolled_at, progress)
SELECT g.id, o.id, l.id, s.id, p.id, g.status, g.enrolled_at, g.progress
FROM pg_temp.loading g JOIN lms.organisations o ON o.name = :name
JOIN lms.learners l ON l.organisation_id = o.id AND l.external_id = g.learner
JOIN lms.series s ON s.organisation_id = o.id AND s.code = g.series
LEFT JOIN lms.pathways p ON p.organisation_id = o.id AND p.title = g.pathway
ORDER BY g.id ON CONFLICT (id) DO NOTHING
""")


def fill(connection: Connection, organisation: str) -> Loaded:
    """Create the staged enrolments and the records they name, where missing. Existing ids stay as they are."""
    for statement in _FILL.split(";\n"):
        connection.execute(text(statement), {"name": organisation})
    foreign = connection.execute(_OTHER_ORGANISATION, {"name": organisation}).one_or_none()
    if foreign is not None:
        raise InvalidInputError(f"Line {foreign.line}: enrolment_id {foreign.id} is in use by another organisation")
    staged = int(connection.scalar(text("SELECT count(*) FROM pg_temp.loading")) or 0)
    created = connection.execute(_ENROL, {"name": organisation}).rowcount
    connection.execute(
        text("SELECT setval(pg_get_serial_sequence('lms.enrolments', 'id'), greatest(max(id), 1)) FROM lms.enrolments")
    )
    return Loaded(organisation, created, staged - created)


def _stage(connection: Connection, path: Path) -> None:
    create_staging(connection)
    seen: dict[int, int] = {}
    with (
        read_rows(path, required=_REQUIRED) as found,
        driver(connection).cursor().copy("COPY pg_temp.loading FROM STDIN") as copy,
    ):
        for line, row in found:
            enrolment_id = parse_id(row["enrolment_id"], f"Line {line}: enrolment_id")
            if enrolment_id in seen:
                raise InvalidInputError(
                    f"Line {line}: enrolment_id {enrolment_id} is also on line {seen[enrolment_id]}"
                )
            seen[enrolment_id] = line
            copy.write_row((line, enrolment_id, *_cells(line, row)))
    if not seen:
        raise InvalidInputError("the file has a header but no rows")


def _cells(line: int, row: dict[str, str]) -> tuple[object, ...]:
    for name in ("learner_external_id", "series_code"):
        if not row[name].strip():
            raise InvalidInputError(f"Line {line}: {name} is empty")
    enrolled = row.get("enrolled_at", "").strip()
    try:
        at = (datetime.fromisoformat(enrolled) if enrolled else datetime.now()).astimezone(UTC)
    except (ValueError, OverflowError):
        raise InvalidInputError(f"Line {line}: enrolled_at {enrolled[:40]!r} is not a date or time") from None
    progress = row.get("progress", "").strip() or "0"
    if not re.fullmatch(r"\d{1,9}(\.\d{1,9})?", progress):
        raise InvalidInputError(f"Line {line}: progress {progress[:40]!r} is not a number")
    return (
        row["learner_external_id"],  # names are kept as they are: with a space at its end it is another one
        row["series_code"],
        row["pathway_title"] if row["pathway_title"].strip() else None,
        row.get("status", "").strip() or "waiting_to_start",
        at,
        progress,
    )
