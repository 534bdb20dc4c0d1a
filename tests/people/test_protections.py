"""Protected learners and enrolments: honoured by every source, counted and shown, lifted by a second person."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import ValidationError
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from schemas.jobs import JobRequest
from schemas.protections import Protection, ProtectionPolicy, ProtectionRequest
from tests.world import World, assert_balanced, decide_due
from worker.access.persons import Actor
from worker.config import Settings
from worker.database import Database
from worker.dead_letters import decision_receipts, remedies, run_steps
from worker.errors import ConflictError, InvalidInputError, NotFoundError, OwnProtectionError
from worker.jobs import plan
from worker.people import protections

ADA, EVE = Actor("token:ada", made_by="cli:root"), Actor("token:eve", made_by="cli:root")


class Desk:
    """Protects and lifts in the organisation of a world."""

    def __init__(self, db: Database, world: World) -> None:
        self.db, self.world = db, world
        self.organisation: dict[str, Any] = {"organisation_id": world.organisation_id}

    def protect(self, **wanted: object) -> Protection:
        request = ProtectionRequest.model_validate({"kind": "legal_hold", "reason": "case 17", **wanted})
        return protections.protect(self.db, **self.organisation, wanted=request, who=ADA)

    def lift(self, protection: Protection, who: Actor = EVE, note: str = "case closed") -> Protection:
        return protections.lift(self.db, **self.organisation, protection_id=protection.id, who=who, note=note)

    def time_passes(self, protection: Protection) -> None:
        """As if the protection's last day were yesterday."""
        with self.world.owner.begin() as connection:
            connection.execute(text("SET LOCAL session_replication_role = replica"))
            connection.execute(
                text(
                    """UPDATE withdrawals.protections SET starts_at = starts_at - interval '9 days',
                    until = now() - interval '1 s' WHERE id = :id"""
                ),
                {"id": protection.id},
            )

    def a_day_passes(self, settings: Settings) -> None:
        self.world.run("UPDATE withdrawals.organisation_settings SET passed_at = now() - interval '2 days'")
        run_steps.redrive_changed(self.db)
        run_steps.step_all(self.db)
        decide_due(self.db, settings)


@pytest.fixture
def desk(db: Database, world: World) -> Desk:
    return Desk(db, world)


def test_an_exemption_ends_by_itself_and_what_it_kept_back_is_withdrawn(
    desk: Desk, db: Database, world: World, environment: Settings
) -> None:
    """A plan and the brake say it before, the receipt and the letter after; the daily pass does the rest."""
    kept, other = world.enrolment("anna"), world.enrolment("ben")
    until = datetime.now(UTC) + timedelta(days=5)
    exemption = desk.protect(enrolment_id=kept, kind="exemption", until=until)
    request = JobRequest(reason="not_required", enrolment_ids=[kept, other])
    planned = plan.of_request(db, world.organisation_id, request)
    assert planned.outcomes == {"protected": 1, "withdrawn": 1}
    assert planned.samples["protected"][0].protection == f"an exemption until {until:%Y-%m-%d %H:%M}Z"
    assert planned.brake_forecast.learners == 1, "the brake counts whom the rules would withdraw"
    job = world.submit(db, [kept, other])
    decide_due(db, environment)
    assert world.outcomes(job.id) == {kept: "protected", other: "withdrawn"}
    learners, state = world.run("SELECT learners, state FROM withdrawals.jobs WHERE id = :id", id=job.id)[0]
    assert (learners, state) == (1, "completed_with_exceptions")

    (row,) = world.letters()
    letter = remedies.show(db, **desk.organisation, letter_id=row.id)
    shown = remedies.document(letter)
    assert letter.evidence["protection_id"] == exemption.id
    assert f"an exemption until {until:%Y-%m-%d %H:%M}Z protects it" in shown.diagnosis.sentence
    assert shown.diagnosis.next is not None and shown.diagnosis.next.startswith("Trying again will fail: an exemption")
    assert shown.due_at is not None and shown.due_at > until, "nobody is late before it ends"
    history = decision_receipts.explain(db, **desk.organisation, enrolment_id=kept)
    assert history.decisions[0].sentence.startswith("An exemption until")
    assert history.decisions[0].rule is not None and history.decisions[0].rule.number == 11

    desk.a_day_passes(environment)
    assert world.status(kept) == "in_progress", "it is tried when the protection has ended, and not before"
    desk.time_passes(exemption)
    assert protections.show(db, **desk.organisation, protection_id=exemption.id).state == "ended"
    desk.a_day_passes(environment)
    assert world.outcomes(job.id) == {kept: "withdrawn", other: "withdrawn"}
    assert [letter.state for letter in world.letters()] == ["resolved"]
    assert_balanced(db)


