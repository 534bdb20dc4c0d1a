"""The approvals inbox: what waits, said with its figures; decided there by another person."""

from starlette.testclient import TestClient

from schemas.brake import LimitRequest
from tests.approvals.office import ADA, Office
from tests.console.test_library import people
from tests.support.console import NASTY, MakeToken, Person, Visitor, ask, held_job
from tests.world import World
from worker.config import Settings
from worker.database import Database
from worker.jobs import limits


def test_the_inbox_shows_all_that_waits_and_another_person_decides_on_it(
    client: TestClient, token: MakeToken, db: Database, world: World, environment: Settings
) -> None:
    office = Office(db, world, environment)
    letters = office.letters(2)
    office.rules(override=0)
    mia, eve = token("approver", name="mia"), token("approver", name="eve")
    asked = []
    for letter in letters:
        answer = Visitor(client, mia).post(f"/console/dead-letters/{letter}/act", act="override", note=f"why {NASTY}")
        assert answer.status_code == 303
        asked.append(answer.headers["location"])
    assert "Nothing of this is done yet" in Person(client, mia).get(asked[0])
    limits.propose(db, organisation_id=world.organisation_id, wanted=LimitRequest(floor=7, note="a move"), who=ADA)
    job = held_job(db, world, note="a Series ends")

    page = Person(client, mia).get("/console/approvals")
    assert 'title="Waiting for a second person">4</span>' in page
    assert page.count(">Take back</button>") + page.count(">Cancel the job</button>") == 3, "hers: letters and job"
    once = ("nother person has to decide", "Who can:", "Nobody decides on", "An approver other than the requester")
    assert [page.count(words) for words in once] == [1, 1, 0, 0], "it is said once"
    assert "You asked for 3 of these." in page
    assert f'action="/console/jobs/{job.id}/release"' not in page
    viewer = Person(client, token("viewer"))
    assert "<form class" not in viewer.get("/console/approvals").split("<main")[1]
    viewer.post(f"{asked[0]}/approve", 403)

    other = Person(client, eve)
    page = other.get("/console/approvals")
    for said in (
        "Withdraws 1 learner although a Learning Pathway owns the enrolment.",
        "“a move”",
        "always allowed 7 learners",
        "“a Series ends”",
        "Approving does this: The job is released, and starts.</p>",
        "<p>Held by the brake: its learners (8)",
        f'href="/console/jobs/{job.id}/enrolments"',
        "why &lt;img",
    ):
        assert said in page, said
    assert NASTY not in page
    assert "is not a second person" in Person(client, mia).post(f"{asked[0]}/approve", 409).text
    other = Person(client, eve)
    assert "needs a note" in other.post(f"{asked[0]}/reject", 422, note=" ").text
    other.post(f"{asked[0]}/reject", note="not this one")
    other.post(f"{asked[1]}/approve", note="seen")
    assert "Rejected by" in other.get(asked[0])
    assert "not this one" in other.get("/console/approvals")
    other.post(f"/console/jobs/{job.id}/cancel", note="no")
    assert [letter.state for letter in world.letters()] == ["open", "redriven"]
    again = Person(client, mia).post(f"/console/dead-letters/{letters[0]}/act", act="override", note="once more")
    Person(client, mia).post(f"{again.headers['location']}/withdraw")
    assert 'title="Waiting for a second person">1</span>' in other.get("/console/approvals"), "the limits"


def test_an_approval_of_another_organisation_looks_like_a_missing_one(
    client: TestClient, token: MakeToken, db: Database, world: World, environment: Settings
) -> None:
    office = Office(db, world, environment)
    office.rules(release=0)
    approver = Person(client, token("approver", name="eve"))
    job = ask(db, world, world.enrolments(1))
    assert job.state == "queued"
    held = office.held_job()
    path = approver.post(f"/console/jobs/{held.id}/release", note="for the office").headers["location"]
    stranger = Person(client, token("approver", organisation_id=world.organisation("Other")))
    for act in ("approve", "reject", "withdraw"):
        stranger.post(f"{path}/{act}", 404, note="x")
    mine, missing = (stranger.get(where, 404) for where in (path, "/console/approvals/999999"))
    assert mine.replace("approval 1 ", "approval N ") == missing.replace("approval 999999 ", "approval N ")
    assert "Nothing waits" in stranger.get("/console/approvals")


