"""The decision of small chunks that name enrolments, in one message: the locks, what is written, the end of jobs.

A storm of single requests is made of these. The locks are in the order that holds everywhere: chunks, enrolments. No
letter is opened or changed, so none is locked.
"""

from uuid import UUID

from sqlalchemy import Connection

from worker.database import BY_INDEX
from worker.ledger.decide import PLAIN_RULES
from worker.ledger.decide_at_once import ENROLMENTS, OWN, DecidedAtOnce, leave, read_decision
from worker.ledger.fragments import ANY_PROTECTION, planned, sql_list
from worker.one_message import Part, Setting, Step, at_once
from worker.records import Claim
from worker.rules import CLEAN

# The chunks are locked before what they name is sorted, and so before the first enrolment. Undos, which lock learners
# before enrolments, do not wait here.
_LOCK = Step(
    "named_lock",
    f"""
WITH own AS MATERIALIZED (
    SELECT c.id, c.organisation_id, c.enrolment_ids FROM withdrawals.chunks c
    WHERE {OWN} AND EXISTS (SELECT FROM withdrawals.jobs j WHERE j.id = c.job_id AND j.kind = 'withdraw' OFFSET 0)
    ORDER BY c.id FOR UPDATE
), asked AS MATERIALIZED (
    SELECT DISTINCT i.id, o.organisation_id FROM own o CROSS JOIN LATERAL unnest(o.enrolment_ids) AS i (id)
    ORDER BY i.id
)
{leave(ENROLMENTS)} FROM asked a CROSS JOIN LATERAL (SELECT e.id FROM lms.enrolments e
    WHERE e.id = a.id AND e.organisation_id = a.organisation_id FOR UPDATE) locked
""",
)
_DECIDE = Step(
    "named_decide",
    read_decision(
        "decide_named.sql",
        rules=PLAIN_RULES,
        clean=sql_list(CLEAN),
        any_protection=ANY_PROTECTION.format(organisation="a.organisation_id"),
    ),
)


def decide_named(connection: Connection, claim: Claim) -> DecidedAtOnce:
    """Decide what of a claim has nothing special in it, and commit it; the others were not changed.

    On a connection where each statement commits itself. What this very claim has decided already is among the others.
    """
    *_, rows = at_once(connection, *planned(connection, BY_INDEX), *decide_parts(claim.chunk_ids, claim.token))
    return DecidedAtOnce.of(rows)


def decide_parts(chunk_ids: list[int] | Setting, token: UUID) -> tuple[Part, Part]:
    """The statements that decide what has nothing special in it of these chunks of a claim; `DecidedAtOnce` reads the
    rows of the last.
    """
    given = {"ids": chunk_ids, "token": token}
    return (_LOCK, given), (_DECIDE, given)
