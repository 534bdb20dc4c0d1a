"""Rows that are selected: a range with Shift, through the pages of a list, and how many."""

import re

from playwright.sync_api import expect
from starlette.testclient import TestClient

from tests.console.test_library import people
from tests.dead_letters.test_desk import made
from tests.support.commandline import done
from tests.support.console import MakeToken, Person, SignIn, Visitor, accessible, ask, held_job
from tests.support.racing import job_state
from tests.world import World
from worker.database import Database
from worker.jobs import control


def test_rows_are_selected_by_range_and_through_pages(sign_in: SignIn, world: World) -> None:
    series = people(world, "Fire safety", 60)
    page = sign_in("operator", at=f"/console/series/{series}")
    boxes = page.locator("tbody input[type=checkbox]")
    count = page.locator("[data-selected] output")
    boxes.nth(1).check()
    boxes.nth(4).click(modifiers=["Shift"])
    expect(count).to_have_text("4 selected")
    boxes.nth(2).focus()
    page.keyboard.press("Space")
    expect(count).to_have_text("3 selected")
    page.get_by_role("link", name="Next page").click()
    expect(count).to_have_text("3 selected, 3 of them on other pages")
    boxes.nth(0).check()
    accessible(page)
    page.reload()
    expect(count).to_have_text("4 selected, 3 of them on other pages")
    page.get_by_label("Reason for all").select_option("not_required")
    page.get_by_role("button", name="Withdraw the ticked").click()
    expect(page.get_by_text("4 ticked enrolments")).to_be_visible()
    assert len(re.findall("enrolment_ids=", page.url)) == 4
    page.go_back()
    page.get_by_role("button", name="Clear selection").click()
    expect(count).to_have_text("")
    page.get_by_label("Tick all rows of this page").check()
    expect(count).to_have_text("10 selected")
    page.get_by_label("Reason for all").select_option("not_required")
    page.get_by_role("button", name="Withdraw this Series").click()
    page.wait_for_url(re.compile("what=all"))


def test_an_act_on_ticked_letters_is_for_these_alone(client: TestClient, token: MakeToken, world: World) -> None:
    """Without JavaScript: the boxes of a page. With none ticked, it is not for all of them."""
    first, second, third = made(world, 3, "poison", hours=5)
    elsewhere = made(world, 1, "poison", o=world.organisation("Other"))[0]
    visitor = Visitor(client, token("operator", name="mia"))
    page = visitor.get("/console/dead-letters").text
    assert len(re.findall(r'name="ticked" value="\d+" form="ticked"', page)) == 3
    nothing = visitor.get("/console/dead-letters/act", act="assign", what="ticked", code="poison")
    assert (nothing.status_code, "Nothing is selected" in nothing.text) == (422, True)
    assert visitor.get("/console/dead-letters/act", act="assign", ids="1,x").status_code == 422
    of_all = client.get("/console/dead-letters/act", params={"act": "assign", "what": "all", "ticked": [first]})
    assert "3 letters would get the assignee" in of_all.text, "all that match, whatever is ticked"
    preview = client.get(
        "/console/dead-letters/act", params={"act": "assign", "what": "ticked", "ticked": [first, third]}
    )
    assert "2 letters would get the assignee" in preview.text
    assert f'name="ids" value="{first},{third}"' in preview.text
    sent = visitor.post("/console/dead-letters/act", act="assign", to="me", ids=f"{first},{third},{elsewhere}")
    assert sent.status_code == 303
    given = world.run("SELECT id FROM withdrawals.dead_letters WHERE assignee = 'mia' ORDER BY id")
    assert [row.id for row in given] == [first, third]
    listed = client.get(
        "/v1/dead-letters", params={"ids": [second, elsewhere]}, headers={"Authorization": f"Bearer {token('viewer')}"}
    )
    assert [one["id"] for one in listed.json()["items"]] == [second]
    assert [one["id"] for one in done("dead-letters", "list", "--id", second, "--organisation", "Acme")["items"]] == [
        second
    ]


