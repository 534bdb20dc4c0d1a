"""Two people who give the same letters to somebody at the same moment."""

from functools import partial

from schemas.dead_letters import LetterFilter
from tests.support.racing import Threads, await_waiters, held
from tests.world import PATIENCE, World, assert_balanced, decide_due
from worker.config import Settings
from worker.database import Database
from worker.dead_letters import desk_acts


def test_of_two_assignments_at_once_the_later_stands_and_both_are_on_record(
    slow_db: Database, owner: Database, world: World, environment: Settings, threads: Threads
) -> None:
    pathway = world.pathway()
    world.submit(slow_db, [world.enrolment(f"l{n}", pathway_id=pathway) for n in range(3)])
    decide_due(slow_db, environment)
    ids = [row.id for row in world.letters()]
    act = partial(desk_acts.assign_all, slow_db, organisation_id=world.organisation_id, wanted=LetterFilter())
    with held(owner, "SELECT 1 FROM withdrawals.dead_letters WHERE id = :id FOR UPDATE", id=ids[0]) as hold:
        acts = [threads.go(act, assignee=name, actor=f"actor of {name}") for name in ("dora", "ed")]
        await_waiters(world, 2)
        hold.release()
        assert [future.result(PATIENCE).changed for future in acts] == [3, 3]
    for letter_id in ids:
        rows = world.run(
            """SELECT detail->>'before', detail->>'after', actor FROM withdrawals.audit
            WHERE dead_letter_id = :id AND action = 'dead_letter.assign' ORDER BY id""",
            id=letter_id,
        )
        first, second = ("dora", "ed") if rows[0][1] == "dora" else ("ed", "dora")
        assert [tuple(row) for row in rows] == [
            (None, first, f"actor of {first}"),
            (first, second, f"actor of {second}"),
        ]
        assert world.one("SELECT assignee FROM withdrawals.dead_letters WHERE id = :id", id=letter_id) == second
    assert_balanced(slow_db)
