"""The desk's pages without a browser: roles, forms sent twice, filters, other organisations, what is wrong."""

import html
import re
from collections.abc import Callable
from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.dead_letters.test_desk import made
from tests.dead_letters.test_runs import freed, owned, run_off
from tests.support.console import MakeToken, Visitor, one_owned
from tests.world import World, decide_due
from worker.config import Settings
from worker.database import Database
from worker.dead_letters import desk, remedies, run_steps, runs
from worker.ledger import letter_counts
from worker.records import Job
from worker.web.console import told_apart

Person = Callable[..., Visitor]


@pytest.fixture
def person(client: TestClient, token: MakeToken) -> Person:
    """`person("operator", name="mia")`; the last one made is the one signed in."""

    def make(role: str, **who: Any) -> Visitor:
        return Visitor(client, token(role, **who))

    return make


def test_what_a_role_may_not_do_is_not_offered_and_refused(
    db: Database, world: World, environment: Settings, person: Person
) -> None:
    letter, enrolment = one_owned(db, world, environment)
    path = f"/console/dead-letters/{letter}"
    operator = person("operator")
    page = operator.get(path).text
    assert ('value="keep"' in page, 'value="override"' in page, "An approver can do this." in page) == (
        True,
        False,
        True,
    )
    listed = operator.get("/console/dead-letters").text
    assert ("An approver can override and cascade" in listed, 'value="override"' in listed) == (True, False)
    for act in ("override", "cascade"):
        refused = operator.post(f"{path}/act", act=act, note="why")
        assert (refused.status_code, "needs the role approver" in refused.text) == (403, True)
        assert operator.get("/console/dead-letters/act", act=act).status_code == 403
        assert operator.post("/console/dead-letters/act", act=act, note="why", expected="1").status_code == 403
    viewer = person("viewer")
    for where in (path, "/console/dead-letters"):
        assert "<form" not in re.sub(
            r'<form (class="theme"|method="(post" action="/console/sign-out|get" action="/console/(sea|dead)))',
            "",
            viewer.get(where).text,
        )
    for verb, form in (("act", {"act": "keep", "note": "x"}), ("assign", {"to": "me"}), ("note", {"note": "x"})):
        assert viewer.post(f"{path}/{verb}", **form).status_code == 403
    assert viewer.post("/console/dead-letters/act", act="redrive", expected="1").status_code == 403
    assert viewer.post("/console/runs/1/stop").status_code == 403
    assert (world.letters()[0].state, world.status(enrolment)) == ("open", "in_progress")
    assert world.one("SELECT count(*) FROM withdrawals.runs") == 0


def test_sending_a_form_twice_does_no_harm(db: Database, world: World, environment: Settings, person: Person) -> None:
    ids = owned(db, world, environment, 4)
    freed(world, ids)
    letter = world.letters()[0].id
    mia = person("operator", name="mia")
    for _ in range(2):
        noted = mia.post(f"/console/dead-letters/{letter}/note", note="asked", key="k1")
        assert noted.status_code == 303
    assert world.one("SELECT count(*) FROM withdrawals.audit WHERE action = 'dead_letter.note'") == 1
    assert mia.post(f"/console/dead-letters/{letter}/act", act="redrive").status_code == 303
    again = mia.post(f"/console/dead-letters/{letter}/act", act="redrive")
    assert (again.status_code, "an attempt is in flight" in again.text) == (409, True)
    form = {"act": "redrive", "code": "pathway_owned", "expected": "3", "rate": "1000", "canary": "1"}
    first, second = (mia.post("/console/dead-letters/act", **form) for _ in range(2))
    assert first.headers["location"] == second.headers["location"] == "/console/runs/1"
    decide_due(db, environment)
    run_off(db, world, environment, runs.show(db, organisation_id=world.organisation_id, run_id=1))
    late = mia.post("/console/dead-letters/act", **form)
    assert (late.status_code, "No run was started" in late.text) == (409, True)
    assert world.one("SELECT count(*) FROM withdrawals.runs") == 1
    assert {world.status(enrolment) for enrolment in ids} == {"withdrawn"}