def test_ticked_jobs_are_acted_on_after_a_preview(
    client: TestClient, token: MakeToken, db: Database, world: World
) -> None:
    """Each by itself: what refuses one leaves the others."""
    jobs = [ask(db, world, world.enrolments(2), actor="token:ben").id for _ in range(3)]
    held, own = held_job(db, world).id, held_job(db, world, actor="token:eve").id
    secrets = {"mia": token("operator", name="mia"), "eve": token("approver", name="eve")}
    mia = Person(client, secrets["mia"])
    page = mia.get("/console/jobs")
    assert len(re.findall(r'name="ids" value="\d+" form="ticked"', page)) == 5
    assert 'value="release"' not in page, "what a role lacks is not offered"
    assert "Nothing is ticked" in mia.get("/console/jobs/act?act=pause")
    mia.get("/console/jobs/act?act=release&ids=1", 403)
    mia.get("/console/jobs/act?act=explode&ids=1", 422)
    preview = mia.get("/console/jobs/act?act=pause&ids=" + "&ids=".join(map(str, [*jobs[:2], held, 987_654])))
    assert "Pause 2 jobs</button>" in preview
    assert "its state does not fit" in preview
    control.cancel(db, organisation_id=world.organisation_id, job_id=jobs[1], actor="token:zoe")
    mia.post("/console/jobs/act", act="pause", ids=[str(one) for one in jobs[:2]], note="lunch")
    assert [job_state(world, one) for one in jobs] == ["paused", "cancelled", "queued"]
    assert "Paused: 1 job." in mia.get("/console/jobs")
    mia.post("/console/jobs/act", 409, act="pause", ids=[str(jobs[1])])
    mia.post("/console/jobs/act", act="cancel", ids=[str(one) for one in (jobs[0], jobs[2])])
    assert [job_state(world, one) for one in jobs] == ["cancelled"] * 3
    eve = Person(client, secrets["eve"])
    preview = eve.get(f"/console/jobs/act?act=release&ids={held}&ids={own}")
    assert ">Approve: release 1 job</button>" in preview
    assert "Another approver has to release it" in preview
    eve.post("/console/jobs/act", act="release", ids=[str(held), str(own)])
    assert "Released: 1 job. Still held, because you requested them: 1 job." in eve.get("/console/jobs")
    assert [job_state(world, one) for one in (held, own)] == ["queued", "held"]


def test_ticked_jobs_stay_ticked_and_ticked_learners_are_withdrawn_by_a_plan(
    sign_in: SignIn, db: Database, world: World
) -> None:
    """The list of jobs is loaded again under the hands of whoever ticks."""
    jobs = [ask(db, world, [one]) for one in world.enrolments(3)]
    page = sign_in("operator")
    page.clock.install()
    page.goto("/console/jobs")
    page.get_by_label(f"Tick job {jobs[0].id}").check()
    page.get_by_role("heading", name="Jobs").click()
    later = ask(db, world, world.enrolments(1))
    page.clock.run_for(6000)
    page.get_by_label(f"Tick job {later.id}").check()
    expect(page.locator("[data-selected] output")).to_have_text("2 selected")
    expect(page.get_by_label(f"Tick job {jobs[0].id}")).to_be_checked()
    page.get_by_role("button", name="Continue with the ticked").click()
    expect(page.get_by_role("button", name="Pause 2 jobs")).to_be_visible()
    page.get_by_role("button", name="Pause 2 jobs").click()
    expect(page.get_by_text("Paused: 2 jobs.")).to_be_visible()
    expect(page.locator("[data-selected] output")).to_have_text("")

    series = people(world, "Fire safety", 3)
    prefix = world.one("SELECT code FROM lms.series WHERE id = :id", id=series)
    world.enrolment(world.one("SELECT min(external_id) FROM lms.learners WHERE external_id LIKE :p", p=f"{prefix}%"))
    page.goto(f"/console/enrolments?learner={prefix}")
    boxes = page.locator("tbody input[type=checkbox]")
    expect(boxes).to_have_count(3)
    for box in (0, 2):
        boxes.nth(box).check()
    expect(page.locator("[data-selected] output")).to_have_text("2 selected")
    page.get_by_label("Reason for all").select_option("not_required")
    page.get_by_role("button", name="Continue to the plan").click()
    expect(page.get_by_text("All active enrolments, in every Series, of 2 ticked learners.")).to_be_visible()
    expect(page.get_by_text("of 2 learners")).to_be_visible()
