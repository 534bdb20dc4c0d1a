"""What can be found by words: the table of keys, kept by the relay, and what the platform has under them.

The platform's tables say neither what changed nor when, and may be views: they are read by rising id, a page at a time.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ARRAY, Connection, Integer, and_, bindparam, func, select, text

from worker.ids import LARGEST
from worker.models import enrolments, findable, jobs, learners, organisation_settings, series
from worker.one_message import Step

LEARNER, SERIES = "learner", "series"
"""The kinds of what is found by words."""
_TABLES = {LEARNER: "lms.learners", SERIES: "lms.series"}
_NAMES = {LEARNER: "external_id, display_name, email", SERIES: "code, title"}
"""Of each kind, its names as text."""

_LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended('withdrawals.findable', 0))")


def lock(connection: Connection) -> None:
    """Let nobody else write the table until this transaction ends.

    An erasure takes it too, after its locks of rows; whoever keeps the table locks no rows but its own. So a person is
    either seen as erased when their page is written, or deleted from it.
    """
    connection.execute(_LOCK)


_BY_INDEX = text("SELECT set_config('enable_seqscan', 'off', true)")


def use_indexes(connection: Connection) -> None:
    """Let this transaction use the indexes of keys and ids, whatever the planner thinks.

    The table has no statistics of keys, and those of ids are old while it is filled.
    """
    connection.execute(_BY_INDEX)


@dataclass(frozen=True, slots=True)
class Changed:
    """A row of the platform whose keys are missing or old."""

    platform_id: int
    organisation_id: int
    names: tuple[str | None, ...]
    """Of a learner: external id, name, e-mail address. Of a Series: code, title."""
    digest: int

    @property
    def external_id(self) -> str:
        """Of a learner."""
        return self.names[0] or ""


@dataclass(frozen=True, slots=True)
class Page:
    """The next rows of the platform by rising id."""

    until: int
    """The last id that it covers. What the table has up to it, and the platform has not, is gone."""
    last: int
    """The last id that was read; where the page began if there was none."""
    changed: list[Changed]

    @property
    def is_last(self) -> bool:
        return self.until == LARGEST

    def cut(self, most: int) -> "Page":
        """The beginning of the page, with up to `most` changed rows."""
        if len(self.changed) <= most:
            return self
        last = self.changed[most - 1].platform_id
        return Page(last, last, self.changed[:most])


# Both sides of a join bear the bounds of the page: else the planner, who does not know them, may read a whole table.
_LAST = {
    kind: text(f"""
    SELECT max(id) AS last, count(*) AS size
    FROM (SELECT id FROM {table} WHERE id > :after ORDER BY id LIMIT :most) page
    """)
    for kind, table in _TABLES.items()
}
_CHANGED = {
    kind: text(f"""
    SELECT p.* FROM (
        SELECT id, organisation_id, ARRAY[{names}] AS names,
            hashtextextended(concat_ws(chr(31), CAST(:rules AS text), organisation_id, {names}), 0) AS digest
        FROM {_TABLES[kind]} WHERE id > :after AND id <= :last
    ) p LEFT JOIN withdrawals.findable f
        ON f.kind = :kind AND f.platform_id = p.id AND f.platform_id > :after AND f.platform_id <= :last
    WHERE f.digest IS DISTINCT FROM p.digest ORDER BY p.id
    """)
    for kind, names in _NAMES.items()
}


def read_page(connection: Connection, kind: str, *, after: int, most: int, rules: int) -> Page:
    """What has changed among the next rows of the platform behind `after`. `rules`: as their keys are made now."""
    bounds = connection.execute(_LAST[kind], {"after": after, "most": most}).one()
    last = bounds.last or after
    values = {"kind": kind, "after": after, "last": last, "rules": rules}
    rows = connection.execute(_CHANGED[kind], values)
    changed = [Changed(row.id, row.organisation_id, tuple(row.names), row.digest) for row in rows]
    return Page(last if bounds.size == most else LARGEST, last, changed)


_WRITE = text("""
INSERT INTO withdrawals.findable AS f (kind, platform_id, organisation_id, digest, parts)
SELECT :kind, n.platform_id, n.organisation_id, n.digest, CAST(n.parts AS integer[])
FROM unnest(
    CAST(:ids AS bigint[]), CAST(:organisations AS bigint[]), CAST(:digests AS bigint[]), CAST(:parts AS text[])
) AS n (platform_id, organisation_id, digest, parts)
ON CONFLICT (kind, platform_id) DO UPDATE
SET organisation_id = excluded.organisation_id, digest = excluded.digest, parts = excluded.parts
""")


def write(connection: Connection, kind: str, rows: Sequence[tuple[Changed, Sequence[int]]]) -> None:
    """Write changed rows with their keys."""
    if rows:
        values = {
            "kind": kind,
            "ids": [row.platform_id for row, _ in rows],
            "organisations": [row.organisation_id for row, _ in rows],
            "digests": [row.digest for row, _ in rows],
            "parts": ["{" + ",".join(map(str, keys)) + "}" for _, keys in rows],  # lists of different lengths
        }
        connection.execute(_WRITE, values)


_DELETE_GONE = {
    kind: text(f"""
    DELETE FROM withdrawals.findable f WHERE f.kind = :kind AND f.platform_id > :after AND f.platform_id <= :until
        AND NOT EXISTS (SELECT FROM {table} p WHERE p.id = f.platform_id AND p.id > :after AND p.id <= :until)
    """)
    for kind, table in _TABLES.items()
}


def delete_gone(connection: Connection, kind: str, *, after: int, until: int) -> int:
    """Delete what the platform does not have any more, between two ids; how many."""
    return connection.execute(_DELETE_GONE[kind], {"kind": kind, "after": after, "until": until}).rowcount


def highest(connection: Connection, kind: str) -> int:
    """The highest id of the platform that the table has; 0: it has none."""
    return connection.scalar(select(func.max(findable.c.platform_id)).where(findable.c.kind == kind)) or 0


ANY_NEW = Step(
    "findable_new",
    f"""