def test_a_run_says_how_many_letters_are_being_tried_and_how_many_wait(
    db: Database, world: World, environment: Settings, person: Person
) -> None:
    freed(world, owned(db, world, environment, 5))
    mia = person("operator", name="mia")
    mia.post("/console/dead-letters/act", act="redrive", code="pathway_owned", expected="5", rate="3", canary="0")
    for said in ("5 letters wait.", "3 letters are being tried. 2 letters wait.", "5 letters are being tried."):
        heading = re.sub(
            r"\s+", " ", mia.get("/console/runs/1").text.split('<h2 id="now">')[1].split("</h2>")[0]
        ).strip()
        assert heading == f'<span class="badge busy">Running</span> {said}', "what the figures below say"
        world.run("UPDATE withdrawals.runs SET stepped_at = stepped_at - interval '1 second'")
        run_steps.step_all(db)


def test_a_filter_stays_in_the_address_and_goes_on_into_acts(
    db: Database, world: World, environment: Settings, person: Person
) -> None:
    made(world, 60, assignee="mia", hours=100)
    made(world, 3, "poison", assignee="dora")
    mia = person("operator", name="mia")
    page = mia.get("/console/dead-letters", code="pathway_owned", assignee="mine", overdue="true", older_than="3d").text
    assert "60 letters" in page
    (form,) = re.findall(r'<form [^>]*id="ticked"[^>]*action="/console/dead-letters/act".*?</form>', page, re.DOTALL)
    for name, value in (("code", "pathway_owned"), ("assignee", "mine"), ("overdue", "true"), ("older_than", "3d")):
        assert f'<input type="hidden" name="{name}" value="{value}">' in form
        assert re.search(rf'rel="next" href="[^"]*{name}={value}', page)
    following = re.search(r'rel="next" href="([^"]+)"', page)
    assert following
    rest = mia.get(following[1].replace("&amp;", "&")).text
    assert len(set(re.findall(r'href="/console/dead-letters/(\d+)[?"]', rest))) == 10
    assert '<input type="hidden" name="state" value="open">' in mia.get("/console/dead-letters", state="open").text
    preview = mia.get(
        "/console/dead-letters/act", act="redrive", code="pathway_owned", assignee="mine", older_than="3d"
    )
    assert 'name="assignee" value="mia"' in preview.text
    assert re.search(r'name="older_than" value="20\d\d-', preview.text), "a form sent twice means the same letters"
    assert "No letter matches" in mia.get("/console/dead-letters", assignee="none").text
    for wrong in ({"code": "lost"}, {"older_than": "soon"}, {"job_id": "x"}, {"cursor": "7"}, {"assignee": "x" * 300}):
        assert mia.get("/console/dead-letters", **wrong).status_code == 422, wrong


def test_letters_are_given_to_somebody_one_and_all(
    db: Database, world: World, environment: Settings, person: Person
) -> None:
    (one, *_) = made(world, 5)
    mia = person("operator", name="mia")
    assert "5 letters would get the assignee" in mia.get("/console/dead-letters/act", act="assign").text
    for form in ({"to": "name"}, {"to": "name", "name": "none"}, {"to": "everybody"}):
        assert mia.post("/console/dead-letters/act", act="assign", expected="5", **form).status_code == 422
        assert mia.post(f"/console/dead-letters/{one}/assign", **form).status_code == 422
    done = mia.post("/console/dead-letters/act", act="assign", expected="5", to="me", note="all mine")
    assert done.headers["location"] == "/console/dead-letters"
    assert "5 letters assigned to mia." in mia.get("/console/dead-letters").text
    assert mia.post(f"/console/dead-letters/{one}/assign", to="name", name="dora").status_code == 303
    assert mia.post(f"/console/dead-letters/{one}/assign", to="nobody").status_code == 303
    assert [row[0] for row in world.run("SELECT assignee FROM withdrawals.dead_letters ORDER BY id")] == [
        None,
        *["mia"] * 4,
    ]


