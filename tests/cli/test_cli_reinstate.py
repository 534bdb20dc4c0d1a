"""`jobs reinstate`: what it would do, a part, the rest, and what is refused."""

from tests.support.commandline import done, refused, withdrawals
from tests.world import World, assert_balanced, decide_due
from worker.config import Settings
from worker.database import Database


def test_a_job_is_planned_and_taken_back_in_parts(db: Database, world: World, environment: Settings) -> None:
    ids = world.enrolments(2)
    job = world.submit(db, ids).id
    assert "wait until it has ended" in withdrawals("jobs", "reinstate", job).err
    decide_due(db, environment)
    plan = done("jobs", "reinstate", job, "--dry-run")
    assert plan == {
        "accepted": 2,
        "outcomes": {"reinstated": 2},
        "samples": {"reinstated": ids},
        "learners": 2,
        "brake": False,
    }
    assert "reinstated" in withdrawals("jobs", "reinstate", job, "--dry-run").out
    words = ["jobs", "reinstate", job, "--filter", f"enrolment_ids={ids[0]}", "--note", "agreed", "--key", "k"]
    part = done(*words)
    assert (part["kind"], part["reinstates"], part["accepted"], part["note"]) == ("reinstate", job, 1, "agreed")
    assert done(*words)["id"] == part["id"]
    rest = done("jobs", "reinstate", job)
    assert rest["accepted"] == 2, "nothing is taken back before it is decided"
    decide_due(db, environment)
    assert done("jobs", "show", part["id"])["outcomes"] == {"reinstated": 1}
    assert done("jobs", "show", rest["id"])["outcomes"] == {"reinstated": 1, "changed_since": 1}
    assert done("jobs", "show", job)["reinstated"] == 2
    assert "reinstates job" in withdrawals("jobs", "show", rest["id"]).out
    assert_balanced(db)


def test_wrong_conditions_are_named(world: World) -> None:
    assert "NAME is one of: enrolment_ids" in refused("jobs", "reinstate", 1, "--filter", "status=withdrawn")
    assert "learner_ids" in refused("jobs", "reinstate", 1, "--filter", "learner_ids=anna")
    missing = withdrawals("jobs", "reinstate", 4711)
    assert (missing.code, missing.err) == (1, "error: there is no job 4711 in this organisation\n")