SELECT coalesce((SELECT max(id) FROM {_TABLES[LEARNER]}) > CAST(:{LEARNER} AS bigint), false)
    OR coalesce((SELECT max(id) FROM {_TABLES[SERIES]}) > CAST(:{SERIES} AS bigint), false)
""",
)
"""Whether the platform has a higher id than one of these."""


def highest_of_platform(connection: Connection) -> dict[str, int]:
    """By kind, the highest id that the platform has."""
    row = connection.execute(
        select(
            select(func.max(learners.c.id)).scalar_subquery().label(LEARNER),
            select(func.max(series.c.id)).scalar_subquery().label(SERIES),
        )
    ).one()
    return {kind: found or 0 for kind, found in row._mapping.items()}


def list_erasure_keys(connection: Connection, organisation_ids: Sequence[int]) -> dict[int, str]:
    """The sealed keys by which organisations know their erased persons, of those that have erased anybody."""
    its = organisation_settings.c
    found = select(its.organisation_id, its.erasure_key).where(
        its.organisation_id.in_(organisation_ids), its.erasure_key.is_not(None)
    )
    return {row.organisation_id: row.erasure_key for row in connection.execute(found)}


# The keys name the organisation and the kind; a key that is another's by chance is left out by the join.
_WITH_KEYS = (
    select(findable.c.kind, findable.c.platform_id, findable.c.organisation_id)
    .where(findable.c.parts.op("@>")(bindparam("keys", type_=ARRAY(Integer))))
    .limit(bindparam("most"))
    .cte("found")
    .prefix_with("MATERIALIZED")
)


@dataclass(frozen=True, slots=True)
class FoundLearner:
    """A learner as the platform has them now."""

    id: int
    external_id: str
    display_name: str | None
    email: str | None
    active: bool


@dataclass(frozen=True, slots=True)
class FoundSeries:
    """A Series as the platform has it now."""

    id: int
    code: str
    title: str


_FIND_LEARNERS = select(
    learners.c.id, learners.c.external_id, learners.c.display_name, learners.c.email, learners.c.active
).join(
    _WITH_KEYS,
    and_(
        _WITH_KEYS.c.platform_id == learners.c.id,
        _WITH_KEYS.c.kind == LEARNER,
        _WITH_KEYS.c.organisation_id == bindparam("in_organisation"),
    ),
).where(learners.c.organisation_id == bindparam("in_organisation"))  # fmt: skip
_FIND_SERIES = select(series.c.id, series.c.code, series.c.title).join(
    _WITH_KEYS,
    and_(
        _WITH_KEYS.c.platform_id == series.c.id,
        _WITH_KEYS.c.kind == SERIES,
        _WITH_KEYS.c.organisation_id == bindparam("in_organisation"),
    ),
).where(series.c.organisation_id == bindparam("in_organisation"))  # fmt: skip


def find_learners(
    connection: Connection, organisation_id: int, keys: Sequence[int], *, most: int
) -> list[FoundLearner]:
    """Up to `most` learners that have all these keys, in no order. Compare them with the words."""
    values = {"in_organisation": organisation_id, "keys": list(keys), "most": most}
    return [FoundLearner(**row) for row in connection.execute(_FIND_LEARNERS, values).mappings()]


def find_series(connection: Connection, organisation_id: int, keys: Sequence[int], *, most: int) -> list[FoundSeries]:
    """Up to `most` Series that have all these keys, in no order. Compare them with the words."""
    values = {"in_organisation": organisation_id, "keys": list(keys), "most": most}
    return [FoundSeries(**row) for row in connection.execute(_FIND_SERIES, values).mappings()]


def list_newest_enrolments(connection: Connection, organisation_id: int, learner_id: int, *, most: int) -> list[int]:
    """Ids of a learner's newest enrolments."""
    its = select(enrolments.c.id).where(
        enrolments.c.learner_id == learner_id, enrolments.c.organisation_id == organisation_id
    )
    return list(connection.scalars(its.order_by(enrolments.c.id.desc()).limit(most)))


def list_jobs_of_series(connection: Connection, organisation_id: int, series_id: int, *, most: int) -> list[int]:
    """Ids of the newest jobs that were asked for one Series."""
    its = select(jobs.c.id).where(jobs.c.organisation_id == organisation_id, jobs.c.series_id == series_id)
    return list(connection.scalars(its.order_by(jobs.c.id.desc()).limit(most)))
