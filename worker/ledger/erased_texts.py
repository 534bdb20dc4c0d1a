"""What the ledger's rows say about a person in words: found in every column of text, JSON and lists of text.

The columns are those of `worker/models`, so that a new one is gone through without anybody thinking of it. What is
left out, and why, stands below; a test looks for a person in every column that there is.
"""

import json
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, quote_plus

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    Connection,
    Table,
    Text,
    and_,
    exists,
    func,
    or_,
    select,
    text,
    tuple_,
    update,
)
from sqlalchemy.dialects.postgresql import JSONB

from worker.ledger.books.audit_chain import RECORD_HASH
from worker.ledger.books.seals import SEALED, row_hash
from worker.models import chunks, metadata, runs

SHORTEST = 3
"""Characters of the shortest word that is looked for in texts."""
SPAN = 50_000
"""Ids of a table that one transaction goes through."""

_CLOSED_LISTS = {
    "kind", "reason", "source", "state", "status", "outcome", "prior_status", "code", "remedy", "act", "role", "type",
    "action", "result", "finding", "error_class", "held_because", "table_name", "list_name", "door", "on_deactivate",
}  # fmt: skip
"""Columns whose values the service chooses. `door` and `source` hold the name that an owner gave to an HR system."""
_FREE_TEXTS = {"approvals.reason", "protections.reason"}
"""Columns that people write, although others of that name are closed lists."""
_OTHER_COLUMNS = {
    "sources.name": "as `door`",
    "sources.secret": "sealed",
    "sources.previous_secret": "sealed",
    "endpoints.secret": "sealed",
    "endpoints.previous_secret": "sealed",
    "endpoints.url": "the address of a system",
    "endpoints.events": "a closed list",
    "organisation_settings.erasure_key": "sealed",
    "tokens.selector": "random",
    "erasures.pseudonym": "what stands in the person's place",
    # `erased_names.rename` writes these.
    "jobs.learner_external_id": "renamed",
    "jobs.deactivated_external_id": "renamed",
    "chunks.learner_external_id": "renamed",
    "dead_letters.learner_external_id": "renamed",
    "protections.learner_external_id": "renamed",
    "persons.external_id": "renamed",
    "person_events.external_id": "renamed",
    "scim_users.external_id": "renamed",
    "roster_lines.external_id": "renamed",
    "rosters.sha256": "of a whole roster",
    "rosters.missing": "a closed list",
    "report_schedules.report": "a closed list",
    "report_schedules.covers": "a closed list",
    "report_schedules.format": "a closed list",
    "report_schedules.every": "a closed list",
    "report_schedules.filter": "codes and numbers",
    "receipts.external_id": "an event that waits is in the way of an erasure; one that was applied names nobody",
}
_OTHER_TABLES = {
    "job_chunks": "a view",
    "letter_chunks": "a view",
    "uploads": "deleted whole: a workbook is compressed, and cannot be searched",
    "upload_parts": "with their upload",
    "report_files": "deleted whole: a workbook is compressed, and cannot be searched",
    "report_parts": "with their file",
    "prunes": "each record is chained to the one before; it names who pruned, and no learner",
    "pruned_withdrawals": "who asked, as the platform's rows have it; which rows is not known any more",
    "logout_tokens": "random ids of messages, kept for minutes",
    "sessions": "a browser's name; they end within hours",
    "leader": "names of steps and errors, of no organisation",
}
_KEYS = {"receipts": ("id",)}
"""Where the primary key may change: by what a row is found instead."""