def test_a_job_that_a_policy_holds_names_the_policy_and_lists_all_its_enrolments(
    client: TestClient, token: MakeToken, db: Database, world: World, environment: Settings
) -> None:
    office = Office(db, world, environment)
    office.rules(withdraw_series=50, release=59)
    ids = world.enrolments(120)
    job = ask(db, world, [*ids[:60], 987_654], note="it ends.")
    assert job.state == "held"
    eve = Person(client, token("approver", name="eve"))
    page = eve.get("/console/approvals")
    assert "Held because a policy allows 50 learners of Series" in page
    assert "“it ends.”</p>" in page, "its own full stop is enough"
    path = f"/console/jobs/{job.id}"
    assert "Needed: your policies let nobody release this alone" in eve.get(path)
    first = eve.get(f"{path}/enrolments")
    assert "<strong>60</strong><span>In Progress</span>" in first
    assert f'action="{path}/release"' in first
    listed = [one for one in ids if f'href="/console/enrolments/{one}"' in first]
    assert listed == ids[:50], "a page is 50, by number"
    rest = eve.get(f"{path}/enrolments?cursor={ids[49]}")
    assert [one for one in ids if f'href="/console/enrolments/{one}"' in rest] == ids[50:60]
    assert "not on the platform" in rest
    office.rules(withdraw_series=50)
    assert "Needed:" not in eve.get(path)
    stranger = Person(client, token("viewer", organisation_id=world.organisation("Other")))
    stranger.get(f"{path}/enrolments", 404)


def test_a_held_job_says_its_reason_and_series_and_has_the_same_button_wherever_it_is_approved(
    client: TestClient, token: MakeToken, db: Database, world: World
) -> None:
    """Of several Series those with the most enrolments are named."""
    job = held_job(db, world, 110, reason="learner_declined")
    titles = {"Forklifts": 60, "Ladders": 30, "First aid": 15, "Knots": 4, "Ropes": 1}
    ids = [row.id for row in world.run("SELECT id FROM lms.enrolments ORDER BY id")]
    for title, count in titles.items():
        series = people(world, title, 0)
        world.run("UPDATE lms.enrolments SET series_id = :s WHERE id = ANY(:ids)", s=series, ids=ids[:count])
        ids = ids[count:]
    eve = Person(client, token("approver", name="eve"))
    inbox = eve.get("/console/approvals")
    assert "<dt>Reason</dt><dd>User does not want to complete the enrolment</dd>" in inbox
    assert "<dt>Series</dt><dd>Forklifts, Ladders, First aid and 2 more</dd>" in inbox
    assert ", without a note.</p>" in inbox
    assert "See all 110 enrolments that it names" in inbox
    for page in (inbox, eve.get(f"/console/jobs/{job.id}"), eve.get(f"/console/jobs/{job.id}/enrolments")):
        assert ">Approve: release 110 enrolments</button>" in page
        assert page.count("/release") == page.count('/release">') == 1, "there is one way to do it"
    eve.post(f"/console/jobs/{job.id}/release")
    assert "Approved and released. The job has started." in eve.get(f"/console/jobs/{job.id}")


def test_a_held_job_whose_work_was_done_meanwhile_says_so_beside_its_release(
    client: TestClient, token: MakeToken, db: Database, world: World, environment: Settings
) -> None:
    job = held_job(db, world, 9, note="look first")
    ids = world.run("SELECT id FROM lms.enrolments ORDER BY id")
    eve = Person(client, token("approver", name="eve"))
    assert "<p>Now it would withdraw all 9 enrolments.</p>" in eve.get("/console/approvals")
    set_status = "UPDATE lms.enrolments SET status = :status WHERE id = ANY(:ids)"
    world.run(set_status, status="withdrawn", ids=[row.id for row in ids[:3]])
    said = "<p>Now it would withdraw 6 of 9 enrolments; the others: 3 already withdrawn.</p>"
    assert said in eve.get("/console/approvals")
    world.run(set_status, status="mastered", ids=[row.id for row in ids[:1]])
    world.run(set_status, status="withdrawn", ids=[row.id for row in ids[1:]])
    said = '<p class="notice warn">Now it would withdraw nothing: 8 already withdrawn, 1 had ended.</p>'
    for page in ("/console/approvals", f"/console/jobs/{job.id}", f"/console/jobs/{job.id}/enrolments"):
        html = eve.get(page)
        assert html.index(said) < html.index(f'action="/console/jobs/{job.id}/release"'), page
