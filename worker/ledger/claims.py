"""Claims: which due chunks a worker takes, and how many claims are due."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Connection, text

from worker.database import BY_INDEX
from worker.ledger import fragments, inbox_sets
from worker.ledger.fragments import plan_by_index
from worker.one_message import Part, Setting, Step, at_once
from worker.records import Claim

PERSON_IDS = 4
"""A person counts as so many ids in a claim: how many enrolments they have is found when they are decided."""

# What a claim reads in the order of an index, so it must cost the same whatever waits. The job is looked up by its key,
# as a value: asked with EXISTS, the planner read all queued jobs first. Of the attempts at one letter only the first is
# due, and the others go with it: two claims cannot share them.
_DUE = """
    c.state = 'ready' AND NOT c.deferred AND c.run_after <= now()
    AND CASE WHEN c.redrives IS NULL
        THEN (SELECT j.state FROM withdrawals.jobs j WHERE j.id = c.job_id) = 'queued'
        ELSE (SELECT min(b.id) FROM withdrawals.chunks b
            WHERE b.redrives = c.redrives AND b.state IN ('ready', 'claimed')) = c.id END
"""

# Fair: by lane, then by the chunk's number in its job, so that jobs take turns.
_CLAIM = """
-- the first due chunk, locked; one that another claim holds is skipped
WITH first AS MATERIALIZED (
    SELECT c.id, {weight} AS weight, c.alone, c.redrives FROM withdrawals.chunks c
    WHERE {due}{guard} ORDER BY {order} LIMIT 1 FOR UPDATE OF c SKIP LOCKED
-- the ids that still fit beside it; none beside a chunk that is claimed alone
), room AS MATERIALIZED (
    SELECT CASE WHEN alone THEN 0 ELSE greatest({budget} - weight, 0) END AS ids FROM first
-- what comes next, as many as could fit and one more, so that a storm of single requests is decided in sets; found
-- without a lock, so that another claim is not kept from what does not fit
), next AS MATERIALIZED (
    SELECT c.id, {weight} AS weight, {fits} AS fits,
        row_number() OVER (ORDER BY {order}) AS place
    FROM withdrawals.chunks c WHERE {due} AND c.id <> (SELECT id FROM first)
    ORDER BY {order} LIMIT (SELECT ids + 1 FROM room)
-- the small ones among them that fit, locked
), more AS MATERIALIZED (
    SELECT c.id, c.redrives FROM withdrawals.chunks c
    WHERE c.id = ANY(ARRAY(SELECT id FROM (SELECT id, sum(weight) OVER (ORDER BY place) AS ids FROM next WHERE fits) n
        WHERE ids <= (SELECT ids FROM room))) AND c.state = 'ready'
    FOR UPDATE SKIP LOCKED
), taken AS MATERIALIZED (
    SELECT id, redrives FROM first UNION ALL SELECT id, redrives FROM more
-- all attempts at one letter go together
), mates AS MATERIALIZED (
    SELECT c.id FROM withdrawals.chunks c
    WHERE c.redrives = ANY(ARRAY(SELECT redrives FROM taken WHERE redrives IS NOT NULL)) AND c.state = 'ready'
    FOR UPDATE SKIP LOCKED
), claimed AS (
    UPDATE withdrawals.chunks SET state = 'claimed', token = CAST(:token AS uuid), claims = claims + 1,
        claimed_at = clock_timestamp(), lease_until = clock_timestamp() + CAST(:lease AS interval)
    WHERE id = ANY(ARRAY(SELECT id FROM taken UNION SELECT id FROM mates))
    RETURNING {kind}
-- for the session, since what may follow in the same message is a transaction of its own
), left_behind AS MATERIALIZED (
    SELECT set_config('{named}', CASE WHEN bool_and(is_plain) AND (count(*) > 1 OR min(size) = 1)
        THEN '{{' || string_agg(id::text, ',') || '}}' ELSE '{{}}' END, false) FROM claimed
)
SELECT claimed.*, EXISTS (SELECT 1 FROM next WHERE id NOT IN (SELECT id FROM taken)) AS more
FROM left_behind CROSS JOIN claimed
"""
NAMED = Setting("withdrawals.named", "bigint[]")
"""What a claim leaves behind in its session: its chunks, if each only names enrolments to withdraw
(`Claim.names_enrolments`). One that takes nothing may leave what was there: the token is of no use then."""
_KIND = """id, job_id, size, redrives IS NULL AND learner_external_id IS NULL AND NOT override AS is_plain,
    redrives IS NULL AND learner_external_id IS NOT NULL AS names_person"""
"""Of a claimed chunk: what says how it is decided."""
_WEIGHT = f"CASE WHEN c.learner_external_id IS NULL THEN greatest(c.size, 1) ELSE {PERSON_IDS} END"
_BUDGET = "CAST(:budget AS integer)"
_FITS = f"NOT c.alone AND c.size <= greatest({_BUDGET} / 4, 1)"
"""Whether a chunk is decided together with others."""
_PARTS = {"budget": _BUDGET, "due": _DUE, "weight": _WEIGHT, "fits": _FITS, "kind": _KIND, "named": NAMED.name}
_FAIR, _OLDEST = "c.lane, c.number, c.id", "c.id"
_CLAIM_FAIR = Step("claim_fair", _CLAIM.format(order=_FAIR, guard="", **_PARTS))
_CLAIM_OLDEST = Step("claim_oldest", _CLAIM.format(order=_OLDEST, guard="", **_PARTS))
# A transaction that has decided nothing takes nothing: what it had is still in hand.
_HAS_DECIDED = """
    AND (SELECT d.closed_at FROM withdrawals.chunks d WHERE d.id = CAST(:decided AS bigint)) = now()"""
_FOLLOW_FAIR = Step("follow_fair", _CLAIM.format(order=_FAIR, guard=_HAS_DECIDED, **_PARTS))
_FOLLOW_OLDEST = Step("follow_oldest", _CLAIM.format(order=_OLDEST, guard=_HAS_DECIDED, **_PARTS))


def claim(connection: Connection, *, budget: int, lease: timedelta, oldest: bool = False) -> Claim | None:
    """Take due chunks of about `budget` ids, or none; `oldest` first instead of in fair order."""
    plan_by_index(connection)
    step, values = _claiming(budget, lease, oldest=oldest)
    rows = connection.execute(step.clause, values).all()
    if not rows and wake_deferred(connection):
        rows = connection.execute(step.clause, values).all()
    return _claimed(values["token"], rows)


@dataclass(frozen=True, slots=True)
class Taken:
    """What was claimed by a message, and what the transaction behind the claim has answered."""

    claim: Claim | None
    events: bool
    """Whether events of the inbox may be due."""
    rows: list[Any] = field(default_factory=list)
    """Of the last statement behind the claim."""


def claim_now(
    connection: Connection,
    *,
    budget: int,
    lease: timedelta,
    oldest: bool = False,
    token: UUID | None = None,
    then: Sequence[Part] = (),
) -> Taken:
    """As `claim`, in one round trip, which commits it; and whether events of the inbox may be due, looked up before.

    On a connection where each statement commits itself. `then`: statements of a second transaction in the same message.
    They find `NAMED`, and the `token` of the claim.
    """
    first, claiming = fragments.planned(connection, BY_INDEX), _claiming(budget, lease, oldest=oldest, token=token)
    then = (*first, *then) if then else ()
    before = len(first) + 1
    found = at_once(connection, *first, (inbox_sets.DUE, {"most": 1}), claiming, then=then)
    events, rows = found[before - 1 : before + 1]
    if not rows:
        found = at_once(connection, *first, (WAKE, {"most": MOST_WOKEN}), claiming, then=then)
        rows = found[before]
    return Taken(_claimed(claiming[1]["token"], rows), bool(events), found[-1] if then else [])


@dataclass(frozen=True, slots=True)
class Following:
    """The next claim, in a message that decides a chunk: it is taken only if the chunk is decided there."""

    part: Part

    def read(self, rows: Sequence[Any]) -> Claim | None:
        """What was taken."""
        return _claimed(self.part[1]["token"], rows)


def following(chunk_id: int, *, budget: int, lease: timedelta, oldest: bool = False) -> Following:
    """The next claim behind the decision of a chunk, in one message with it."""
    _, values = _claiming(budget, lease, oldest=oldest)
    return Following((_FOLLOW_OLDEST if oldest else _FOLLOW_FAIR, {**values, "decided": chunk_id}))


_OF_TOKEN = text(f"""
SELECT {_KIND}, false AS more FROM withdrawals.chunks WHERE token = CAST(:token AS uuid) AND state = 'claimed'
""")


def find(connection: Connection, token: UUID) -> Claim | None:
    """What is left of a claim whose answer was lost: those of its chunks that are not decided."""
    plan_by_index(connection)
    return _claimed(token, connection.execute(_OF_TOKEN, {"token": token}).all())


def _claiming(budget: int, lease: timedelta, *, oldest: bool, token: UUID | None = None) -> tuple[Step, dict[str, Any]]:
    values = {"budget": budget, "token": token or uuid4(), "lease": lease}
    return _CLAIM_OLDEST if oldest else _CLAIM_FAIR, values


def _claimed(token: UUID, rows: Sequence[Any]) -> Claim | None:
    if not rows:
        return None
    ids, job_ids, sizes, plain, persons, more = zip(*rows, strict=True)
    is_one = len(rows) == 1
    return Claim(
        token,
        sorted(ids),
        more=more[0],
        is_plain=is_one and plain[0],
        names_persons=all(persons),
        names_enrolments=all(plain) and (not is_one or sizes[0] == 1),
        job_ids=frozenset(job_ids),
    )


WAKE = Step(
    "wake_deferred",
    """