@dataclass(frozen=True, slots=True)
class Words:
    """What to look for, and what to put in its place."""

    external_id: str
    pattern: re.Pattern[str]
    variants: tuple[str, ...]
    """What the database looks for: whatever `pattern` finds has one of these in it."""
    pseudonym: str
    shorten: Callable[[str], str]
    """A short keyed hash of a text."""

    @classmethod
    def of(cls, external_id: str, others: Sequence[str], pseudonym: str, shorten: Callable[[str], str]) -> "Words":
        """`others`: the address, names. They count as whole words, in any case and common encodings.

        A shorter word would be found in texts about others. So a very short external id counts only where JSON says
        that it is one.
        """
        terms = [term.strip() for term in (external_id, *others) if len(term.strip()) >= SHORTEST]
        written = sorted({one for term in terms for one in _variants(term)}, key=lambda one: (-len(one), one))
        either = "|".join(map(re.escape, written)) or "(?!)"
        pattern = re.compile(rf"(?<![^\W_])(?:{either})(?![^\W_])", re.IGNORECASE)
        in_json = json.dumps(external_id, ensure_ascii=False)
        return cls(external_id, pattern, (*written, in_json), pseudonym, shorten)

    def erase(self, value: Any) -> Any:
        """A value without the words: of a text, a list, or JSON with its keys."""
        if isinstance(value, str):
            return self.pattern.sub(self.pseudonym, value)
        if isinstance(value, list):
            return [self.erase(one) for one in value]
        if isinstance(value, dict):
            return {self.erase(name): self._erase_field(name, one) for name, one in value.items()}
        return value

    def _erase_field(self, name: str, value: Any) -> Any:
        is_person = name.endswith("external_id") and value == self.external_id
        return self.pseudonym if is_person else self.erase(value)

    def erase_key(self, value: str) -> str:
        """An idempotency key without the words; different keys stay different, in jobs and receipts alike."""
        erased: str = self.erase(value)
        return erased if erased == value else f"{erased}.{self.shorten(value)}"


def _variants(term: str) -> set[str]:
    forms = {unicodedata.normalize(form, term) for form in ("NFC", "NFD")} | {term}
    return {
        written
        for form in forms
        for written in (
            form, json.dumps(form)[1:-1], json.dumps(form, ensure_ascii=False)[1:-1], quote(form, safe=""),
            quote_plus(form), quote(form),
        )
    }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Searched:
    """The columns of a table that may say something about a person."""

    table: Table
    columns: tuple[str, ...]
    keys: tuple[str, ...]


def searched() -> list[Searched]:
    """Every table of the ledger that has such columns."""
    found = []
    for table in metadata.sorted_tables:
        if table.schema == "withdrawals" and table.name not in _OTHER_TABLES:
            columns = tuple(column.name for column in table.columns if _may_name(table, column))
            keys = _KEYS.get(table.name) or tuple(column.name for column in table.primary_key)
            if columns:
                found.append(Searched(table, columns, keys))
    return found


def _may_name(table: Table, column: ColumnElement[Any]) -> bool:
    name = str(column.name)
    holds_text = isinstance(column.type, Text | JSONB) or str(column.type) in ("VARCHAR", "TEXT")
    is_list = isinstance(column.type, ARRAY) and isinstance(column.type.item_type, Text)
    whole = f"{table.name}.{name}"
    is_closed = name in _CLOSED_LISTS and whole not in _FREE_TEXTS
    return (holds_text or is_list) and not is_closed and whole not in _OTHER_COLUMNS


def last_id(connection: Connection, table: Table) -> int | None:
    """The end of a table that is gone through by its ids; None: it is small, and read whole."""
    if "id" not in table.c or table.c.id.type.python_type is not int:
        return None
    return connection.scalar(select(func.coalesce(func.max(table.c.id), 0))) or 0


def erase(
    connection: Connection,
    organisation_id: int,
    one: Searched,
    words: Words,
    *,
    erasure_id: int | None,
    after: int | None = None,
) -> dict[str, int]:
    """Erase the words from a table's rows with ids after `after`, up to `SPAN`; None: from all. Rows by column.

    `erasure_id`: None: only count.
    """
    table = one.table
    columns = [table.c[name] for name in one.columns]
    said = func.concat_ws("\n", *(column.cast(Text) for column in columns))
    mentions = or_(*(said.icontains(variant, autoescape=True) for variant in words.variants))
    its = and_(_of_organisation(table, organisation_id), mentions)
    if after is not None:
        its = and_(its, table.c.id > after, table.c.id <= after + SPAN)
    keys = [table.c[name] for name in one.keys]
    found = select(*keys, *columns).where(its)
    rows = connection.execute(found if erasure_id is None else found.with_for_update()).all()
    counts: dict[str, int] = {}
    changes: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in rows:
        values = dict(zip(one.columns, row[len(keys) :], strict=True))
        erased = {name: _erased(words, name, value) for name, value in values.items()}
        changed = {name: value for name, value in erased.items() if value != values[name]}
        for name in changed:
            counts[f"{table.name}.{name}"] = counts.get(f"{table.name}.{name}", 0) + 1
        if changed:
            changes[tuple(row[: len(keys)])] = changed
    if erasure_id is not None and changes:
        with under_seal(connection, table.name, erasure_id, [key[0] for key in changes]):
            for key, changed in changes.items():
                connection.execute(update(table).where(tuple_(*keys) == key).values(changed))
                if table.name == "jobs" and "requested_by" in changed:
                    name = changed["requested_by"]
                    rename_withdrawn_by(connection, organisation_id=organisation_id, job_id=key[0], name=name)
    return counts


