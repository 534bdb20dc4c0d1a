"""A dead letter in support's words: what happened, what changed since, what each remedy would do."""

import re
from collections import Counter
from typing import Any

from schemas import answers
from schemas.dead_letters import LetterFilter
from tests.jobs.test_edges import refuse
from tests.world import World, decide_due
from worker.config import Settings
from worker.database import Database
from worker.dead_letters import remedies, request_shares


def shown(db: Database, world: World, which: int = 0) -> answers.DeadLetter:
    """The document of a letter, with all that stands around it."""
    found = remedies.show(db, organisation_id=world.organisation_id, letter_id=world.letters()[which].id)
    return remedies.document(found)


def series(world: World, enrolment_id: int) -> str:
    return str(
        world.one("SELECT s.code FROM lms.enrolments e JOIN lms.series s ON s.id = e.series_id WHERE e.id = :id",
                  id=enrolment_id)
    )  # fmt: skip


def test_a_pathway_owned_letter_names_pathway_siblings_request_and_remedies(
    db: Database, world: World, environment: Settings
) -> None:
    pathway = world.pathway("Onboarding")
    owned, active, ended = (
        world.enrolment(status=status, pathway_id=pathway) for status in ("in_progress", "no_attempts", "mastered")
    )
    job = world.submit(db, [owned], note="left in May").id
    decide_due(db, environment)
    letter = shown(db, world)
    told = letter.diagnosis
    named = f"enrolment {owned} (Series {series(world, owned)})"
    assert told.sentence == f'E{named[1:]} was not withdrawn: the Learning Pathway "Onboarding" owns it.'
    assert told.next == "Trying again will fail: a Learning Pathway owns this enrolment."
    assert told.changed == []
    assert (told.seen_then["status"], told.seen_then["pathway_title"]) == ("in_progress", "Onboarding")
    assert told.seen_now is not None
    assert [(item["id"], item["status"]) for item in told.seen_now["siblings"]] == [
        (active, "no_attempts"),
        (ended, "mastered"),
    ]
    assert told.request is not None
    assert (told.request.job_id, told.request.requested_by, told.request.door, told.request.note) == (
        job,
        "test:admin",
        "cli",
        "left in May",
    )
    assert told.shared_by == 1
    assert letter.remedies == {
        "override": f"Withdraws {named}. 2 other enrolments of the learner in the pathway stay "
        "(1 mastered, 1 no_attempts).",
        "cascade": f"Withdraws {named}. Also withdraws 1 other enrolment of the learner in the pathway: {active} "
        f"(Series {series(world, active)}). 1 other is not active and stays.",
        "keep": f"Closes the letter. Enrolment {owned} stays as it is (in_progress).",
        "redrive": "Trying again will fail: a Learning Pathway owns this enrolment.",
        "discard": "Closes the letter without an answer. What was not done stays undone.",
    }


def test_what_has_changed_since_is_said_and_decides_what_an_attempt_would_find(
    db: Database, world: World, environment: Settings, subtests: Any
) -> None:
    owned = world.enrolment(pathway_id=world.pathway())
    world.submit(db, [owned])
    decide_due(db, environment)
    cases = {
        "pathway_id = NULL": ("no Learning Pathway owns it any more", "withdraws enrolment"),
        "status = 'mastered'": ("from in_progress to mastered", "has ended (mastered)"),
        "status = 'withdrawn', withdrawn_by = 'platform'": (
            "withdrawn (requested by platform)",
            "is already withdrawn",
        ),
        "status = 'archived'": ("from in_progress to archived", 'does not know the status "archived"'),
    }
    for change, (said, attempt) in cases.items():
        with subtests.test(change):
            world.run(f"UPDATE lms.enrolments SET {change} WHERE id = :id", id=owned)
            letter = shown(db, world)
            assert any(said in item for item in letter.diagnosis.changed), letter.diagnosis.changed
            assert attempt in letter.remedies["redrive"]
            assert attempt in (letter.diagnosis.next or "")
    world.run("DELETE FROM lms.enrolments WHERE id = :id", id=owned)
    gone = shown(db, world)
    assert gone.diagnosis.changed == ["the enrolment no longer exists"]
    assert gone.remedies["override"] == "Withdraws nothing: this organisation has no such enrolment."


def test_an_override_is_not_promised_once_another_pathway_owns_it(
    db: Database, world: World, environment: Settings
) -> None:
    """An attempt withdraws out of the pathway that the approver saw and out of no other, and that is what is said."""
    first, second = world.pathway("Onboarding"), world.pathway("Safety")
    owned = world.enrolment(pathway_id=first)
    world.enrolment(pathway_id=second)
    world.submit(db, [owned])
    decide_due(db, environment)
    world.run("UPDATE lms.enrolments SET pathway_id = :p WHERE id = :id", p=second, id=owned)
    for remedy in ("override", "cascade"):
        assert shown(db, world).remedies[remedy] == (
            'Withdraws nothing: the Learning Pathway "Safety" owns the enrolment now, and this letter is about the '
            'Learning Pathway "Onboarding". The letter opens again.'
        )
    letter_id = world.letters()[0].id
    remedies.resolve(
        db, organisation_id=world.organisation_id, letter_ids=[letter_id], remedy="override", actor="carla", note="so"
    )
    decide_due(db, environment)
    assert (world.status(owned), world.letters()[0].state) == ("in_progress", "open")
    assert shown(db, world).remedies["override"].startswith("Withdraws enrolment")


