"""Runs over many letters: looked at first, a few ahead, at a rate, halted by themselves."""

import json
import re
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest

from ops.local.supervisor import Supervisor
from schemas.control import BrakeSetting
from schemas.dead_letters import LetterFilter
from tests.jobs.test_edges import refuse
from tests.jobs.undoing import Undo
from tests.support.commandline import done, refused, withdrawals
from tests.support.processes import RELAY, WORKER, kill
from tests.world import World, assert_balanced, decide_due, eventually
from worker.config import Settings
from worker.database import Database
from worker.dead_letters import remedies as letters
from worker.dead_letters import run_steps, runs
from worker.errors import BrakeError, ConflictError, InvalidInputError
from worker.jobs import brake
from worker.ledger.runs import CountedRun

SUPPORT = "test:support"
ALL = LetterFilter()


def owned(db: Database, world: World, settings: Settings, count: int) -> list[int]:
    """Enrolments that a pathway owns, each with an open letter."""
    ids = world.enrolments(count)
    world.run("UPDATE lms.enrolments SET pathway_id = :p WHERE id = ANY(:ids)", p=world.pathway(), ids=ids)
    world.submit(db, ids)
    decide_due(db, settings)
    return ids


def freed(world: World, ids: list[int]) -> None:
    """The pathway owns them no longer."""
    world.run("UPDATE lms.enrolments SET pathway_id = NULL WHERE id = ANY(:ids)", ids=ids)


def start(db: Database, world: World, act: str = "redrive", wanted: LetterFilter = ALL, **how: Any) -> CountedRun:
    how.setdefault("note", "agreed")
    how.setdefault("door", "cli")
    return runs.start(db, organisation_id=world.organisation_id, act=act, wanted=wanted, actor=SUPPORT, **how)


def show(db: Database, run: CountedRun) -> CountedRun:
    return runs.show(db, organisation_id=run.organisation_id, run_id=run.id)


def step(db: Database, world: World, settings: Settings) -> int:
    """One step, a second after the last one, and what comes of it."""
    world.run("UPDATE withdrawals.runs SET stepped_at = stepped_at - interval '1 second'")
    driven = run_steps.step_all(db)
    decide_due(db, settings)
    return driven


def run_off(db: Database, world: World, settings: Settings, run: CountedRun) -> CountedRun:
    for _ in range(50):
        step(db, world, settings)
        if show(db, run).finished_at is not None:
            break
    return show(db, run)


def resolved_at_least(db: Database, run: CountedRun, count: int) -> bool:
    return show(db, run).resolved >= count


def counts(run: CountedRun) -> dict[str, int]:
    names = ("waiting", "in_flight", "resolved", "came_back", "held_back", "passed")
    return {name: getattr(run, name) for name in names if getattr(run, name)}


def test_a_preview_says_what_would_happen_and_writes_nothing(db: Database, world: World, environment: Settings) -> None:
    ids = owned(db, world, environment, 6)
    freed(world, ids[:2])
    world.run("UPDATE lms.enrolments SET status = 'mastered' WHERE id = :i", i=ids[2])
    world.run("UPDATE lms.enrolments SET status = 'withdrawn' WHERE id = :i", i=ids[3])
    world.submit(db, [999_999])
    world.event(db, "deactivated", "zoe")
    decide_due(db, environment)
    before = world.run("SELECT count(*) FROM withdrawals.audit")
    found = runs.preview(db, organisation_id=world.organisation_id, act="redrive", wanted=ALL)
    assert found["outcomes"] == {
        "already_withdrawn": 1, "enrolment_ended": 1, "not_found": 1, "not_known": 1, "pathway_owned": 2,
        "withdrawn": 2,
    }  # fmt: skip
    assert (found["letters"], found["moot"]) == (8, 2)
    override = runs.preview(db, organisation_id=world.organisation_id, act="override", wanted=ALL)
    assert override["outcomes"] == {"already_withdrawn": 1, "enrolment_ended": 1, "withdrawn": 4}
    assert world.run("SELECT count(*) FROM withdrawals.audit") == before
    assert world.one("SELECT count(*) FROM withdrawals.runs") == 0


