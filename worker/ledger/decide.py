"""The decision in sets: lock what it looks at, then decide and write all of it in one statement.

Locking and deciding are two statements on purpose. Under READ COMMITTED a locking read returns the newest
version of a locked row, but whatever is joined beside it comes from the statement's older snapshot. So rows
are locked first; the deciding statement's snapshot is newer than every lock and sees just what they hold. A plain chunk
is decided from rows alone, without anything joined: there one statement checks each row again under its lock. What is
protected is another row, which a second statement looks for once these locks are held.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from worker.database import BY_INDEX, driver
from worker.errors import ChangedMeanwhileError
from worker.ledger.fragments import ANY_PROTECTION, ASKED_AT, IS_PROTECTED, load_sql, planned, read_sql, sql_list
from worker.one_message import Part, Step, at_once
from worker.records import Asked, Claim, Decided
from worker.rules import ACTIVE, ENDED, NEEDS_SUPPORT, WITHDRAWN

RULES = f"""CASE
    WHEN e.id IS NULL THEN 'not_found'
    WHEN e.status = '{WITHDRAWN}' THEN 'already_withdrawn'
    WHEN e.status IN ({sql_list(ENDED)}) THEN 'enrolment_ended'
    WHEN a.superseded THEN 'superseded'
    WHEN a.guarded AND {IS_PROTECTED} THEN 'protected'
    WHEN e.status NOT IN ({sql_list(ACTIVE)}) THEN 'unknown_status'
    WHEN e.pathway_id IS NOT NULL AND NOT (a.override AND coalesce(a.override_pathway, e.pathway_id) = e.pathway_id)
        THEN 'pathway_owned'
    ELSE 'withdrawn' END"""
"""`rules.decide` as SQL, over an asked row `a` and its enrolment `e` of the same organisation, or none.

`a.guarded`: whether anything of the organisation is protected.
"""

# By steps, each letter from an index (OFFSET 0 keeps it so): over tables that were never analysed, the planner began
# with the organisation, and 150 chunks beside 300 letters took more than a second.
_LOCK_LETTERS = text("""
SELECT l.id FROM withdrawals.dead_letters l
WHERE l.state IN ('open', 'redriven') AND l.id IN (
    WITH given AS MATERIALIZED (
        SELECT c.organisation_id, c.redrives, c.enrolment_ids, c.learner_external_id
        FROM withdrawals.chunks c WHERE c.id = ANY(:chunks)
    ), learners AS MATERIALIZED (
        SELECT p.id, g.organisation_id FROM given g
        JOIN lms.learners p ON p.organisation_id = g.organisation_id AND p.external_id = g.learner_external_id
    ), asked AS MATERIALIZED (
        SELECT unnest(g.enrolment_ids) AS id, g.organisation_id FROM given g
        UNION
        SELECT e.id, p.organisation_id FROM learners p
        JOIN lms.enrolments e ON e.learner_id = p.id AND e.organisation_id = p.organisation_id
    )
    SELECT d.id FROM given g JOIN withdrawals.dead_letters d
        ON d.id = g.redrives AND d.organisation_id = g.organisation_id
    UNION
    SELECT d.id FROM asked a CROSS JOIN LATERAL (SELECT d.id FROM withdrawals.dead_letters d
        WHERE d.organisation_id = a.organisation_id AND d.enrolment_id = a.id
        AND d.state IN ('open', 'redriven') AND d.code <> 'invalid_event' OFFSET 0) d
    UNION
    SELECT d.id FROM given g CROSS JOIN LATERAL (SELECT d.id FROM withdrawals.dead_letters d
        WHERE d.organisation_id = g.organisation_id AND d.learner_external_id = g.learner_external_id
        AND d.state IN ('open', 'redriven') AND d.code <> 'invalid_event' OFFSET 0) d
    WHERE g.learner_external_id IS NOT NULL)
ORDER BY l.id FOR UPDATE
""")


def lock_letters(connection: Connection, chunk_ids: Sequence[int]) -> None:
    """Lock the live letters that these chunks redrive or may attach to, before the chunks themselves."""
    connection.execute(_LOCK_LETTERS, {"chunks": list(chunk_ids)})


# Each is found by its key, as a value (OFFSET 0): over chunks that were never analysed, the planner held each of them
# against all learners of the organisation.
LEARNERS_IN_ORDER = """SELECT c.id AS chunk_id, l.id, c.organisation_id, c.learner_external_id
    FROM withdrawals.chunks c CROSS JOIN LATERAL (SELECT l.id FROM lms.learners l
        WHERE l.organisation_id = c.organisation_id AND l.external_id = c.learner_external_id OFFSET 0) l
    WHERE c.id = ANY(CAST({chunks} AS bigint[])) ORDER BY l.id"""
LOCKED_LEARNER = """(SELECT l.id FROM lms.learners l WHERE l.id = a.id
    AND l.organisation_id = a.organisation_id AND l.external_id = a.learner_external_id FOR UPDATE)"""
"""Of a row `a` of `LEARNERS_IN_ORDER`."""
_LOCK_LEARNERS = text(f"""
WITH asked AS MATERIALIZED ({LEARNERS_IN_ORDER.format(chunks=":chunks")})
SELECT a.chunk_id, locked.id AS learner_id FROM asked a CROSS JOIN LATERAL {LOCKED_LEARNER} locked
""")


def lock_learners(connection: Connection, chunk_ids: Sequence[int]) -> dict[int, int]:
    """Lock the learners of person chunks; chunk id to learner id, without chunks whose person is unknown."""
    rows = connection.execute(_LOCK_LEARNERS, {"chunks": list(chunk_ids)})
    return {row.chunk_id: row.learner_id for row in rows}


_DEACTIVATE = text("""
UPDATE lms.learners l SET active = false
WHERE l.id = ANY(:learners) AND l.active
    AND l.organisation_id = ANY(ARRAY(SELECT c.organisation_id FROM withdrawals.chunks c WHERE c.id = ANY(:chunks)))
