"""Eleventh: a person left, and the webhook that said so was lost. The weekly roster finds them.

HR systems give up within hours when nobody answers. A full roster says who is there; whoever is not, and still holds
enrolments, is withdrawn by one job, and the decision receipt names the line of the roster.
"""

from collections.abc import Callable
from datetime import timedelta

from schemas.rosters import RosterPlan
from tests.support.rosters import MORNING, NOW, confirm, csv, enrol, plan
from tests.world import World, assert_balanced, eventually
from worker.database import Database
from worker.dead_letters import decision_receipts
from worker.jobs.show import show
from worker.people import rosters
from worker.records import Job

Ended = Callable[[Job], Job]


def test_a_leaver_whose_webhook_was_lost_is_found_by_the_roster_and_withdrawn(
    service: None, db: Database, world: World, ended: Ended
) -> None:
    """Rule 7: "a deactivated user loses all active enrolments"; rule 10: the newest event decides."""
    ids = enrol(world, "anna", "ben", "carla", "dora")
    # Ben left yesterday; nothing was heard of it. Carla left as well, and has come back since the roster was made.
    roster = csv(anna="active", ben="terminated", carla="terminated", dora="active")
    world.event(db, "reactivated", "carla", occurred_at=NOW - timedelta(minutes=5))

    planned = plan(db, world, roster, MORNING)
    assert planned.findings == {"inactive": 1, "newer_event": 1}
    assert world.status(ids["ben"]) == "in_progress", "a plan changes nothing"

    confirm(db, world, planned)
    org = world.organisation_id

    def applied() -> RosterPlan | None:
        found = rosters.show(db, organisation_id=org, roster_id=planned.id)
        return found if found.state == "done" else None

    done = eventually(applied, what="the relay applies the roster")
    assert done.job_id is not None
    job = ended(show(db, organisation_id=org, job_id=done.job_id))
    assert (job.source, job.reason, job.outcomes) == ("hr", "user_deactivated", {"withdrawn": 1})
    assert {person for person, one in ids.items() if world.status(one) == "withdrawn"} == {"ben"}
    assert not world.active("ben")

    # The line of the roster is the receipt.
    (decision,) = decision_receipts.explain(db, organisation_id=org, enrolment_id=ids["ben"]).decisions
    assert (decision.request.source, decision.request.file_name, decision.request.line) == ("hr", "all.csv", 3)

    # The same roster, sent again and confirmed again, is done already.
    again = plan(db, world, roster, MORNING)
    assert (again.id, again.job_id) == (planned.id, job.id)
    confirm(db, world, again)
    assert world.one("SELECT count(*) FROM withdrawals.jobs") == 1
    assert_balanced(db)
