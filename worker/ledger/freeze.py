"""Freeze a selection into chunks: which ids are in them is decided when a job is accepted, and never changes."""

import hashlib
import struct
import sys
from array import array
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import (
    BigInteger,
    Connection,
    Integer,
    Select,
    SmallInteger,
    Text,
    bindparam,
    column,
    func,
    insert,
    select,
    text,
    true,
)
from sqlalchemy.dialects.postgresql import aggregate_order_by
from sqlalchemy.sql.dml import ReturningInsert

from schemas.jobs import Filter
from worker.database import driver
from worker.errors import InvalidInputError
from worker.ledger import enrolment_filter
from worker.models import Ids
from worker.models import chunks as chunks_table
from worker.records import NewChunks
from worker.texts import text as say


class NoRowsError(InvalidInputError):
    """The file has no row that names an enrolment."""


def _insert(ids: Select[Any]) -> ReturningInsert[Any]:
    """The statement that freezes what a query finds (one column `id`, distinct) into chunks by rising id.

    All ids become one array, of which each chunk is a slice: half of what it takes to number every row and to group
    the rows by their numbers. The server needs about 25 bytes of memory for each id meanwhile.
    """
    found = ids.subquery("ids")
    listed = select(func.array_agg(aggregate_order_by(found.c.id, found.c.id), type_=Ids).label("ids")).cte("listed")
    size = bindparam("chunk_size", type_=Integer)
    last = (func.cardinality(listed.c.ids, type_=Integer) - 1) // size
    numbers = func.generate_series(0, last).table_valued(column("number", Integer)).render_derived()
    number = numbers.c.number
    part = listed.c.ids[number * size + 1 : (number + 1) * size].label("part")
    parts = select(number, part).select_from(listed.join(numbers, true())).subquery("parts")
    one = func.unnest(parts.c.part).column_valued("one")
    digest = select(func.bit_xor(func.hashint8extended(one, bindparam("job_id", type_=BigInteger)))).scalar_subquery()
    rows = select(
        bindparam("job_id", type_=BigInteger),
        bindparam("organisation_id", type_=BigInteger),
        bindparam("lane", type_=SmallInteger),
        bindparam("state", type_=Text),
        parts.c.number,
        parts.c.part,
        func.cardinality(parts.c.part),
        digest,
    )
    columns = ["job_id", "organisation_id", "lane", "state", "number", "enrolment_ids", "size", "digest"]
    return insert(chunks_table).from_select(columns, rows).returning(chunks_table.c.size)


def selected(connection: Connection, found: Select[Any], chunks: NewChunks) -> int:
    """Freeze what a query finds (one column `id`, distinct) into chunks by rising id; the number of ids."""
    return sum(connection.scalars(_insert(found), _values(chunks)))


_INSERT_LISTED = _insert(select(func.unnest(bindparam("ids", type_=Ids)).label("id")).distinct())


def ids(connection: Connection, given: Sequence[int], chunks: NewChunks) -> int:
    """Freeze listed ids; the number of distinct ones."""
    return sum(connection.scalars(_INSERT_LISTED, {**_values(chunks), "ids": list(given)}))


def filtered(connection: Connection, conditions: Filter, chunks: NewChunks) -> int:
    """Freeze what a filter finds; the number of ids."""
    return selected(connection, enrolment_filter.ids(chunks.organisation_id, conditions), chunks)


_INSERT_PERSON = insert(chunks_table)


def person(connection: Connection, learner_external_id: str, chunks: NewChunks) -> None:
    """One chunk that names the learner; what they are enrolled in is found when it is decided."""
    row = _values(chunks) | {"number": 0, "learner_external_id": learner_external_id, "size": 1}
    row.pop("chunk_size")
    connection.execute(_INSERT_PERSON, row)