def test_a_few_of_each_fingerprint_go_first_and_the_rest_follow_when_they_succeed(
    db: Database, world: World, environment: Settings
) -> None:
    ids = owned(db, world, environment, 20)
    freed(world, ids)
    run = start(db, world)
    assert (run.state, run.letters) == ("canary", 20)
    assert step(db, world, environment) == 3
    assert counts(show(db, run)) == {"in_flight": 3, "waiting": 17}
    ended = run_off(db, world, environment, run)
    assert (ended.state, counts(ended)) == ("done", {"resolved": 20})
    assert {world.status(enrolment_id) for enrolment_id in ids} == {"withdrawn"}
    assert_balanced(db)


def test_a_canary_that_comes_back_holds_the_rest_of_its_fingerprint_and_no_other(
    db: Database, world: World, environment: Settings
) -> None:
    """Pathway-owned ones stay owned; those of an unknown status are known by now."""
    still_owned = owned(db, world, environment, 10)
    strange = world.enrolments(10, "frozen")
    world.submit(db, strange)
    decide_due(db, environment)
    world.run("UPDATE lms.enrolments SET status = 'in_progress' WHERE id = ANY(:ids)", ids=strange)
    ended = run_off(db, world, environment, start(db, world))
    assert (ended.state, counts(ended)) == ("done", {"resolved": 10, "came_back": 3, "held_back": 7})
    attempts = world.one(
        "SELECT count(*) FROM withdrawals.chunks WHERE redrives IS NOT NULL AND enrolment_ids[1] = ANY(:ids)",
        ids=still_owned,
    )
    assert attempts == 3
    assert_balanced(db)


def test_it_halts_by_itself_when_failures_return(db: Database, world: World, environment: Settings) -> None:
    """The first were fine; then the pathway takes the others back."""
    ids = owned(db, world, environment, 60)
    freed(world, ids)
    run = start(db, world, rate=20)
    step(db, world, environment)
    world.run("UPDATE lms.enrolments SET pathway_id = :p WHERE status <> 'withdrawn'", p=world.pathway())
    ended = run_off(db, world, environment, run)
    assert ended.state == "halted"
    assert ended.because == "20 of the last 20 letters were open again after their attempt"
    assert counts(ended) == {"resolved": 3, "came_back": 20, "waiting": 37}
    assert_balanced(db)


def test_the_rate_bounds_what_is_driven_in_a_second(db: Database, world: World, environment: Settings) -> None:
    freed(world, owned(db, world, environment, 30))
    start(db, world, rate=5, canary=0)
    assert [step(db, world, environment) for _ in range(3)] == [5, 5, 5]


