"""What several statements of the ledger share: lists of codes as SQL, and the names of groups of states.

A group is named once here, as a tuple for Core (`one_of(column, UNFINISHED)`) and, by `sql_list`, for statements that
are text. A filter that may be left out is always built in Core: a condition is added where a value was given.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, Connection, TextClause, any_, literal, literal_column, text

from worker.database import BY_INDEX, BY_ORDER, PLANNER_OFF
from worker.ids import LARGEST
from worker.models import Ids
from worker.one_message import Step
from worker.rules import ACTIVE

UNFINISHED = ("waiting", "ready", "claimed")
"""States of a chunk that is not decided yet."""

CLOSED_WHOLE = ("cancelled", "superseded", "failed")
"""States of a chunk that was closed without an outcome for each of its ids."""

LIVE = ("open", "redriven")
"""States of a dead letter that is not closed."""

CLOSED = ("resolved", "discarded")
"""States of a dead letter that is closed."""


def sql_list(values: Iterable[str]) -> str:
    """Codes of the catalogue as the inside of SQL's `IN (…)`: `'a', 'b'`, sorted."""
    return ", ".join(f"'{value}'" for value in sorted(values))


ANY_PROTECTION = """EXISTS (SELECT FROM withdrawals.protections g
    WHERE g.organisation_id = {organisation} AND g.ends_at > now())"""
"""Whether anything of `{organisation}` is protected. Where nothing is, its rows need no look of their own."""

# OFFSET 0: each is looked up from its index. The time is the transaction's, which is also the time of the outcome.
IS_PROTECTED = """(EXISTS (SELECT FROM withdrawals.protections p WHERE p.organisation_id = e.organisation_id
        AND p.enrolment_id = e.id AND p.ends_at > now() OFFSET 0)
    OR EXISTS (SELECT FROM lms.learners l JOIN withdrawals.protections p ON p.organisation_id = l.organisation_id
        AND p.learner_external_id = l.external_id AND p.ends_at > now()
        WHERE l.id = e.learner_id AND l.organisation_id = e.organisation_id OFFSET 0))"""
"""Of an enrolment `e`: whether a legal hold or an exemption protects it or its learner."""

WOULD_WITHDRAW = f"""e.status IN ({sql_list(ACTIVE)}) AND e.pathway_id IS NULL
    AND NOT ({ANY_PROTECTION} AND {IS_PROTECTED})"""
"""Of an enrolment `e` of `{organisation}`: whether the rules withdraw it if it is asked for. The brake counts these."""

# OFFSET 0: the learner is looked up first, then the enrolments of that one by their own index.
IS_WITHDRAWN = f"""EXISTS (SELECT 1 FROM (SELECT l.id FROM lms.learners l
    WHERE l.organisation_id = {{organisation}} AND l.external_id = {{person}} OFFSET 0) l
    CROSS JOIN LATERAL (SELECT e.id, e.organisation_id, e.learner_id, e.status, e.pathway_id FROM lms.enrolments e
        WHERE e.learner_id = l.id AND e.organisation_id = {{organisation}} OFFSET 0) e WHERE {WOULD_WITHDRAW})"""
"""Whether the rules would withdraw anything of the person `{person}` of `{organisation}`."""

DEACTIVATED = "coalesce(j.deactivated_external_id, j.learner_external_id)"
"""Of a job `j` with an epoch: the person whose deactivation it carries out, as a person job or as its cascade."""


IS_OF_ROSTER = "(j.source = 'hr' AND j.epoch IS NULL)"
"""Of a job `j`: whether it is the one job of a roster. Each of its people has an epoch, on the roster's lines."""

OF_ROSTERS = """SELECT c.id, c.organisation_id, t.external_id, t.epoch, e.id AS enrolment_id
    FROM withdrawals.chunks c JOIN withdrawals.rosters r ON r.job_id = c.job_id
    CROSS JOIN LATERAL unnest(c.enrolment_ids) AS i (id)
    JOIN lms.enrolments e ON e.id = i.id AND e.organisation_id = c.organisation_id
    JOIN lms.learners l ON l.id = e.learner_id AND l.organisation_id = c.organisation_id
    JOIN withdrawals.roster_lines t ON t.roster_id = r.id AND t.external_id = l.external_id
    WHERE c.id = ANY(:of_rosters)"""