# The first line of each id is kept beside the chunks and not in them, because chunks are split. DISTINCT ON, because it
# sorts: with GROUP BY the planner, which knows nothing of a temporary table, hashes a million ids to disk. In slices of
# arrays, as `_insert` does it.
_STAGED = text("""
WITH listed AS MATERIALIZED (
    SELECT array_agg(id ORDER BY id) AS ids, array_agg(line ORDER BY id) AS lines
    FROM (SELECT DISTINCT ON (enrolment_id) enrolment_id AS id, line FROM pg_temp.staged ORDER BY 1, 2) i),
filled AS MATERIALIZED (
    SELECT n AS number, ids[n * :chunk_size + 1 : (n + 1) * :chunk_size] AS ids,
        lines[n * :chunk_size + 1 : (n + 1) * :chunk_size] AS lines
    FROM listed, generate_series(0, (cardinality(ids) - 1) / :chunk_size) n),
kept AS (
    INSERT INTO withdrawals.file_lines (job_id, first_id, enrolment_ids, lines)
    SELECT :job_id, ids[1], ids, lines FROM filled)
INSERT INTO withdrawals.chunks (job_id, organisation_id, number, lane, enrolment_ids, size, state, digest)
SELECT :job_id, :organisation_id, number, :lane, ids, cardinality(ids), :state,
    (SELECT bit_xor(hashint8extended(i.id, CAST(:job_id AS bigint))) FROM unnest(ids) i(id)) FROM filled
RETURNING size
""")


def staged(connection: Connection, chunks: NewChunks) -> int:
    """Freeze the staged ids, and keep on which line each stood first; the number of distinct ids."""
    return sum(connection.scalars(_STAGED, _values(chunks)))


_DIGEST = text("""
SELECT count(*) AS given, encode(sha256(convert_to(
    coalesce(string_agg(enrolment_id::text, ',' ORDER BY enrolment_id), ''), 'UTF8')), 'hex') AS digest
FROM pg_temp.staged
""")


def stage(connection: Connection, rows: Iterable[tuple[Sequence[int], Sequence[int]]]) -> tuple[int, str]:
    """Stream lines and ids into a temporary table; how many came, and the SHA-256 of them sorted, comma-separated.

    Raises:
        NoRowsError: there are none.
    """
    connection.execute(text("SET LOCAL statement_timeout = 0"))
    connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))  # a pipe may be slow
    connection.execute(text("CREATE TEMP TABLE staged (line integer, enrolment_id bigint NOT NULL) ON COMMIT DROP"))
    rising = _Rising()
    with driver(connection).cursor().copy("COPY pg_temp.staged FROM STDIN (FORMAT binary)") as copy:
        copy.write(b"PGCOPY\n\xff\r\n\0" + bytes(8))
        for lines, ids in rows:
            copy.write(_as_binary(lines, ids))
            rising.add(ids)
        copy.write(b"\xff\xff")
    if rising.count:
        return rising.count, rising.digest
    found = connection.execute(_DIGEST).one()
    if found.given == 0:
        raise NoRowsError(say("the file has no rows; it needs at least one enrolment_id"))
    return found.given, found.digest


class _Rising:
    """Count and SHA-256 of ids that come in their order, so that the server need not sort them; else the count is 0."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._last = 0
        self._is_rising = True
        self.count = 0

    @property
    def digest(self) -> str:
        return self._hash.hexdigest()

    def add(self, ids: Sequence[int]) -> None:
        """Add ids behind the others."""
        self._is_rising = self._is_rising and ids[0] >= self._last and sorted(ids) == list(ids)
        if not self._is_rising:
            self.count = 0
            return
        self._hash.update(("," * bool(self.count) + ",".join(map(str, ids))).encode())
        self._last = ids[-1]
        self.count += len(ids)


_ROW = struct.Struct("!hiiiq")
"""A row of binary COPY: the number of its columns, then of each its length and its value."""


def _as_binary(lines: Sequence[int], ids: Sequence[int]) -> bytearray:
    """Rows for COPY. Their values are put in byte by byte for all rows at once, a tenth of the time of row by row."""
    rows = bytearray(_ROW.pack(2, 4, 0, 8, 0) * len(ids))
    for values, size, at in ((array("i", lines), 4, 6), (array("q", ids), 8, 14)):
        if sys.byteorder == "little":
            values.byteswap()
        raw = values.tobytes()
        for byte in range(size):
            rows[at + byte :: _ROW.size] = raw[byte::size]
    return rows


def _values(chunks: NewChunks) -> dict[str, Any]:
    return {
        "job_id": chunks.job_id,
        "organisation_id": chunks.organisation_id,
        "lane": chunks.lane,
        "state": chunks.state,
        "chunk_size": chunks.size,
    }