_LOCK_WITHDRAWN = text("""
SELECT e.id FROM lms.enrolments e WHERE e.organisation_id = :organisation
    AND e.id IN (SELECT o.enrolment_id FROM withdrawals.outcomes o
        WHERE o.job_id = :job AND o.outcome = 'withdrawn' AND o.reinstated_by IS NULL)
ORDER BY e.id FOR UPDATE
""")
_WITHDRAWN_BY = text("""
UPDATE lms.enrolments e SET withdrawn_by = :name FROM withdrawals.outcomes o
WHERE o.job_id = :job AND o.outcome = 'withdrawn' AND o.reinstated_by IS NULL AND e.id = o.enrolment_id
    AND e.organisation_id = :organisation AND e.withdrawn_at = o.decided_at
""")


def rename_withdrawn_by(connection: Connection, *, organisation_id: int, job_id: int, name: str) -> None:
    """What the platform has of somebody who asked for withdrawals is written with the job, which it is compared with.

    The rows are locked first: the trigger of a view would write back what they were before.
    """
    values = {"organisation": organisation_id, "job": job_id}
    connection.execute(_LOCK_WITHDRAWN, values)
    connection.execute(_WITHDRAWN_BY, {**values, "name": name})


def _erased(words: Words, name: str, value: Any) -> Any:
    return words.erase_key(value) if name == "idempotency_key" else words.erase(value)


def _of_organisation(table: Table, organisation_id: int) -> ColumnElement[bool]:
    if "organisation_id" in table.c:
        return table.c.organisation_id == organisation_id
    if table.name == "attempts":
        return exists().where(chunks.c.id == table.c.chunk_id, chunks.c.organisation_id == organisation_id)
    if table.name == "run_letters":
        return exists().where(runs.c.id == table.c.run_id, runs.c.organisation_id == organisation_id)
    raise AssertionError(f"say here how the rows of {table.name} belong to an organisation")


@contextmanager
def under_seal(connection: Connection, table: str, erasure_id: int, row_ids: Sequence[int]) -> Iterator[None]:
    """Put on record what the seal of a day has counted, before rows are changed, and what they have afterwards."""
    if table in SEALED and row_ids:
        values = {"table": table, "erasure": erasure_id, "rows": list(row_ids)}
        record = RECORD_HASH if table == "audit" else "NULL::bytea"
        connection.execute(text(_BEFORE.format(table=table, hash=row_hash(table), record=record)), values)
        yield
        connection.execute(text(_AFTER.format(table=table, hash=row_hash(table))), values)
    else:
        yield


_BEFORE = """
INSERT INTO withdrawals.erased_rows (table_name, row_id, erasure_id, sealed_hash, current_hash, record_hash)
SELECT :table, id, :erasure, {hash}, {hash}, {record} FROM withdrawals.{table} a WHERE id = ANY(CAST(:rows AS bigint[]))
ON CONFLICT (table_name, row_id) DO NOTHING
"""
_AFTER = """
UPDATE withdrawals.erased_rows x SET current_hash = now.hash, erasure_id = :erasure
FROM (SELECT id, {hash} AS hash FROM withdrawals.{table} WHERE id = ANY(CAST(:rows AS bigint[]))) now
WHERE x.table_name = :table AND x.row_id = now.id
"""