def test_past_the_brake_a_run_halts_and_a_single_act_is_refused(
    db: Database, world: World, environment: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redrives and remedies count and are never held."""
    ids = owned(db, world, environment, 8)
    world.run("DELETE FROM withdrawals.brake_volume")
    limits = BrakeSetting(floor=4, share=0.1)
    brake.set_limits(db, organisation_id=world.organisation_id, wanted=limits, actor="test:approver")
    ended = run_off(db, world, environment, start(db, world, "override", rate=3))
    assert ended.state == "halted"
    assert "brake" in str(ended.because)
    assert (ended.resolved, ended.waiting) == (3, 5)
    world.run("DELETE FROM withdrawals.brake_volume")
    rest = [letter.id for letter in world.letters() if letter.state == "open"]
    override: dict[str, Any] = {
        "organisation_id": world.organisation_id,
        "remedy": "override",
        "actor": SUPPORT,
        "note": "why",
    }
    with pytest.raises(BrakeError):
        letters.resolve(db, letter_ids=rest, **override)
    letters.resolve(db, letter_ids=rest[:2], **override)
    letters.redrive(db, organisation_id=world.organisation_id, letter_ids=rest[2:], actor=SUPPORT)  # withdraws nobody
    assert sum(world.status(enrolment_id) == "withdrawn" for enrolment_id in ids) == 3
    assert_balanced(db)


def test_one_run_for_a_filter_at_a_time(db: Database, world: World, environment: Settings) -> None:
    """Two people who press the button make one attempt, also at the very same moment."""
    ids = owned(db, world, environment, 12)
    freed(world, ids)
    with ThreadPoolExecutor(6) as pool:
        begun = list(pool.map(lambda _: start(db, world), range(6)))
    assert len({run.id for run in begun}) == 1
    with pytest.raises(ConflictError, match="under way"):
        start(db, world, "discard")
    other = start(db, world, wanted=LetterFilter(code="pathway_owned"))
    first = run_off(db, world, environment, begun[0])
    second = run_off(db, world, environment, other)
    assert first.resolved + second.resolved == 12
    assert world.one("SELECT count(*) FROM withdrawals.chunks WHERE redrives IS NOT NULL") == 12
    assert start(db, world).id not in (first.id, second.id)
    assert_balanced(db)


def test_letters_that_somebody_has_acted_on_are_passed_over(db: Database, world: World, environment: Settings) -> None:
    ids = owned(db, world, environment, 8)
    freed(world, ids)
    run = start(db, world)
    taken = [letter.id for letter in world.letters()[4:]]
    letters.discard(db, organisation_id=world.organisation_id, letter_ids=taken, actor=SUPPORT)
    ended = run_off(db, world, environment, run)
    assert (ended.state, counts(ended)) == ("done", {"resolved": 4, "passed": 4})
    assert [world.status(enrolment_id) for enrolment_id in ids] == ["withdrawn"] * 4 + ["in_progress"] * 4


def test_a_stopped_run_drives_nothing_more(db: Database, world: World, environment: Settings) -> None:
    freed(world, owned(db, world, environment, 10))
    run = start(db, world)
    step(db, world, environment)
    stopped = runs.stop(db, organisation_id=world.organisation_id, run_id=run.id, actor=SUPPORT)
    assert stopped.state == "stopped"
    assert step(db, world, environment) == 0
    assert counts(show(db, run)) == {"resolved": 3, "waiting": 7}, "what was in flight came back"
    assert sum(letter.state == "open" for letter in world.letters()) == 7
    assert_balanced(db)


def test_a_run_whose_step_fails_keeps_no_other_from_its_turn(db: Database, world: World, environment: Settings) -> None:
    freed(world, owned(db, world, environment, 6))
    stuck = start(db, world, wanted=LetterFilter(code="pathway_owned"))
    world.run("CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no'; END $$")
    world.run(
        "CREATE TRIGGER no BEFORE UPDATE ON withdrawals.run_letters FOR EACH ROW "
        f"WHEN (old.run_id = {stuck.id}) EXECUTE FUNCTION no()"
    )
    other = start(db, world)
    assert run_off(db, world, environment, other).resolved == 6
    assert show(db, stuck).finished_at is None


@pytest.mark.parametrize("act", ["keep", "discard"])
def test_closing_many_makes_no_attempt(db: Database, world: World, environment: Settings, act: str) -> None:
    ids = owned(db, world, environment, 25)
    ended = run_off(db, world, environment, start(db, world, act))
    assert (ended.state, ended.resolved) == ("done", 25)
    assert {world.status(enrolment_id) for enrolment_id in ids} == {"in_progress"}
    assert world.one("SELECT count(*) FROM withdrawals.chunks WHERE redrives IS NOT NULL") == 0
    rows = world.run("SELECT actor, note FROM withdrawals.audit WHERE dead_letter_id IS NOT NULL")
    assert [tuple(row) for row in rows] == [(SUPPORT, "agreed")] * 25
    assert_balanced(db)


def test_a_run_that_has_ended_says_how_many_enrolments_it_withdrew(
    db: Database, world: World, environment: Settings
) -> None:
    """Each says what its own attempts did, also where others have tried the same letters before or since."""
    ids = owned(db, world, environment, 8)
    freed(world, ids[:4])
    first = start(db, world, canary=0)
    assert step(db, world, environment) == 8
    assert (show(db, first).withdrawn, show(db, first).reinstated) == (None, None), "it has not ended"
    first = run_off(db, world, environment, first)
    assert (counts(first), first.withdrawn, first.reinstated) == ({"resolved": 4, "came_back": 4}, 4, 0)
    freed(world, ids[4:5])
    world.run("UPDATE lms.enrolments SET status = 'mastered' WHERE id = :id", id=ids[5])
    second = run_off(db, world, environment, start(db, world, canary=0))
    assert (counts(second), second.withdrawn) == ({"resolved": 2, "came_back": 2}, 1), "one had ended"
    third = run_off(db, world, environment, start(db, world, "override"))
    assert (counts(third), third.withdrawn) == ({"resolved": 2}, 2)
    kept = owned(db, world, environment, 3)
    assert run_off(db, world, environment, start(db, world, "keep")).withdrawn == 0
    assert {world.status(one) for one in kept} == {"in_progress"}
    assert [show(db, run).withdrawn for run in (first, second, third)] == [4, 1, 2]
    listed = done("dead-letters", "runs", "list")["items"]
    assert [(run["withdrawn"], run["reinstated"]) for run in listed] == [(None, None)] * 4
    assert re.search(r"withdrawn +2\b", withdrawals("dead-letters", "runs", "show", third.id).out)
    world.run("ALTER TABLE withdrawals.chunks DISABLE TRIGGER USER")
    world.run("DELETE FROM withdrawals.chunks WHERE redrives IS NOT NULL")
    assert show(db, third).withdrawn is None, "its details are not kept any more"


def test_a_run_says_how_many_enrolments_it_reinstated(db: Database, world: World, environment: Settings) -> None:
    environment = environment.model_copy(update={"max_attempts": 1})
    undo, ids = Undo(db, world, environment), world.enrolments(2)
    job = undo.withdraw(ids)
    refuse(world, ids[0])
    undo.accept(job.id)
    for _ in range(3):
        decide_due(db, environment)
    assert [letter.state for letter in world.letters()] == ["open"]
    world.run("DROP TRIGGER refuse ON lms.enrolments")
    ended = run_off(db, world, environment, start(db, world))
    assert (counts(ended), ended.withdrawn, ended.reinstated) == ({"resolved": 1}, 0, 1)
    assert_balanced(db)


def test_an_override_of_many_is_recorded_as_such(db: Database, world: World, environment: Settings) -> None:
    ids = owned(db, world, environment, 10)
    assert run_off(db, world, environment, start(db, world, "override")).resolved == 10
    assert {world.status(enrolment_id) for enrolment_id in ids} == {"withdrawn"}
    remedies = world.run("SELECT DISTINCT remedy, closed_by FROM withdrawals.dead_letters")
    assert [tuple(row) for row in remedies] == [("override", SUPPORT)]
    assert_balanced(db)


def pathway_of_three(world: World) -> tuple[int, list[int]]:
    """Of one learner: an enrolment in a pathway, two active siblings, and one that has ended."""
    pathway = world.pathway()
    first = world.enrolment("ben", pathway_id=pathway)
    siblings = [world.enrolment("ben", status, pathway_id=pathway) for status in ("no_attempts", "not_signed_in")]
    world.enrolment("ben", "mastered", pathway_id=pathway)
    world.enrolment("cleo", pathway_id=pathway)
    return first, siblings


def test_a_cascade_withdraws_the_learners_other_active_enrolments_in_the_pathway(
    db: Database, world: World, environment: Settings
) -> None:
    first, siblings = pathway_of_three(world)
    opener = world.submit(db, [first], reason="learner_declined")
    decide_due(db, environment)
    assert runs.preview(db, organisation_id=world.organisation_id, act="cascade", wanted=ALL)["also"] == 2
    (letter,) = world.letters()
    letters.resolve(
        db, organisation_id=world.organisation_id, letter_ids=[letter.id], remedy="cascade", note="all of it",
        actor="test:approver", door="console",
    )  # fmt: skip
    decide_due(db, environment)
    assert [world.status(enrolment_id) for enrolment_id in (first, *siblings)] == ["withdrawn"] * 3
    rows = world.run("SELECT withdrawal_reason, withdrawn_by FROM lms.enrolments WHERE id = ANY(:i)", i=siblings)
    assert [tuple(row) for row in rows] == [("learner_declined", "test:approver")] * 2
    (job,) = world.run("SELECT id, source, door, note, state FROM withdrawals.jobs WHERE id <> :i", i=opener.id)
    assert tuple(job)[1:] == ("support", "console", "all of it", "completed")
    assert world.outcomes(job.id) == dict.fromkeys(siblings, "withdrawn")
    assert world.one("SELECT remedy FROM withdrawals.dead_letters") == "cascade"
    assert sorted(
        row.status for row in world.run("SELECT status FROM lms.enrolments WHERE id > :i", i=siblings[1])
    ) == [
        "in_progress",
        "mastered",
    ]
    assert_balanced(db)


def test_a_run_of_cascades_counts_the_learners_other_enrolments_and_nobody_elses(
    db: Database, world: World, environment: Settings
) -> None:
    first, siblings = pathway_of_three(world)
    world.submit(db, [first])
    decide_due(db, environment)
    elsewhere = world.enrolments(2)
    world.run("UPDATE lms.enrolments SET pathway_id = :p WHERE id = ANY(:ids)", p=world.pathway("Other"), ids=elsewhere)
    ended = run_off(db, world, environment, start(db, world, "cascade"))
    world.submit(db, elsewhere)
    decide_due(db, environment)
    later = run_off(db, world, environment, start(db, world, "cascade"))
    assert [world.status(one) for one in (first, *siblings)] == ["withdrawn"] * 3
    assert (show(db, ended).withdrawn, later.withdrawn) == (3, 2)


def test_a_cascade_of_letters_of_one_learner_withdraws_each_enrolment_once(
    db: Database, world: World, environment: Settings
) -> None:
    first, siblings = pathway_of_three(world)
    world.submit(db, [first, *siblings])
    decide_due(db, environment)
    ended = run_off(db, world, environment, start(db, world, "cascade", door="console"))
    assert (ended.state, ended.resolved, ended.withdrawn) == ("done", 3, 3)
    doors = world.run("SELECT DISTINCT door FROM withdrawals.jobs WHERE source = 'support'")
    assert [row.door for row in doors] == ["console"], "the run's, although the relay drives it"
    assert [world.status(enrolment_id) for enrolment_id in (first, *siblings)] == ["withdrawn"] * 3
    assert_balanced(db)


def test_a_cascade_leaves_a_pathway_alone_that_took_them_over_before_the_act(
    db: Database, world: World, environment: Settings
) -> None:
    first, siblings = pathway_of_three(world)
    world.submit(db, [first])
    decide_due(db, environment)
    moved = [first, *siblings]
    world.run("UPDATE lms.enrolments SET pathway_id = :p WHERE id = ANY(:i)", p=world.pathway("Other"), i=moved)
    run_off(db, world, environment, start(db, world, "cascade"))
    assert "withdrawn" not in {world.status(enrolment_id) for enrolment_id in moved}
    assert [row.state for row in world.letters()] == ["open"]
    assert_balanced(db)


@pytest.mark.parametrize("remedy", ["override", "cascade"])
def test_a_remedy_is_for_the_pathway_that_was_seen_and_no_other(
    db: Database, world: World, environment: Settings, remedy: str
) -> None:
    """What another pathway took over between the act and its application goes to support again (rule 6)."""
    first, siblings = pathway_of_three(world)
    world.submit(db, [first])
    decide_due(db, environment)
    (letter,) = world.letters()
    letters.resolve(
        db, organisation_id=world.organisation_id, letter_ids=[letter.id], remedy=remedy, note="agreed",
        actor="test:approver", door="cli",
    )  # fmt: skip
    moved = [first, siblings[0]]
    world.run("UPDATE lms.enrolments SET pathway_id = :p WHERE id = ANY(:i)", p=world.pathway("Other"), i=moved)
    decide_due(db, environment)
    assert [world.status(enrolment_id) for enrolment_id in moved] == ["in_progress", "no_attempts"]
    assert world.status(siblings[1]) == ("withdrawn" if remedy == "cascade" else "not_signed_in")
    assert {row.state for row in world.letters()} == {"open"}
    assert_balanced(db)


def test_a_cascade_without_others_makes_no_job(db: Database, world: World, environment: Settings) -> None:
    world.submit(db, [world.enrolment("ben", pathway_id=world.pathway())])
    decide_due(db, environment)
    assert run_off(db, world, environment, start(db, world, "cascade")).resolved == 1
    assert world.one("SELECT count(*) FROM withdrawals.jobs") == 1


@pytest.mark.parametrize(("act", "note"), [("override", " "), ("cascade", ""), ("keep", None), ("burn", "x")])
def test_a_remedy_needs_a_note_and_an_act_a_name(db: Database, world: World, act: str, note: str | None) -> None:
    with pytest.raises(InvalidInputError, match=r"note|act"):
        start(db, world, act, note=note)


def test_a_redrive_of_technical_failures_stays_with_their_fingerprint(
    db: Database, world: World, environment: Settings
) -> None:
    """The platform goes on refusing; the canary comes back and the rest is not tried."""
    environment = environment.model_copy(update={"max_attempts": 1})
    ids = world.enrolments(6)
    for statement in (
        "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no'; END $$",
        "CREATE TRIGGER no BEFORE UPDATE ON lms.enrolments FOR EACH ROW EXECUTE FUNCTION no()",
    ):
        world.run(statement)
    for enrolment_id in ids:
        world.submit(db, [enrolment_id])
    for _ in range(3):
        decide_due(db, environment)
    assert {letter.code for letter in world.letters()} == {"retries_exhausted"}
    ended = run_off(db, world, environment, start(db, world))
    assert counts(ended) == {"came_back": 3, "held_back": 3}
    world.run("DROP TRIGGER no ON lms.enrolments")
    assert counts(run_off(db, world, environment, start(db, world))) == {"resolved": 6}
    assert_balanced(db)


def test_the_daily_redrive_tries_what_has_changed_once_a_day(db: Database, world: World, environment: Settings) -> None:
    ids = owned(db, world, environment, 5)
    freed(world, ids[:2])
    assert run_steps.redrive_changed(db) == 0, "it had its turn today"
    world.run("UPDATE withdrawals.organisation_settings SET passed_at = now() - interval '25 hours'")
    assert run_steps.redrive_changed(db) == 1
    for _ in range(4):
        step(db, world, environment)
    (run,) = world.run("SELECT state, letters, actor FROM withdrawals.runs")
    assert tuple(run) == ("done", 2, "relay")
    assert [world.status(enrolment_id) for enrolment_id in ids] == ["withdrawn"] * 2 + ["in_progress"] * 3


def test_the_daily_redrive_leaves_out_what_changed_without_consequence(
    db: Database, world: World, environment: Settings
) -> None:
    """The first of a fingerprint have another status and the same pathway: as canaries they held back all the rest."""
    ids = owned(db, world, environment, 8)
    freed(world, ids[4:])
    world.run("UPDATE lms.enrolments SET status = 'no_attempts' WHERE id = ANY(:ids)", ids=ids[:4])
    world.run("UPDATE withdrawals.organisation_settings SET passed_at = now() - interval '25 hours'")
    assert run_steps.redrive_changed(db) == 1
    for _ in range(6):
        step(db, world, environment)
    (run,) = world.run("SELECT state, letters FROM withdrawals.runs")
    assert tuple(run) == ("done", 4)
    assert [world.status(enrolment_id) for enrolment_id in ids[4:]] == ["withdrawn"] * 4
    world.run("UPDATE withdrawals.organisation_settings SET passed_at = now() - interval '25 hours'")
    assert run_steps.redrive_changed(db) == 0, "nothing is left that an attempt would resolve"
    assert_balanced(db)


def test_the_daily_redrive_leaves_what_was_given_up_to_a_person(
    db: Database, world: World, environment: Settings
) -> None:
    """Its error is of its own, so a day does not mend it; as canary it would hold back the rest every day."""
    environment = environment.model_copy(update={"max_attempts": 1})
    ids = owned(db, world, environment, 2)
    freed(world, ids)
    refuse(world, ids[0])
    for driven in (2, 0):
        world.run("UPDATE withdrawals.organisation_settings SET passed_at = now() - interval '25 hours'")
        assert run_steps.redrive_changed(db) == bool(driven)
        for _ in range(4):
            step(db, world, environment)
    assert [world.status(enrolment_id) for enrolment_id in ids] == ["in_progress", "withdrawn"]


def test_an_attempt_that_finds_the_same_again_refreshes_what_the_letter_saw(
    db: Database, world: World, environment: Settings
) -> None:
    """Else it would be changed for ever, and hold its fingerprint back in every daily redrive."""
    ids = owned(db, world, environment, 2)
    world.run("UPDATE lms.enrolments SET status = 'no_attempts' WHERE id = ANY(:ids)", ids=ids)
    assert run_off(db, world, environment, start(db, world, wanted=LetterFilter(changed=True))).came_back == 2
    again = runs.preview(db, organisation_id=world.organisation_id, act="redrive", wanted=LetterFilter(changed=True))
    assert again["letters"] == 0


def test_learners_that_appear_count_for_the_brake(db: Database, world: World, environment: Settings) -> None:
    for number in range(6):
        world.event(db, "deactivated", f"late-{number}")
    decide_due(db, environment)
    ids = [world.enrolment(f"late-{number}") for number in range(6)]
    world.run("DELETE FROM withdrawals.brake_volume")
    limits = BrakeSetting(floor=5, share=0.1)
    brake.set_limits(db, organisation_id=world.organisation_id, wanted=limits, actor="test:approver")
    assert letters.redrive_known_learners(db) == 5, "as many as there is room for"
    assert letters.redrive_known_learners(db) == 0
    limits = BrakeSetting(floor=6, share=0.1)
    brake.set_limits(db, organisation_id=world.organisation_id, wanted=limits, actor="test:approver")
    assert letters.redrive_known_learners(db) == 1
    decide_due(db, environment)
    assert {world.status(enrolment_id) for enrolment_id in ids} == {"withdrawn"}
    assert_balanced(db)


@pytest.mark.long
def test_a_run_whose_relay_is_killed_again_and_again_attempts_each_letter_once(
    db: Database, world: World, environment: Settings
) -> None:
    """kill -9 of the leader while the run is under way; another goes on where it was.

    Small: tests/faults kills a leading relay, and its state machine ends runs at their statements.
    """
    ids = owned(db, world, environment, 150)
    freed(world, ids)
    with Supervisor({"relay-a": RELAY, "relay-b": RELAY, "worker": WORKER}) as running:
        run = start(db, world, rate=100)
        for seen in (1, 60):
            eventually(partial(resolved_at_least, db, run, seen), what=f"{seen} letters resolved")
            kill(running.pid("relay-a"))
            kill(running.pid("relay-b"))
        eventually(lambda: show(db, run).finished_at, what="the run ends")
    assert (show(db, run).state, counts(show(db, run))) == ("done", {"resolved": 150})
    attempts = world.one("SELECT count(*) FROM withdrawals.chunks WHERE redrives IS NOT NULL")
    assert attempts == 150
    assert world.one("SELECT count(*) FROM withdrawals.outcomes WHERE outcome = 'withdrawn'") == 150
    assert_balanced(db)


def test_on_the_command_line(db: Database, world: World, environment: Settings) -> None:
    ids = owned(db, world, environment, 4)
    assert "not both" in refused("dead-letters", "redrive")
    assert "not both" in refused("dead-letters", "redrive", 1, "--all")
    assert "--dry-run" in refused("dead-letters", "redrive", 1, "--dry-run")
    assert "--remedy" in refused("dead-letters", "resolve", "--all", "--remedy", "burn", "--note", "x")
    assert "note" in refused("dead-letters", "resolve", "--all", "--remedy", "keep")
    preview = done("dead-letters", "resolve", "--all", "--remedy", "override", "--dry-run")
    assert preview["outcomes"] == {"withdrawn": 4}
    begun = done("dead-letters", "resolve", "--code", "pathway_owned", "--remedy", "override", "--note", "agreed")
    for _ in range(4):
        step(db, world, environment)
    assert withdrawals("dead-letters", "runs", "watch", begun["id"]).code == 0
    assert done("dead-letters", "runs", "show", begun["id"])["resolved"] == 4
    assert [run["id"] for run in done("dead-letters", "runs", "list")["items"]] == [begun["id"]]
    assert {world.status(enrolment_id) for enrolment_id in ids} == {"withdrawn"}
    assert json.loads(withdrawals("dead-letters", "runs", "stop", begun["id"], "--json").out)["state"] == "done"


def test_hundreds_of_letters_are_decided_before_the_tables_were_ever_analysed(
    db: Database, world: World, environment: Settings
) -> None:
    """The first hour of a new platform: whatever the planner expects, no statement runs into its timeout."""
    ids = owned(db, world, environment, 292)
    everything = [letter.id for letter in world.letters()]
    letters.resolve(
        db,
        organisation_id=world.organisation_id,
        letter_ids=everything,
        remedy="override",
        actor=SUPPORT,
        note="agreed",
    )
    decide_due(db, environment)
    assert world.one("SELECT count(*) FROM withdrawals.attempts") == 0
    assert {world.status(enrolment_id) for enrolment_id in ids} == {"withdrawn"}
    assert_balanced(db)
