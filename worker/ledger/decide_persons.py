"""The decision of deactivations without anything special, in one message: the locks, what is written, the end of jobs.

The locks are in the order that holds everywhere: chunks, persons, learners, enrolments.
"""

from sqlalchemy import Connection

from worker.database import BY_INDEX
from worker.ledger.brake_series import HAS_ROWS
from worker.ledger.decide import LEARNERS_IN_ORDER, LOCKED_LEARNER
from worker.ledger.decide_at_once import ENROLMENTS, IDS, OWN, DecidedAtOnce, leave, left, read_decision
from worker.ledger.fragments import ANY_PROTECTION, planned
from worker.one_message import Step, at_once
from worker.records import Claim

_LOCK_CHUNKS = Step(
    "persons_lock_chunks",
    f"SELECT count(*) FROM (SELECT c.id FROM withdrawals.chunks c WHERE {OWN} ORDER BY c.id FOR UPDATE) locked",
)
_LOCK_PERSONS = Step(
    "persons_lock_persons",
    f"""
WITH asked AS MATERIALIZED (
    SELECT c.organisation_id, c.learner_external_id FROM withdrawals.chunks c
    WHERE c.id = ANY({IDS}) AND c.learner_external_id IS NOT NULL ORDER BY 1, 2
)
SELECT count(*) FROM asked a CROSS JOIN LATERAL (SELECT p.epoch FROM withdrawals.persons p
    WHERE p.organisation_id = a.organisation_id AND p.external_id = a.learner_external_id FOR UPDATE) locked
""",
)
_LEARNERS = "withdrawals.learners"
_LOCK_LEARNERS = Step(
    "persons_lock_learners",
    f"""
WITH asked AS MATERIALIZED ({LEARNERS_IN_ORDER.format(chunks=":ids")})
{leave(_LEARNERS)} FROM asked a CROSS JOIN LATERAL {LOCKED_LEARNER} locked
""",
)
_LOCK_ENROLMENTS = Step(
    "persons_lock_enrolments",
    f"""
WITH asked AS MATERIALIZED (
    SELECT e.id, l.organisation_id FROM lms.learners l CROSS JOIN LATERAL (SELECT e.id FROM lms.enrolments e
        WHERE e.learner_id = l.id AND e.organisation_id = l.organisation_id OFFSET 0) e
    WHERE l.id = ANY({left(_LEARNERS)}) ORDER BY e.id
)
{leave(ENROLMENTS)} FROM asked a CROSS JOIN LATERAL (SELECT e.id FROM lms.enrolments e
    WHERE e.id = a.id AND e.organisation_id = a.organisation_id FOR UPDATE) locked
""",
)
_DECIDE = Step(
    "persons_decide",
    read_decision(
        "decide_persons.sql",
        learners=left(_LEARNERS),
        any_protection=ANY_PROTECTION.format(organisation="a.organisation_id"),
        has_rows=HAS_ROWS.format(job="s.job_id"),
    ),
)


def decide_persons(connection: Connection, claim: Claim) -> DecidedAtOnce:
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
    return DecidedAtOnce.of(rows)