def test_no_override_and_no_cascade_breaks_a_protection(
    desk: Desk, db: Database, world: World, environment: Settings
) -> None:
    """Rule 11. Once it has ended, the pathway owns the enrolments as before, and an approver decides again."""
    pathway = world.pathway()
    owned, sibling = world.enrolment("anna", pathway_id=pathway), world.enrolment("anna", pathway_id=pathway)
    job = world.submit(db, [owned])
    decide_due(db, environment)
    hold = desk.protect(learner_external_id="anna")
    (letter,) = world.letters()
    act = {"actor": "test:approver", "note": "agreed", "door": "api"}
    before = remedies.show(db, **desk.organisation, letter_id=letter.id)
    assert "protects" in remedies.document(before).remedies["override"]
    remedies.resolve(db, **desk.organisation, letter_ids=[letter.id], remedy="cascade", **act)  # type: ignore[arg-type]
    decide_due(db, environment)
    assert world.outcomes(job.id) == {owned: "protected"}
    assert [world.status(one) for one in (owned, sibling)] == ["in_progress", "in_progress"]
    letters = {(one.code, one.state, one.enrolment_id) for one in world.letters()}
    assert letters == {
        ("pathway_owned", "resolved", owned),
        ("protected", "open", owned),
        ("protected", "open", sibling),
    }
    assert_balanced(db)

    desk.lift(hold)
    desk.a_day_passes(environment)
    assert world.outcomes(job.id) == {owned: "pathway_owned"}
    letters = {(one.code, one.state, one.enrolment_id) for one in world.letters() if one.state == "open"}
    assert letters == {("pathway_owned", "open", owned), ("pathway_owned", "open", sibling)}
    assert_balanced(db)


def test_an_organisation_that_wants_no_letters_gets_none(
    desk: Desk, db: Database, world: World, environment: Settings
) -> None:
    """Also where an attempt at another letter meets a protection: that letter is resolved."""
    owned = world.enrolment("anna", pathway_id=world.pathway())
    job = world.submit(db, [owned])
    decide_due(db, environment)
    policy = ProtectionPolicy(letters=False)
    assert protections.read_policy(db, **desk.organisation) == ProtectionPolicy(letters=True)
    assert protections.set_policy(db, **desk.organisation, wanted=policy, who=EVE) == policy
    desk.protect(learner_external_id="anna")
    (letter,) = world.letters()
    remedies.redrive(db, **desk.organisation, letter_ids=[letter.id], actor="test:operator")
    world.submit(db, [world.enrolment("anna")])
    decide_due(db, environment)
    assert world.outcomes(job.id) == {owned: "protected"}
    assert [(one.code, one.state) for one in world.letters()] == [("pathway_owned", "resolved")]
    assert world.run("SELECT DISTINCT dead_letter_id FROM withdrawals.outcomes") == [(None,)]
    assert_balanced(db)


def test_a_second_person_lifts_and_every_act_is_in_the_audit(desk: Desk, db: Database, world: World) -> None:
    world.learner("anna")
    hold = desk.protect(learner_external_id="anna")
    assert desk.protect(learner_external_id="anna").id == hold.id, "the same request again"
    for same in (ADA, Actor("cli:ADA"), Actor("token:bot", made_by="token:ada")):
        with pytest.raises(OwnProtectionError, match="not a second person"):
            desk.lift(hold, who=same)
    with pytest.raises(InvalidInputError, match="note"):
        desk.lift(hold, note=" ")
    lifted = desk.lift(hold)
    assert (lifted.state, lifted.lifted_by, lifted.lift_note) == ("lifted", "token:eve", "case closed")
    assert desk.lift(hold) == lifted, "the same request again"
    with pytest.raises(ConflictError, match="is lifted by token:eve"):
        desk.lift(hold, who=Actor("token:zoe"))
    audited = world.run("SELECT actor, action, note, detail ->> 'protection' FROM withdrawals.audit ORDER BY id")
    assert [tuple(row) for row in audited] == [
        ("token:ada", "protection.add", "case 17", str(hold.id)),
        ("token:eve", "protection.lift", "case closed", str(hold.id)),
    ]
    for statement in ("DELETE FROM withdrawals.protections", "UPDATE withdrawals.protections SET lifted_at = now()"):
        with pytest.raises(IntegrityError):
            world.run(statement)


def test_what_cannot_be_protected_is_refused(desk: Desk, db: Database, world: World) -> None:
    world.learner("anna")
    other = world.organisation("Other")
    theirs = world.enrolment("eve", organisation_id=other)
    subjects: list[dict[str, object]] = [
        {"learner_external_id": "eve"},
        {"learner_external_id": "Anna"},
        {"enrolment_id": theirs},
    ]
    for subject in subjects:
        with pytest.raises(NotFoundError):
            desk.protect(**subject)
    with pytest.raises(InvalidInputError, match="until: that time has passed"):
        desk.protect(learner_external_id="anna", until=datetime.now(UTC) - timedelta(seconds=1))
    for wrong in ({}, {"enrolment_id": 1, "learner_external_id": "anna"}, {"enrolment_id": 1, "kind": "exemption"}):
        with pytest.raises(ValidationError):
            desk.protect(**wrong)
    assert protections.list_protections(db, **desk.organisation) == []
    mine = desk.protect(learner_external_id="anna")
    with pytest.raises(NotFoundError):
        protections.lift(db, organisation_id=other, protection_id=mine.id, who=EVE, note="not mine")