def test_the_prediction_is_what_the_attempt_then_finds(db: Database, world: World, environment: Settings) -> None:
    owned = world.enrolment(pathway_id=world.pathway())
    world.submit(db, [owned])
    decide_due(db, environment)
    world.run("UPDATE lms.enrolments SET pathway_id = NULL WHERE id = :id", id=owned)
    assert shown(db, world).remedies["redrive"].startswith("Trying again withdraws")
    remedies.redrive(db, organisation_id=world.organisation_id, letter_ids=[world.letters()[0].id], actor="carla")
    on_its_way = shown(db, world)
    assert (on_its_way.state, on_its_way.history[-1].what) == ("redriven", "an attempt is under way")
    decide_due(db, environment)
    assert world.status(owned) == "withdrawn"
    closed = shown(db, world)
    assert closed.diagnosis.next is None
    assert [(event.what, event.who) for event in closed.history] == [
        ("the letter was opened", None),
        ("asked for another attempt", "carla"),
        ("an attempt: pathway_owned became withdrawn", "carla"),
        ("the letter was closed: resolved (redrive)", "carla"),
    ]


def test_other_refusals_say_what_they_are(db: Database, world: World, environment: Settings) -> None:
    archived = world.enrolment(status="archived")
    world.submit(db, [archived, 999_999])
    world.event(db, "deactivated", "nobody-yet")
    decide_due(db, environment)
    by_code = {letter.code: shown(db, world, n) for n, letter in enumerate(world.letters())}
    unknown = by_code["unknown_status"]
    assert 'does not know its status, "archived"' in unknown.diagnosis.sentence
    assert set(unknown.remedies) == {"keep", "redrive", "discard"}
    missing = by_code["not_found"]
    assert missing.diagnosis.sentence.endswith("This organisation has no such enrolment.")
    assert missing.remedies["redrive"] == "Trying again will fail: this organisation has no such enrolment."
    person = by_code["unknown_learner"]
    assert '"nobody-yet", whom the platform did not know' in person.diagnosis.sentence
    assert person.diagnosis.request is not None
    assert person.diagnosis.request.door == "hr:hr"
    assert person.diagnosis.request.receipt_id
    assert "does not know the learner" in person.remedies["redrive"]
    world.enrolment("nobody-yet")
    world.enrolment("nobody-yet", pathway_id=world.pathway())
    known = shown(db, world, [letter.code for letter in world.letters()].index("unknown_learner"))
    assert known.diagnosis.changed == ["the platform knows the learner now"]
    assert known.remedies["redrive"] == (
        "Trying again decides 1 enrolment of the learner. A Learning Pathway owns 1 other, which becomes a letter."
    )
    world.event(db, "reactivated", "nobody-yet")
    back = shown(db, world, [letter.code for letter in world.letters()].index("unknown_learner"))
    assert back.remedies["redrive"].endswith("a newer event of the person replaced the deactivation.")


def test_a_technical_failure_shows_its_error_and_how_many_share_it(
    db: Database, world: World, environment: Settings
) -> None:
    ids = [world.enrolment(name) for name in ("anna", "ben")]
    for enrolment_id in ids:
        world.run("DROP FUNCTION IF EXISTS refuse CASCADE")
        refuse(world, enrolment_id)
        world.submit(db, [enrolment_id])
        for _ in range(environment.max_attempts):
            world.run("UPDATE withdrawals.chunks SET run_after = now() WHERE state = 'ready'")
            decide_due(db, environment)
    letter = shown(db, world, 1)
    assert letter.code == "retries_exhausted"
    assert re.search(r"every attempt in \d+ seconds? failed, the last with RaiseException", letter.diagnosis.sentence)
    assert letter.diagnosis.shared_by == 2
    assert letter.remedies["redrive"].startswith("Trying again withdraws")
    failed = [event for event in letter.history if event.what.startswith("an attempt failed")]
    assert len(failed) == environment.max_attempts
    assert "anna@" not in letter.model_dump_json()


def test_a_remedy_is_recommended_where_something_speaks_for_it(
    db: Database, world: World, environment: Settings
) -> None:
    pathway = world.pathway()

    def recommended(which: int) -> str | None:
        found = shown(db, world, which).recommended
        return found.remedy if found else None

    owned = [world.enrolment(f"of-{reason}", pathway_id=pathway) for reason in ("not", "error", "freed")]
    world.submit(db, [owned[0]])
    world.submit(db, [owned[1]], reason="enrolment_error", source="correction")
    world.submit(db, [owned[2]])
    world.submit(db, [world.enrolment("odd", "on_hold"), 999_999])
    world.enrolment("gone", pathway_id=pathway)
    world.event(db, "deactivated", "gone")
    decide_due(db, environment)
    world.run("UPDATE lms.enrolments SET pathway_id = NULL WHERE id = :i", i=owned[2])
    codes = {(letter.code, letter.enrolment_id): at for at, letter in enumerate(world.letters())}
    assert recommended(codes["pathway_owned", owned[0]]) == "keep"
    assert recommended(codes["pathway_owned", owned[1]]) is None, "nothing speaks for one: a person decides"
    assert recommended(codes["pathway_owned", owned[2]]) == "redrive", "the pathway has let go of it"
    assert recommended(codes["not_found", 999_999]) == "discard"
    unknown = next(at for (code, _), at in codes.items() if code == "unknown_status")
    assert recommended(unknown) is None
    leaver = next(at for (code, one), at in codes.items() if code == "pathway_owned" and one not in owned)
    assert recommended(leaver) == "cascade"
    for letter in range(len(codes)):
        found = shown(db, world, letter)
        assert found.recommended is None or found.recommended.remedy in found.remedies
    shares = request_shares.list_shares(
        db, organisation_id=world.organisation_id, act="discard", wanted=LetterFilter(state="open")
    )
    one_by_one = Counter(recommended(letter) for letter in range(len(codes)))
    together = Counter[str | None]()
    for share in shares:
        together[share.recommended] += share.letters
    assert together == one_by_one, "a preview of all recommends for each what its own page does"
