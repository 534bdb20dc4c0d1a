"""Fourth: dead letters. A person decides what the service may not, and is shown all that is needed for that."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from schemas.catalogue import JobState
from tests.world import World, assert_balanced, eventually
from worker.database import Database
from worker.dead_letters import acts, remedies
from worker.jobs.show import show
from worker.records import DeadLetter, Job

Ended = Callable[[Job], Job]


@dataclass(frozen=True)
class Refused:
    """A job that was refused what a pathway owns, and the dead letter that it left."""

    db: Database
    world: World
    job: Job
    owned: int
    sibling: int

    @property
    def letter(self) -> DeadLetter:
        letter_id = next(letter.id for letter in self.world.letters() if letter.enrolment_id == self.owned)
        return remedies.show(self.db, organisation_id=self.world.organisation_id, letter_id=letter_id)

    def resolve(self, remedy: str) -> None:
        """Decide the letter as an approver, and wait until that has been carried out."""
        remedies.resolve(
            self.db,
            organisation_id=self.world.organisation_id,
            letter_ids=[self.letter.id],
            remedy=remedy,
            actor="test:approver",
            note="agreed with the pathway's owner",
        )
        eventually(lambda: self.letter.state == "resolved", what="the letter is resolved")

    def current_job(self) -> Job:
        return show(self.db, organisation_id=self.world.organisation_id, job_id=self.job.id)


@pytest.fixture
def refused(service: None, db: Database, world: World, ended: Ended) -> Refused:
    pathway = world.pathway("Onboarding")
    owned = world.enrolment("ben", pathway_id=pathway)
    sibling = world.enrolment("ben", "no_attempts", pathway_id=pathway)
    job = ended(world.submit(db, [world.enrolment("anna"), owned, 999_999]))
    return Refused(db, world, job, owned, sibling)


def test_an_enrolment_of_a_pathway_goes_to_support(refused: Refused) -> None:
    """Rule 6: "An enrolment owned by a Learning Pathway is not withdrawn directly"; it becomes a dead letter."""
    assert refused.job.outcomes == {"withdrawn": 1, "pathway_owned": 1, "not_found": 1}
    assert refused.job.open_dead_letters == 2
    assert (refused.letter.code, refused.letter.state) == ("pathway_owned", "open")


def test_a_dead_letter_names_the_pathway_its_siblings_and_the_remedies(refused: Refused) -> None:
    """Rule 6: "with the pathway, its sibling enrolments and the possible remedies named"."""
    assert refused.letter.evidence["pathway_title"] == "Onboarding"
    assert [item["id"] for item in refused.letter.evidence["now"]["siblings"]] == [refused.sibling]
    assert {"override", "keep"} <= set(acts.remedies(refused.letter.code))


def test_an_override_withdraws_the_enrolment_and_not_its_siblings(refused: Refused) -> None:
    """An approver decides; a worker carries it out as a new attempt, and the letter closes with what that found."""
    refused.resolve("override")
    assert refused.world.status(refused.owned) == "withdrawn"
    assert refused.world.status(refused.sibling) == "no_attempts"
    assert_balanced(refused.db)


def test_keep_closes_the_letter_and_leaves_the_enrolment_as_it_is(refused: Refused) -> None:
    refused.resolve("keep")
    assert refused.world.status(refused.owned) == "in_progress"
    assert_balanced(refused.db)


def test_a_decision_of_support_does_not_change_how_the_job_ended(refused: Refused) -> None:
    """The outcome is replaced and the open letters are counted anew; the state stays what it was."""
    refused.resolve("override")
    job = refused.current_job()
    assert job.state is JobState.COMPLETED_WITH_EXCEPTIONS
    assert job.outcomes == {"withdrawn": 2, "not_found": 1}
    assert job.open_dead_letters == 1