""")


def deactivate_learners(connection: Connection, learners: Mapping[int, int]) -> None:
    """Make the locked learners of chunks inactive, by chunk: one that was created after the event is still active."""
    connection.execute(_DEACTIVATE, {"learners": list(learners.values()), "chunks": list(learners)})


# A job can name the id of another organisation's enrolment. That row is not locked: the job would wait for the other
# organisation, and hold it up. Each lock is taken inside the lateral select, in the order of `asked`, by primary key.
_LOCK_ENROLMENTS = text("""
WITH asked AS MATERIALIZED (
    SELECT organisation_id, id FROM (
        SELECT c.organisation_id, unnest(c.enrolment_ids) AS id FROM withdrawals.chunks c WHERE c.id = ANY(:chunks)
        UNION
        SELECT l.organisation_id, p.id FROM lms.learners l CROSS JOIN LATERAL (SELECT e.id FROM lms.enrolments e
            WHERE e.learner_id = l.id AND e.organisation_id = l.organisation_id OFFSET 0) p
        WHERE l.id = ANY(:learners)) a
    ORDER BY id
)
SELECT l.id FROM asked a CROSS JOIN LATERAL (SELECT e.id FROM lms.enrolments e
    WHERE e.id = a.id AND e.organisation_id = a.organisation_id FOR UPDATE) l
""")


def lock_enrolments(connection: Connection, chunk_ids: Sequence[int], learner_ids: Sequence[int]) -> list[int]:
    """Lock every enrolment of the chunks' organisations that they name, by id or as the learner's; the ids locked."""
    return list(connection.scalars(_LOCK_ENROLMENTS, {"chunks": list(chunk_ids), "learners": list(learner_ids)}))


PLAIN_RULES = f"""CASE
        WHEN e.status = '{WITHDRAWN}' THEN 'already_withdrawn'
        WHEN e.status IN ({sql_list(ENDED)}) THEN 'enrolment_ended'
        ELSE 'withdrawn' END"""
"""`RULES`, where the statement leaves out all of the rest."""


_AS_SEEN = "c.size = (SELECT ids FROM changed) + (SELECT count(*) FROM kept)"
_CHANGED = "changed meanwhile"


def _require(condition: str) -> str:
    """SQL: true, or an error, which undoes the message that it is part of."""
    return f"CAST(CASE WHEN {condition} THEN 'true' ELSE '{_CHANGED}' END AS boolean)"


RETURNS_OLD = 180_000
"""The version of PostgreSQL from which on an update returns what a row was before."""
# By where an update finds the rows that were seen: it needs no second look, or finds them by their places. Where the
# platform's enrolments are a view or have partitions, a place does not say which row it is.
_WAYS = {
    "returns_old": ("decide_plain_18.sql", "", ""),
    "table": ("decide_plain.sql", "e.ctid", "e.ctid = s.version AND"),
    "view": ("decide_plain.sql", "NULL", ""),
}


def _decide_plain(way: str) -> Step:
    name, version, is_version = _WAYS[way]
    statement = read_sql(
        name, rules=PLAIN_RULES, withdrawn=WITHDRAWN, active=sql_list(ACTIVE), ended=sql_list(ENDED),
        version=version, is_version=is_version, asked_at=ASKED_AT, is_protected=IS_PROTECTED,
        is_as_seen=_require(_AS_SEEN),
        any_protection=ANY_PROTECTION.format(
            organisation="(SELECT c.organisation_id FROM withdrawals.chunks c WHERE c.id = CAST(:chunk AS bigint))"),
    )  # fmt: skip
    return Step(f"decide_plain_{way}", statement)


_DECIDE_PLAIN = {way: _decide_plain(way) for way in _WAYS}
# An update locks each row and checks it again as it is then, unless an INSTEAD OF trigger or rule does what it will in
# its place: that is given the row of the statement's snapshot. What the views beneath a view have counts as its own.
_WRITES = text("""
WITH RECURSIVE reads (id) AS (
    SELECT CAST(to_regclass('lms.enrolments') AS oid)
    UNION
    SELECT d.refobjid FROM reads JOIN pg_rewrite r ON r.ev_class = reads.id
    JOIN pg_depend d ON d.objid = r.oid AND d.classid = CAST('pg_rewrite' AS regclass)
        AND d.refclassid = CAST('pg_class' AS regclass)
)
SELECT CASE
    WHEN EXISTS (SELECT FROM reads JOIN pg_trigger t ON t.tgrelid = reads.id
            WHERE t.tgtype & 64 <> 0 AND t.tgtype & 16 <> 0) -- INSTEAD OF, UPDATE
        OR EXISTS (SELECT FROM reads JOIN pg_rewrite r ON r.ev_class = reads.id WHERE r.ev_type = '2' AND r.is_instead)
        THEN 'instead'
    WHEN (SELECT c.relkind FROM pg_class c WHERE c.oid = to_regclass('lms.enrolments')) = 'r' THEN 'table'
    ELSE 'view' END