UPDATE withdrawals.chunks SET deferred = false WHERE id = ANY(ARRAY(
    SELECT id FROM withdrawals.chunks WHERE state = 'ready' AND deferred AND run_after <= now()
    ORDER BY run_after LIMIT CAST(:most AS integer) FOR UPDATE SKIP LOCKED))
RETURNING id
""",
)
MOST_WOKEN = 1000


def wake_deferred(connection: Connection, *, most: int = MOST_WOKEN) -> int:
    """Make chunks due whose time for the next attempt has come; how many. Claims pass over the others unread."""
    return connection.execute(WAKE.clause, {"most": most}).rowcount


LOOKED_AT = 100
"""Due chunks that are looked at to count claims; behind so many there is work for every thread."""
COUNT_CLAIMS = f"""
SELECT CASE WHEN count(*) >= {LOOKED_AT} THEN :most
    ELSE count(*) FILTER (WHERE NOT fits) + ceil(coalesce(sum(weight) FILTER (WHERE fits), 0)::numeric / {_BUDGET}) END
FROM (SELECT {_WEIGHT} AS weight, {_FITS} AS fits
    FROM withdrawals.chunks c WHERE {_DUE} ORDER BY c.lane, c.number, c.id LIMIT {LOOKED_AT}) due
"""
"""How many claims of about `:budget` ids the due chunks make, `:most` if they are many."""

_TRACES = text("""
SELECT DISTINCT j.traceparent FROM withdrawals.chunks c JOIN withdrawals.jobs j ON j.id = c.job_id
WHERE c.id = ANY(:ids) AND j.traceparent IS NOT NULL
""")


def traces(connection: Connection, claim: Claim) -> list[str]:
    """The contexts of the traces of a claim's jobs."""
    return list(connection.scalars(_TRACES, {"ids": claim.chunk_ids}))
