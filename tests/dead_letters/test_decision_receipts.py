"""Decision receipts: what was asked of an enrolment, which rule decided, what happened since."""

from pathlib import Path

import pytest

from schemas.desk import EnrolmentHistory
from schemas.jobs import JobRequest
from tests.support.commandline import done
from tests.world import World, assert_balanced, decide_due
from worker.config import Settings
from worker.database import Database
from worker.dead_letters import decision_receipts, remedies
from worker.errors import NotFoundError
from worker.jobs.control import cancel
from worker.jobs.submit import Requester, submit


def explained(db: Database, world: World, enrolment_id: int) -> EnrolmentHistory:
    return decision_receipts.explain(db, organisation_id=world.organisation_id, enrolment_id=enrolment_id)


def test_an_enrolment_that_nobody_asked_about_says_so(db: Database, world: World) -> None:
    found = explained(db, world, world.enrolment())
    assert found.summary.endswith("is in_progress. Nobody has asked this service to withdraw it.")
    assert (found.decisions, found.dead_letters, found.events) == ([], [], [])


def test_every_outcome_names_the_rule_that_decided_and_what_was_seen(
    db: Database, world: World, environment: Settings
) -> None:
    pathway = world.pathway("Onboarding")
    cases = {
        world.enrolment(status="no_attempts"): ("withdrawn", 2, "no_attempts"),
        world.enrolment(status="withdrawn"): ("already_withdrawn", 9, "withdrawn"),
        world.enrolment(status="mastered"): ("enrolment_ended", 2, "mastered"),
        world.enrolment(status="archived"): ("unknown_status", 2, "archived"),
        world.enrolment(pathway_id=pathway): ("pathway_owned", 6, "in_progress"),
        999_999: ("not_found", 9, None),
    }
    job = world.submit(db, list(cases), note="as agreed").id
    decide_due(db, environment)
    for enrolment_id, (outcome, rule, status) in cases.items():
        (decision,) = explained(db, world, enrolment_id).decisions
        assert (decision.outcome, decision.rule and decision.rule.number) == (outcome, rule)
        assert (decision.seen and decision.seen["status"]) == status
        assert (decision.request.job_id, decision.request.door, decision.request.note) == (job, "cli", "as agreed")
        assert decision.standing == "decided"


def test_the_whole_way_of_an_enrolment_is_told_in_the_order_of_time(
    db: Database, world: World, environment: Settings
) -> None:
    """Refused, given up to support, overridden; asked again by a leaver's event; a third request is cancelled."""
    owned = world.enrolment("anna", pathway_id=world.pathway("Onboarding"))
    first = world.submit(db, [owned]).id
    decide_due(db, environment)
    (letter,) = world.letters()
    remedies.resolve(
        db, organisation_id=world.organisation_id, letter_ids=[letter.id], remedy="override", note="she left",
        actor="dora",
    )  # fmt: skip
    decide_due(db, environment)
    again = world.submit(db, [owned]).id
    decide_due(db, environment)
    later = world.submit(db, [owned, *world.enrolments(3)], effective_at="2990-01-01T00:00:00Z").id
    waiting = explained(db, world, owned)
    assert [decision.standing for decision in waiting.decisions] == ["decided", "decided", "waiting"]
    assert waiting.decisions[-1].sentence == "It takes effect at 2990-01-01 00:00Z."
    cancel(db, organisation_id=world.organisation_id, job_id=later, actor="carla", note="a mistake")
    found = explained(db, world, owned)
    assert [(item.request.job_id, item.standing, item.outcome) for item in found.decisions] == [
        (first, "decided", "withdrawn"),
        (again, "decided", "already_withdrawn"),
        (later, "cancelled", None),
    ]
    overridden = found.decisions[0]
    assert (overridden.rule and overridden.rule.number, overridden.asked_by) == (6, "dora")
    assert "approver decided" in overridden.sentence
    assert f"Job {first}, requested by test:admin, withdrew it after dora had decided on its letter." in found.summary
    assert [(item.id, item.state, item.remedy) for item in found.dead_letters] == [(letter.id, "resolved", "override")]
    told = [(event.who, event.what.partition(":")[0], event.note) for event in found.events]
    assert told[:3] == [
        ("test:admin", "asked for a withdrawal (not_required) on the command line, key "
         + overridden.request.key, None),
        (None, f"letter {letter.id} was opened", None),
        ("dora", "decided to withdraw it although a Learning Pathway owns it (override)", "she left"),
    ]  # fmt: skip
    assert ("dora", "the outcome pathway_owned became withdrawn", None) in told
    assert ("carla", "cancelled the job", "a mistake") in told
    assert [event.at for event in found.events] == sorted(event.at for event in found.events)


