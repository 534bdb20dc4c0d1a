"""The decision of deactivations without anything special, in one message: the locks, what is written, the end of jobs.

Each statement of a message has a snapshot of its own, so what is decided is read after the last lock, as `decide.py`
does it in several round trips. The locks are in the order that holds everywhere: chunks, persons, learners, enrolments.
"""

from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import Connection

from schemas.catalogue import Outcome
from worker.database import BY_INDEX
from worker.ledger.brake_series import HAS_ROWS
from worker.ledger.decide import LEARNERS_IN_ORDER, LOCKED_LEARNER
from worker.ledger.fragments import ANY_PROTECTION, ASKED_AT, IS_PROTECTED, planned, read_sql, sql_list
from worker.one_message import Step, at_once
from worker.records import Asked, Claim, Decided
from worker.rules import ACTIVE, ENDED, WITHDRAWN

_IDS = "CAST(:ids AS bigint[])"
_LOCK_CHUNKS = Step(
    "persons_lock_chunks",
    f"""
SELECT count(*) FROM (SELECT c.id FROM withdrawals.chunks c
    WHERE c.id = ANY({_IDS}) AND c.token = CAST(:token AS uuid) AND c.state = 'claimed' ORDER BY c.id FOR UPDATE) locked
""",
)
_LOCK_PERSONS = Step(
    "persons_lock_persons",
    f"""
WITH asked AS MATERIALIZED (
    SELECT c.organisation_id, c.learner_external_id FROM withdrawals.chunks c
    WHERE c.id = ANY({_IDS}) AND c.learner_external_id IS NOT NULL ORDER BY 1, 2
)
SELECT count(*) FROM asked a CROSS JOIN LATERAL (SELECT p.epoch FROM withdrawals.persons p
    WHERE p.organisation_id = a.organisation_id AND p.external_id = a.learner_external_id FOR UPDATE) locked
""",
)
# What was locked is left in settings of the transaction: what has come since is not decided here.
_LEFT = "SELECT set_config('{name}', '{{' || coalesce(string_agg(locked.id::text, ','), '') || '}}', true)"
_LEARNERS, _ENROLMENTS = "withdrawals.learners", "withdrawals.enrolments"
_LOCK_LEARNERS = Step(
    "persons_lock_learners",
    f"""
WITH asked AS MATERIALIZED ({LEARNERS_IN_ORDER.format(chunks=":ids")})
{_LEFT.format(name=_LEARNERS)} FROM asked a CROSS JOIN LATERAL {LOCKED_LEARNER} locked
""",
)
_LOCKED = "CAST(current_setting('{name}') AS bigint[])"
_LOCK_ENROLMENTS = Step(
    "persons_lock_enrolments",
    f"""
WITH asked AS MATERIALIZED (
    SELECT e.id, l.organisation_id FROM lms.learners l CROSS JOIN LATERAL (SELECT e.id FROM lms.enrolments e
        WHERE e.learner_id = l.id AND e.organisation_id = l.organisation_id OFFSET 0) e
    WHERE l.id = ANY({_LOCKED.format(name=_LEARNERS)}) ORDER BY e.id
)
{_LEFT.format(name=_ENROLMENTS)} FROM asked a CROSS JOIN LATERAL (SELECT e.id FROM lms.enrolments e
    WHERE e.id = a.id AND e.organisation_id = a.organisation_id FOR UPDATE) locked
""",
)
_DECIDE = Step(
    "persons_decide",
    read_sql(
        "decide_persons.sql",
        asked_at=ASKED_AT,
        learners=_LOCKED.format(name=_LEARNERS),
        enrolments=_LOCKED.format(name=_ENROLMENTS),
        withdrawn=WITHDRAWN,
        active=sql_list(ACTIVE),
        ended=sql_list(ENDED),
        any_protection=ANY_PROTECTION.format(organisation="a.organisation_id"),
        is_protected=IS_PROTECTED,
        has_rows=HAS_ROWS.format(job="j.id"),
    ),
)


@dataclass(frozen=True, slots=True)
class DecidedPersons:
    """The chunks of a claim that had nothing special in them."""

    decided: list[Decided]
    asked: dict[int, Asked]
    finished: list[int]
    """Their jobs that have ended with them."""


def decide_persons(connection: Connection, claim: Claim) -> DecidedPersons:
    """Decide what of a claim has nothing special in it, and commit it; the others were neither locked nor changed.

    On a connection where each statement commits itself. What this very claim has decided already is among the others.
    """
    given = {"ids": claim.chunk_ids, "token": claim.token}
    ids = {"ids": claim.chunk_ids}
    *_, rows = at_once(
        connection,
        *planned(connection, BY_INDEX),
        (_LOCK_CHUNKS, given),
        (_LOCK_PERSONS, ids),
        (_LOCK_LEARNERS, ids),
        (_LOCK_ENROLMENTS, {}),
        (_DECIDE, given),
    )
    found = DecidedPersons([], {}, [])
    for row in rows:
        _add(found, *row[:-1])
    return found


def _add(
    found: DecidedPersons,
    chunk_id: int,
    job_id: int,
    size: int,
    lane: int,
    waited: timedelta,
    request_id: str | None,
    is_finished: bool,
) -> None:
    found.decided.append(Decided(chunk_id, job_id, {Outcome.WITHDRAWN: size} if size else {}))
    found.asked[chunk_id] = Asked(lane, waited, request_id)
    if is_finished:
        found.finished.append(job_id)