""")


def decide_plain_at_once(
    connection: Connection, claim: Claim, *last: Part
) -> tuple[tuple[Decided, Asked] | None, list[Any]]:
    """Lock and decide the one chunk of a claim in one round trip, which commits it; None: there is something special in
    it, and nothing was done. On a connection where each statement commits itself.

    `last`: a statement of the same message; the second result has its rows.

    Raises:
        ChangedMeanwhileError: what it saw has changed; nothing was done.
    """
    way = _way(connection)
    if way is None:
        return None, []
    decision, chunk = _DECIDE_PLAIN[way], {"chunk": claim.chunk_ids[0]}
    first = planned(connection, BY_INDEX)
    steps = (decision, {**chunk, "token": claim.token}), (_NOTHING_PROTECTED, chunk)
    try:
        rows, _, *others = at_once(connection, *first, *steps, *last)[len(first) :]
    except DBAPIError as error:
        if _CHANGED in str(error.orig):
            raise ChangedMeanwhileError("an enrolment was changed or protected while its chunk was decided") from None
        raise
    if not rows:
        return None, []
    ((chunk_id, job_id, counts, lane, request_id, waited, _),) = rows
    return (Decided(chunk_id, job_id, counts), Asked(lane, waited, request_id)), [row for one in others for row in one]


def _way(connection: Connection) -> str | None:
    """How the rows that were seen are found again; None: an update of the platform's view checks no row again."""
    writes = writes_of_enrolments(connection)
    if writes == "instead":
        return None
    return "returns_old" if driver(connection).info.server_version >= RETURNS_OLD else writes


def writes_of_enrolments(connection: Connection) -> str:
    """Who does what an update of the platform's enrolments says. Asked once a connection."""
    if "writes_of_enrolments" not in connection.info:
        connection.info["writes_of_enrolments"] = str(connection.scalar(_WRITES))
    return str(connection.info["writes_of_enrolments"])


# A protection is made under the locks of the enrolments that it protects. This snapshot is newer than every lock of the
# chunk: it sees each protection whose maker had the locks before. One that is made from now on waits for the commit.
_WITHDREW = f"""{ANY_PROTECTION.format(organisation="c.organisation_id")} AND EXISTS (SELECT FROM lms.enrolments e
    WHERE e.id = ANY(c.enrolment_ids) AND e.organisation_id = c.organisation_id AND e.status = '{WITHDRAWN}'
        AND {IS_PROTECTED} AND EXISTS (SELECT FROM withdrawals.outcomes o
            WHERE o.job_id = c.job_id AND o.enrolment_id = e.id AND o.outcome = 'withdrawn'))"""
_OF_CHUNK = "FROM withdrawals.chunks c WHERE c.id = CAST(:chunk AS bigint)"
_NOTHING_PROTECTED = Step("decide_plain_check", f"SELECT {_require(f'NOT ({_WITHDREW})')} {_OF_CHUNK}")


_DECIDE = load_sql(
    "decide.sql",
    rules=RULES,
    withdrawn=WITHDRAWN,
    active=sql_list(ACTIVE),
    ended=sql_list(ENDED),
    needs_support=sql_list(NEEDS_SUPPORT),
    any_protection=ANY_PROTECTION.format(organisation="o.id"),
)


def decide(
    connection: Connection,
    chunk_ids: Sequence[int],
    *,
    superseded: Sequence[int],
    locked: Sequence[int],
    returned: Collection[tuple[int, int]] = (),
) -> list[Decided]:
    """Decide locked chunks over locked enrolments; write enrolments, letters, outcomes, audit and chunks.

    `superseded`: the letter chunks among them whose deactivation a newer event has replaced.
    `returned`: chunks of rosters and their enrolments that are superseded, each by a newer event of its person.
    """
    values = {"chunks": chunk_ids, "superseded": superseded, "locked": locked}
    values |= {"back_in": [chunk for chunk, _ in returned], "back": [one for _, one in returned]}
    rows = connection.execute(_DECIDE, {name: list(ids) for name, ids in values.items()}).all()
    if rows and rows[0].changed != rows[0].withdrawn:
        raise RuntimeError("an enrolment that was locked as active was not updated")
    return [Decided(row.chunk_id, row.job_id, row.counts) for row in rows]