def test_a_run_that_halts_says_why_and_can_be_stopped(
    db: Database, world: World, environment: Settings, person: Person
) -> None:
    owned(db, world, environment, 4)
    mia = person("operator", name="mia")
    begun = mia.post("/console/dead-letters/act", act="redrive", expected="4", canary="1", note="try").headers[
        "location"
    ]
    assert "The trial batch of each cause is tried first" in mia.get(begun).text
    assert mia.post(f"{begun}/stop").headers["location"] == begun
    stopped = mia.get(begun).text
    assert ("Somebody stopped it" in stopped, "Show them" in stopped) == (True, True)
    world.run("UPDATE withdrawals.runs SET state = 'halted', because = '9 of the last 10 letters were open again'")
    assert "Halted: 9 of the last 10 letters were open again." in mia.get(begun).text


def test_wrong_forms_are_told_so_and_nothing_is_done(
    db: Database, world: World, environment: Settings, person: Person
) -> None:
    owned(db, world, environment, 2)
    approver = person("approver")
    path = "/console/dead-letters/act"
    assert approver.get(path).status_code == approver.get(path, act="burn").status_code == 422
    for wrong in (
        {"act": "keep", "expected": "2"},
        {"act": "keep", "note": "why", "expected": "x"},
        {"act": "redrive", "expected": "2", "rate": "0"},
        {"act": "redrive", "expected": "2", "canary": "many"},
        {"act": "redrive", "expected": "2", "code": "lost"},
    ):
        assert approver.post(path, **wrong).status_code == 422, wrong
    other = approver.post(path, act="keep", note="why", expected="3")
    assert (other.status_code, "2 letters match now; the preview showed 3" in other.text) == (409, True)
    letter = f"/console/dead-letters/{world.letters()[0].id}"
    assert approver.post(f"{letter}/act", note="x").status_code == 422
    for note in ("x" * 5000, "nul \0", " "):
        assert approver.post(f"{letter}/act", act="keep", note=note).status_code == 422
        assert approver.post(f"{letter}/note", note=note, key="k").status_code == 422
        assert approver.post(path, act="keep", note=note, expected="2").status_code == 422
    assert approver.post(path, act="assign", to="me", note="nul \0", expected="2").status_code == 422
    assert approver.post(f"{letter}/note", note="no key").status_code == 422
    assert world.letters()[0].state == "open"
    assert world.one("SELECT count(*) FROM withdrawals.runs") == 0


def test_another_organisations_letters_and_runs_are_as_if_they_did_not_exist(
    db: Database, world: World, environment: Settings, person: Person
) -> None:
    letter, enrolment = one_owned(db, world, environment)
    made(world)
    person("operator").post("/console/dead-letters/act", act="redrive", expected="2")
    stranger = person("approver", organisation_id=world.organisation("Other"))
    assert "Nothing needs attention." in stranger.get("/console/dead-letters").text
    assert "Nothing needs attention." in stranger.get("/console/dead-letters/groups").text
    assert "There are no runs yet" in stranger.get("/console/runs").text
    for theirs, none in (
        (f"/console/dead-letters/{letter}", "/console/dead-letters/99999"),
        ("/console/runs/1", "/console/runs/99999"),
        (f"/console/enrolments/{enrolment}/history", "/console/enrolments/99999/history"),
    ):
        found, missing = stranger.get(theirs), stranger.get(none)
        assert found.status_code == missing.status_code == 404
        assert re.sub(r"(letter|run|enrolment) [0-9]+", r"\1 99999", found.text) == missing.text
    for verb, form in (
        ("act", {"act": "keep", "note": "x"}),
        ("assign", {"to": "me"}),
        ("note", {"note": "x", "key": "k"}),
    ):
        assert stranger.post(f"/console/dead-letters/{letter}/{verb}", **form).status_code == 404
    assert stranger.post("/console/runs/1/stop").status_code == 404
    assert world.letters()[0].state == "open"


