"""Rosters for tests: sent as files, confirmed, and applied as the relay does."""

import io
from datetime import UTC, datetime, timedelta
from typing import Any

from schemas.rosters import RosterPlan, RosterRequest
from tests.world import World
from worker.database import Database
from worker.people import roster_steps, rosters

NOW = datetime.now(UTC).replace(microsecond=0)
MORNING = NOW - timedelta(hours=6)


def csv(**people: str) -> str:
    """A roster of these people and their states."""
    return "\n".join(["Employee ID;Status", *(f"{person};{state}" for person, state in people.items())])


def plan(
    db: Database,
    world: World,
    content: str | bytes,
    as_of: datetime = MORNING,
    organisation_id: int | None = None,
    **wanted: Any,
) -> RosterPlan:
    """Plan a roster file."""
    return rosters.plan_file(
        db,
        organisation_id=organisation_id or world.organisation_id,
        actor="cli:ada",
        wanted=RosterRequest(as_of=as_of, **wanted),
        stream=io.BytesIO(content.encode() if isinstance(content, str) else content),
        name="all.csv",
    )


def confirm(db: Database, world: World, planned: RosterPlan, organisation_id: int | None = None) -> None:
    """Confirm a roster; the relay would apply it from now on."""
    org = organisation_id or world.organisation_id
    rosters.confirm(db, organisation_id=org, roster_id=planned.id, actor="cli:ada")


def accept(db: Database, world: World, planned: RosterPlan, organisation_id: int | None = None) -> RosterPlan:
    """Confirm a roster and apply it."""
    confirm(db, world, planned, organisation_id)
    roster_steps.apply_accepted(db, within=60)
    return rosters.show(db, organisation_id=organisation_id or world.organisation_id, roster_id=planned.id)


def enrol(
    world: World, *learners: str, organisation_id: int | None = None, pathway_id: int | None = None
) -> dict[str, int]:
    """An enrolment each, since two days."""
    made = {
        learner: world.enrolment(learner, organisation_id=organisation_id, pathway_id=pathway_id)
        for learner in learners
    }
    at, ids = NOW - timedelta(days=2), list(made.values())
    world.run("UPDATE lms.enrolments SET enrolled_at = :at WHERE id = ANY(:ids)", at=at, ids=ids)
    return made