"""The enrolments of rosters' chunks, each with its person and the epoch at which the roster had them as gone."""


def one_of(column: ColumnElement[str], values: Iterable[str]) -> ColumnElement[bool]:
    """Whether a column holds one of these codes, written as constants: a partial index applies to any plan then."""
    return column.in_([literal_column(f"'{value}'") for value in values])


def among(column: ColumnElement[int] | ColumnElement[int | None], ids: Iterable[int]) -> ColumnElement[bool]:
    """Whether a column holds one of these ids, as one array parameter however many there are.

    An id beyond `bigint` is no row's, and left out.
    """
    return column == any_(literal([row_id for row_id in ids if abs(row_id) <= LARGEST], Ids))


def _turn_off(settings: Iterable[str]) -> str:
    return "SELECT " + ", ".join(f"set_config('{name}', 'off', true)" for name in settings)


_PLANNED = "withdrawals_planned"
"""In a connection's `info`: the transaction that is planned by index already."""
_PLAN = {BY_INDEX: Step("plan_by_index", _turn_off(BY_INDEX)), BY_ORDER: Step("plan_by_order", _turn_off(BY_ORDER))}


def plan_by_index(connection: Connection) -> None:
    """Plan the statements of this transaction to read from indexes, in their order.

    For what reads a little of a table that grows: planned while the table is small, a statement reads all of it, and a
    connection keeps that plan until the table is analysed.
    """
    current = connection.get_nested_transaction() or connection.get_transaction()  # a savepoint may take it back
    if not is_planned_by_index(connection) and connection.info.get(_PLANNED) is not current:
        connection.execute(_PLAN[BY_INDEX].clause)
        connection.info[_PLANNED] = current


def is_planned_by_index(connection: Connection) -> bool:
    """Whether all transactions of its session are planned by index."""
    return bool(connection.info.get(PLANNER_OFF, frozenset()).issuperset(BY_INDEX))


def plan_by_order(connection: Connection) -> None:
    """As `plan_by_index`, and where rows are asked for in an order, from the index that has it.

    Of two indexes with the same first column a statement that is planned while the table is small takes either.
    """
    if not connection.info.get(PLANNER_OFF, frozenset()).issuperset(BY_ORDER):
        connection.execute(_PLAN[BY_ORDER].clause)


NO_WAIT = Step("no_wait", "SELECT set_config('synchronous_commit', 'off', true)"), dict[str, Any]()
"""First in a message: its commit does not wait for the disk. Only for what nobody misses after a crash."""


def planned(connection: Connection, off: tuple[str, ...]) -> list[tuple[Step, dict[str, Any]]]:
    """What goes first in a message whose statements are planned by index (`BY_INDEX`) or by order (`BY_ORDER`)."""
    is_planned = connection.info.get(PLANNER_OFF, frozenset()).issuperset(off)
    return [] if is_planned else [(_PLAN[off], {})]


def load_sql(name: str, **values: str) -> TextClause:
    """The statement that `read_sql` reads."""
    return text(read_sql(name, **values))


def read_sql(name: str, **values: str) -> str:
    """The statement in the file `name` beside this module; `{key}` in it stands for the value of that key."""
    statement = Path(__file__).with_name(name).read_text(encoding="utf-8")
    for key, value in values.items():
        statement = statement.replace(f"{{{key}}}", value)
    return statement


ASKED_AT = """CASE WHEN j.released_at IS NULL AND j.effective_at <= j.created_at
        THEN coalesce(j.received_at, j.created_at) ELSE coalesce(j.admitted_at, j.created_at) END"""
"""Since when a job `j` waits: since it was asked for, or, scheduled or held, since it fell due or was released."""