def test_a_leavers_event_is_told_with_its_door_receipt_and_what_took_its_place(
    db: Database, world: World, environment: Settings
) -> None:
    enrolment_id = world.enrolment("anna")
    ahead = world.event(db, "deactivated", "anna", source="workday", effective_at="2990-01-01T00:00:00Z")
    assert explained(db, world, enrolment_id).decisions[0].standing == "waiting"
    world.event(db, "reactivated", "anna", source="workday")
    now = world.event(db, "deactivated", "anna", source="workday")
    decide_due(db, environment)
    found = explained(db, world, enrolment_id)
    assert [(item.request.job_id, item.standing, item.outcome) for item in found.decisions] == [
        (ahead.job_id, "superseded", None),
        (now.job_id, "decided", "withdrawn"),
    ]
    assert found.decisions[0].rule is not None
    assert found.decisions[0].rule.number == 10
    asked = found.decisions[1].request
    assert (asked.door, asked.receipt_id) == ("hr:workday", str(now.id))
    assert f"through the HR source workday, event {asked.key}, receipt {now.id}" in found.events[-2].what


def test_what_is_unfinished_is_found_in_every_state(db: Database, world: World) -> None:
    """In one chunk among several of its job: the ids around it are not it."""
    ids = world.enrolments(9)
    job = world.submit(db, ids, chunk_size=3).id
    for enrolment_id in (ids[0], ids[4], ids[8]):
        (decision,) = explained(db, world, enrolment_id).decisions
        assert (decision.standing, decision.sentence) == ("waiting", "It waits for a worker.")
    cancel(db, organisation_id=world.organisation_id, job_id=job, actor="carla")
    assert [explained(db, world, n).decisions[0].standing for n in ids] == ["cancelled"] * 9
    world.submit(db, [ids[0], ids[2]])
    assert len(explained(db, world, ids[1]).decisions) == 1


def test_another_organisations_enrolment_is_as_one_that_does_not_exist(db: Database, world: World) -> None:
    other = world.organisation("Other")
    theirs = world.enrolment("zoe", organisation_id=other)
    submit(db, Requester(other, "x", "cli", "k"), JobRequest(reason="not_required", enrolment_ids=[theirs]))
    told = []
    for enrolment_id in (theirs, 999_999):
        with pytest.raises(NotFoundError) as error:
            explained(db, world, enrolment_id)
        told.append(str(error.value).replace(str(enrolment_id), "N"))
    assert told[0] == told[1]


def test_a_request_that_came_as_a_file_names_the_file_and_the_line(
    db: Database, world: World, environment: Settings, tmp_path: Path
) -> None:
    """The line on which it stood first, also after its chunk was split; the letter that it led to says the same."""
    owned = world.enrolment("anna", pathway_id=world.pathway("Onboarding"))
    ids = [*world.enrolments(1500), owned, 999_999]
    text = "name,enrolment_id\n" + "".join(f'"Anna\nB.",{n}\n' for n in [*ids, owned])
    (tmp_path / "leavers <b>.csv").write_text(text)
    job = done("bulk", tmp_path / "leavers <b>.csv", "--reason", "not_required")
    assert job["file_name"] == "leavers <b>.csv"
    decide_due(db, environment)
    for place, enrolment_id in enumerate(ids):
        if place in (0, 999, 1000, 1500, 1501):
            asked = explained(db, world, enrolment_id).decisions[0].request
            # a quoted cell may span lines: it is the line on which the row ends, as in messages about faults
            assert (asked.file_name, asked.line) == ("leavers <b>.csv", 2 * place + 3)
    said = explained(db, world, owned).events[0].what
    assert said.startswith('asked for a withdrawal (not_required) on the command line, line 3003 of the file "leavers')
    letter = next(item for item in world.letters() if item.enrolment_id == owned)
    shown = remedies.show(db, organisation_id=world.organisation_id, letter_id=letter.id)
    assert (shown.context["request"]["file_name"], shown.context["request"]["line"]) == ("leavers <b>.csv", 3003)
    assert_balanced(db)