def test_every_kind_of_letter_and_a_waiting_attempt_can_be_looked_at(
    db: Database, world: World, environment: Settings, person: Person
) -> None:
    world.submit(db, [world.enrolment(status="archived"), 999_999])
    world.event(db, "deactivated", "nobody-yet")
    decide_due(db, environment)
    made(world, 1, "invalid_event", fingerprint="invalid_event:type")
    made(world, 1, "retries_exhausted", fingerprint="abc", hours=90)
    world.run("UPDATE withdrawals.dead_letters SET error_class = 'LockNotAvailable' WHERE code = 'retries_exhausted'")
    viewer = person("viewer")
    said = {
        "unknown_status": "does not know its status, &#34;archived&#34;",
        "not_found": "This organisation has no such enrolment",
        "unknown_learner": "whom the platform did not know",
        "invalid_event": "Nothing was done with it.",
        "retries_exhausted": "LockNotAvailable",
    }
    for letter in world.letters():
        page = viewer.get(f"/console/dead-letters/{letter.id}")
        assert (page.status_code, said[letter.code] in page.text) == (200, True), letter.code
    archived = next(row for row in world.letters() if row.code == "unknown_status")
    remedies.redrive(db, organisation_id=world.organisation_id, letter_ids=[archived.id], actor="token:mia")
    moving = viewer.get(f"/console/dead-letters/{archived.id}").text
    assert ("An attempt is under way" in moving, 'http-equiv="refresh"' in moving) == (True, True)
    world.run(
        """UPDATE withdrawals.dead_letters SET evidence = '{}', evidence_dropped_at = now(), state = 'resolved',
        closed_at = now(), closed_by = 'dora', remedy = 'redrive'"""
    )
    world.run("DELETE FROM lms.enrolments")
    gone = viewer.get(f"/console/dead-letters/{archived.id}").text
    assert ("its evidence was dropped" in gone, "(does not exist)" in gone) == (True, True)


def test_causes_beyond_a_page_are_said_to_be_there(
    db: Database, world: World, environment: Settings, person: Person
) -> None:
    made(world, 103)
    world.run("UPDATE withdrawals.dead_letters SET fingerprint = 'pathway_owned:' || id")
    page = person("viewer").get("/console/dead-letters/groups").text
    assert ("103 letters of 103 causes" in page, "there are 3 more" in page) == (True, True)
    decided = person("approver").get("/console/dead-letters/groups").text
    assert ("act=override" in decided, "Decide on all 1 …" in decided) == (False, True), "nothing advises an override"


