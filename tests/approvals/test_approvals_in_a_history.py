"""A person's history has what was asked of a second person about them, and what became of it."""

from collections.abc import Callable

import pytest

from tests.approvals.office import ADA, EVE, Office
from tests.support.commandline import done
from tests.world import World
from worker.config import Settings
from worker.database import Database
from worker.dead_letters import person_history
from worker.errors import SecondPersonNeededError
from worker.people import protections


def test_a_persons_history_has_the_approvals_about_them(world: World, db: Database, environment: Settings) -> None:
    office = Office(db, world, environment)
    office.rules(override=0, lift=0, release=0)
    letter, elsewhere = office.letters(2)
    hold = office.prepare("lift", 1)
    asks: list[Callable[[], object]] = [
        lambda: office.resolve([letter], note="agreed with HR"),
        lambda: office.resolve([elsewhere]),
        lambda: protections.lift(db, **office.organisation, protection_id=hold.id, who=ADA, note="over"),
    ]
    for ask in asks:
        with pytest.raises(SecondPersonNeededError):
            ask()
    office.approve(1, note="seen")
    office.reject(3, note="not yet")
    world.run("UPDATE withdrawals.approvals SET expires_at = requested_at + interval '1 ms' WHERE id = 2")
    learners = """SELECT l.external_id FROM lms.learners l JOIN lms.enrolments e ON e.learner_id = l.id
        WHERE e.id = (SELECT enrolment_id FROM withdrawals.dead_letters WHERE id = :id)"""
    of_letter = world.one(learners, id=letter)
    of_another = world.one(learners, id=elsewhere)

    def told(external_id: str) -> list[tuple[str | None, str, str | None]]:
        found = person_history.show(db, **office.organisation, external_id=external_id)
        return [(one.who, one.what, one.note) for one in reversed(found.approvals) if "approval" in one.what]

    name = f"approval 1, Withdraw anyway (override): letter {letter}"
    assert told(of_letter) == [
        (ADA.name, f"asked for {name}", "agreed with HR"),
        (EVE.name, f"approved {name}", "seen"),
    ]
    name = f"approval 3, Lift a protection: protection {hold.id}"
    assert told(hold.learner_external_id) == [
        (ADA.name, f"asked for {name}", "over"),
        (EVE.name, f"rejected {name}", "not yet"),
    ]
    assert [what.split(", ")[0] for _, what, _ in told(of_another)] == ["asked for approval 2", "approval 2"]
    found = done("person", "show", of_letter)
    assert found["approvals"][0]["note"] == "seen"
