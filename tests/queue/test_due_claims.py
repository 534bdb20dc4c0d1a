"""How many workers the relay wakes: one for each claim that the due chunks make."""

from collections.abc import Sequence

import pytest

from tests.support.due import count_claims
from tests.world import World
from worker.database import Database
from worker.ledger.claims import LOOKED_AT

THREADS = 64
"""So many claims stand for work for every thread."""


def _due(world: World, sizes: Sequence[int], *, alone: bool = False) -> None:
    world.run(
        """WITH j AS (INSERT INTO withdrawals.jobs (organisation_id, reason, source, requested_by, door,
                idempotency_key, request_hash, state, accepted, effective_at, admitted_at)
            SELECT :o, 'not_required', 'bulk', 'test:due', 'cli', gen_random_uuid()::text, '', 'queued', 1, now(), now()
            RETURNING id)
        INSERT INTO withdrawals.chunks (job_id, organisation_id, number, lane, enrolment_ids, size, state, alone)
        SELECT j.id, :o, s.number, 2, (SELECT array_agg(id) FROM generate_series(1, s.size) id), s.size, 'ready', :alone
        FROM j, unnest(CAST(:sizes AS integer[])) WITH ORDINALITY AS s(size, number)""",
        o=world.organisation_id,
        sizes=list(sizes),
        alone=alone,
    )


@pytest.mark.parametrize(
    ("sizes", "budget", "claims"),
    [
        ([], 1000, 0),
        ([1], 1000, 1),
        ([1000], 1000, 1),
        ([1] * (LOOKED_AT - 1), 1000, 1),
        ([1] * LOOKED_AT, 1000, THREADS),
        ([1000, 1000, 251], 1000, 3),
        ([1000, 1, 250], 1000, 2),
        ([250] * 4, 1000, 1),
        ([250] * 4 + [1], 1000, 2),
        ([1] * 5, 1, 5),
        ([2] * 5, 4, 5),
    ],
    ids=str,
)
def test_chunks_that_are_decided_together_wake_one_worker(
    db: Database, world: World, sizes: list[int], budget: int, claims: int
) -> None:
    """Each that was woken in vain looks twice and finds nothing: in a storm most were."""
    _due(world, sizes)
    with db.begin() as connection:
        assert count_claims(connection, most=THREADS, budget=budget) == claims


def test_chunks_that_are_claimed_alone_wake_a_worker_each(db: Database, world: World) -> None:
    _due(world, [1] * 5, alone=True)
    _due(world, [1] * 5)
    with db.begin() as connection:
        assert count_claims(connection, most=THREADS) == 6