def test_a_number_that_is_not_counted_to_its_end_says_so(
    world: World, person: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("COUNTED", "COUNTED_ALIKE"):
        monkeypatch.setattr(desk, name, 2)
    monkeypatch.setattr(letter_counts, "_SHARES", (2,))
    made(world, 3, hours=100)
    made(world, 2, "poison", hours=1)
    viewer = person("viewer")
    listed, causes = (viewer.get(f"/console/dead-letters{page}").text for page in ("", "/groups"))
    figures = re.findall(r"<strong>(?:<a[^>]*>)?([^<]+)(?:</a>)?</strong><span>([^<]+)</span>", listed)
    assert figures == [("4+", "open"), ("2+", "overdue"), ("4+", "unassigned")]
    assert re.findall(r"More than 2 letters|2\+ overdue", listed) == ["More than 2 letters", "2+ overdue"]
    assert re.search(r'aria-label="2\+ open letters with the same cause as letter 1">2\+<', listed)
    assert ("More than 4 letters" in causes, len(re.findall(r'<td class="num"[^>]*>2\+</td>', causes))) == (True, 2)
    assert "<strong>4+</strong> open letters" in viewer.get("/console").text
    assert "2+ open letters" in viewer.get("/console/dead-letters/1").text


def test_a_receipt_of_what_nobody_asked_for_says_so(world: World, person: Person) -> None:
    page = person("viewer").get(f"/console/enrolments/{world.enrolment()}/history").text
    assert "Nobody has asked for it." in page


def open_letters_of_two_requests(
    db: Database, world: World, environment: Settings, *, of_jobs: int
) -> tuple[list[int], Job]:
    """Four letters that are best kept, of so many jobs, and two for a person to decide: their enrolments and job."""
    pathway = world.pathway("Onboarding")
    declined = [world.enrolment(f"d{n}", pathway_id=pathway) for n in range(4)]
    wrong = [world.enrolment(f"w{n}", pathway_id=pathway) for n in range(2)]
    for number in range(of_jobs):
        world.submit(db, declined[number::of_jobs], reason="learner_declined")
    mistake = world.submit(db, wrong, reason="enrolment_error", source="correction")
    decide_due(db, environment)
    return wrong, mistake


def test_a_preview_tells_requests_apart_for_which_another_act_is_recommended(
    db: Database, world: World, environment: Settings, person: Person
) -> None:
    _, mistake = open_letters_of_two_requests(db, world, environment, of_jobs=2)
    mia = person("operator", name="mia")
    page = mia.get("/console/dead-letters/act", act="keep", code="pathway_owned").text
    assert "The recommendations differ:" in page
    assert "Leave as it is (keep) for 4 letters, no recommendation for 2 letters." in page
    assert page.count("The Learning Pathway still needs this Series.") == 1
    assert "several jobs" in page
    assert f'<a href="/console/jobs/{mistake.id}">job {mistake.id}</a>' in page
    causes = mia.get("/console/dead-letters/groups").text
    decide = [html.unescape(one) for one in re.findall(r'<a href="([^"]*)" aria-label="Decide on these', causes)]
    assert ["reason=learner_declined" in one for one in decide] == [True, False]
    assert "reason=enrolment_error" in decide[1]
    assert "6 letters that call for different acts" in causes
    assert "of 1 cause" not in causes
    assert "Decide on each part below" in causes
    assert "the enrolment was never right" in causes, "what to weigh where nothing is recommended"
    assert 'Not closed yet">6</span>' in causes
    listed = mia.get("/console/dead-letters").text
    assert listed.count("Reason of the request: Enrolment Error") == 2
    cards = re.findall(r'(?s)<section class="card" aria-labelledby="part-\d">.*?</section>', listed)
    assert len(cards) == 2
    assert "User does not want" in cards[0]
    assert "The Learning Pathway still needs this Series." in cards[0]
    assert "Leave all 4 as they are (keep)</button>" in cards[0]
    assert "Withdraw all 4 anyway (override)</strong>" in cards[0], "the same choice as on the other card"
    assert "An approver can do this." in cards[0]
    assert "A person decides" in cards[1]
    assert "Withdraw all 2 anyway (override)" in cards[1]
    assert ("An approver can do this." in cards[1], 'value="override"' in cards[1]) == (True, False)
    assert 'value="keep"' in cards[1]
    assert re.findall(r'href="/console/dead-letters/(\d+)">w', cards[1]) == [str(one.id) for one in world.letters()[4:]]
    assert 'value="redrive"' not in listed, "it would fail for all of them"
    of_part = mia.get(decide[1]).text
    assert of_part.count('aria-labelledby="part-') == 1
    assert "The request says that the enrolment was never right" in of_part
    assert "opened <time" in of_part
    assert "due <time" in of_part
    narrower = html.unescape(re.findall(r'href="([^"]*reason=enrolment_error[^"]*)"', page)[0])
    page = mia.get(narrower).text
    assert "2 letters: 2 would be closed" in page
    assert "The recommendations differ:" not in page
    assert "No recommendation: a person decides" in page
    assert "Only these" not in page
    assert "Where these letters come from" not in mia.get("/console/dead-letters/act", act="assign").text


def test_a_card_says_how_many_others_the_learners_have_in_the_pathway_where_a_person_decides(
    db: Database, world: World, environment: Settings, person: Person
) -> None:
    """Where it is the same for all letters of the card; a recommended act needs no more to read."""
    _, mistake = open_letters_of_two_requests(db, world, environment, of_jobs=2)
    mia = person("operator", name="mia")

    def card(reason: str) -> str:
        page = str(mia.get("/console/dead-letters", reason=reason).text)
        return str(re.findall(r'(?s)<section class="card" aria-labelledby="part-\d">.*?</section>', page)[0])

    def add(letter: int, status: str) -> None:
        world.run(
            """INSERT INTO lms.enrolments
                (organisation_id, learner_id, series_id, pathway_id, status, enrolled_at, progress)
            SELECT e.organisation_id, e.learner_id, (SELECT max(id) FROM lms.series), e.pathway_id, :s, now(), 0
            FROM lms.enrolments e JOIN withdrawals.dead_letters d ON d.enrolment_id = e.id WHERE d.id = :id""",
            id=letter, s=status,
        )  # fmt: skip

    letters = world.run("SELECT id FROM withdrawals.dead_letters WHERE job_id = :job ORDER BY id", job=mistake.id)
    first, second = (letter for (letter,) in letters)
    assert "<strong>None of the learners would have an enrolment left in the pathway.</strong>" in card(
        "enrolment_error"
    )
    assert "pathway's others" not in html.unescape(card("enrolment_error")), "there are none"
    assert "of the learners" not in card("learner_declined")
    add(first, "mastered")
    assert "of the learners" not in card("enrolment_error"), "it is not the same for both"
    add(second, "mastered")
    assert "<strong>Each of the learners has 1 other enrolment in the pathway.</strong>" in card("enrolment_error")
    assert "The pathway's others stay." in html.unescape(card("enrolment_error"))
    remedies.resolve(
        db, organisation_id=world.organisation_id, letter_ids=[first], remedy="keep", actor="test:support", note="stays"
    )
    assert "<strong>The learner has 1 other enrolment in the pathway.</strong>" in card("enrolment_error")


def test_the_end_of_a_run_leads_to_what_it_resolved_and_decides_on_what_is_left(
    db: Database, world: World, environment: Settings, person: Person
) -> None:
    wrong, _ = open_letters_of_two_requests(db, world, environment, of_jobs=1)
    mia = person("operator", name="mia")
    of_letter = mia.get(f"/console/dead-letters/{world.letters()[4].id}").text
    assert "Nothing is recommended: a person decides. The request says" in of_letter
    assert ('value="redrive"' in of_letter, "Trying again will fail" in of_letter) == (False, True)
    assert "(cascade)" not in of_letter, "without others in the pathway it does the same"
    first = mia.post("/console/dead-letters/act", act="keep", reason="learner_declined", note="needed", expected="4")
    run_off(db, world, environment, runs.show(db, organisation_id=world.organisation_id, run_id=1))
    ended = mia.get(first.headers["location"]).text
    assert "No enrolment was withdrawn." in ended
    assert "2 letters are still open" in ended
    assert 'href="/console/dead-letters?run_id=1&amp;state=resolved"' in ended
    assert mia.get("/console/dead-letters?run_id=1&state=resolved").text.count("Resolved</span></th>") == 4
    dora = person("approver", name="dora")
    (card,) = re.findall(
        r'(?s)<section class="card" aria-labelledby="part-1">.*?</section>', dora.get("/console/runs/1").text
    )
    fields = dict(re.findall(r'name="(\w+)" value="(\w+)"', card.split("<fieldset")[0]))
    last = dora.post("/console/dead-letters/act", **{**fields, "act": "override", "note": "asked its owner"})
    run_off(db, world, environment, runs.show(db, organisation_id=world.organisation_id, run_id=2))
    ended = dora.get(last.headers["location"]).text
    assert "Nothing needs attention any more." in ended
    assert "2 enrolments were withdrawn." in ended
    assert "Trial batch" not in ended, "two need none"
    assert {world.status(one) for one in wrong} == {"withdrawn"}
    receipt = dora.get(f"/console/enrolments/{wrong[0]}/history").text
    assert "decided on its letter" in receipt
    done = re.sub("<[^>]*>", "", dora.get(f"/console/enrolments/{wrong[0]}").text)
    assert re.search(r"asked for by test:admin, decided by dora, done", done)


def test_a_list_of_more_letters_than_are_looked_at_says_nothing_of_what_they_call_for(
    world: World, person: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(world, 3)
    mia = person("operator", name="mia")
    for most, is_told in ((3, True), (2, False)):
        monkeypatch.setattr(told_apart, "MOST", most)
        listed = mia.get("/console/dead-letters").text
        assert ("Close all 3 without an answer (discard)</button>" in listed) == is_told
        assert "Preview for all 3 open letters" in listed
