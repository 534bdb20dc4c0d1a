"""Jobs in the console: people watch, pause, release and undo them in a browser."""

import json
import re
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from playwright.sync_api import Locator, Route, expect

from tests.support.console import NASTY, SignIn, accessible, ask, held_job, says
from tests.world import World, decide_due, eventually
from worker.access import memory
from worker.config import Settings
from worker.database import Database
from worker.records import Job
from worker.web.api import progress


def _titles(world: World, title: str) -> None:
    world.run("UPDATE lms.series SET title = :t", t=title)
    world.run("UPDATE lms.learners SET display_name = :t", t=title)


def test_a_running_job_is_watched_paused_resumed_and_undone_after_a_plan(
    sign_in: SignIn, db: Database, world: World, environment: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "POLL_SECONDS", 0.05)
    first, second = world.enrolments(4), world.enrolments(3)
    _titles(world, NASTY)
    job = ask(db, world, first + second, note=NASTY)
    page = sign_in("operator", name="otto", at="/console/jobs")
    page.locator("#jobs").get_by_text("Enrolment no longer required").wait_for()
    accessible(page)
    page.get_by_role("link", name=job.title).click()
    page.get_by_role("button", name="Pause").click()
    says(page, "Paused. Work in progress finishes")
    says(page, NASTY)
    accessible(page)
    page.evaluate("window.stayed = true")
    page.get_by_role("button", name="Resume").click()
    says(page, "Resumed.")
    page.evaluate("window.stayed = true")
    decide_due(db, environment)
    expect(page.get_by_role("status").filter(has_text="Completed")).to_be_visible()
    expect(page.get_by_role("row", name="Withdrawn")).to_contain_text("7")
    assert page.evaluate("window.stayed"), "without loading the page again"
    expect(page).to_have_title(re.compile("Completed"))
    page.get_by_role("row", name="Withdrawn").get_by_role("link", name="7").click()
    says(page, NASTY)
    accessible(page)
    named = page.get_by_role("row").filter(has=page.get_by_text(f"enrolment {first[0]}", exact=True))
    assert named.get_by_role("link").first.get_attribute("href") == f"/console/enrolments/{first[0]}"
    page.get_by_role("link", name=f"Job {job.id}").click()

    page.get_by_role("link", name="Undo").click()
    accessible(page)
    page.get_by_label("Enrolment ids").fill(f"{first[0]}, {first[1]}")
    page.get_by_role("button", name="Show the preview").click()
    page.get_by_label("Note").fill("by mistake")
    page.get_by_role("button", name="Reinstate 2 enrolments").click()
    says(page, f"This job undoes job {job.id}.")
    decide_due(db, environment)
    expect(page.get_by_role("row", name="Reinstated")).to_contain_text("2")
    assert [world.status(one) for one in first] == ["in_progress", "in_progress", "withdrawn", "withdrawn"]
    page.goto(f"/console/jobs/{job.id}")
    says(page, "reinstated")
    expect(page.get_by_text("2", exact=True).first).to_be_visible()


def test_a_second_person_releases_a_held_job_and_the_requester_reads_why(
    sign_in: SignIn, db: Database, world: World, environment: Settings
) -> None:
    job = held_job(db, world)
    mia = sign_in("approver", name="mia", at="/console/jobs")
    mia.get_by_role("link", name="1 held").click()
    mia.get_by_role("link", name=job.title).click()
    says(mia, "Held by the brake: its learners (8)")
    says(mia, "You requested this job, so another approver has to release it.")
    assert not mia.get_by_role("button", name="Release").count()
    accessible(mia)

    anna = sign_in("approver", name="anna", at=f"/console/jobs/{job.id}")
    expect(anna.get_by_role("region", name="What the job would do now")).to_contain_text("8 enrolments of 8 learners")
    says(anna, "Note (optional)")
    anna.get_by_role("link", name="See all 8 enrolments that it names").click()
    expect(anna.get_by_role("region", name="Enrolments that the job names").get_by_role("row")).to_have_count(9)
    accessible(anna)
    anna.go_back()
    anna.get_by_label("Note").fill("checked with HR")
    anna.get_by_role("button", name="Approve: release 8 enrolments").click()
    says(anna, "Approved and released. The job has started.")
    says(anna, "“checked with HR”")
    decide_due(db, environment)
    expect(anna.get_by_role("status").filter(has_text="Completed")).to_be_visible()


def test_without_javascript_a_job_is_moved_cancelled_and_undone(
    sign_in: SignIn, db: Database, world: World, environment: Settings
) -> None:
    later = (datetime.now(UTC) + timedelta(days=2)).isoformat()
    ids = world.enrolments(2)
    job = ask(db, world, ids, effective_at=later)
    page = sign_in("operator", js=False, at=f"/console/jobs/{job.id}")
    page.get_by_role("link", name="Move to another time").click()
    page.get_by_label("Day").fill("2031-02-03")
    page.get_by_label("Time").fill("17:30")
    page.get_by_role("button", name="Move the job").click()
    says(page, "Moved to 3 Feb 2031, 17:30.")
    page.get_by_role("link", name="Move to another time").click()
    page.get_by_label("Day").fill("2026-01-01")
    page.get_by_role("button", name="Move the job").click()
    says(page, "Moved to")
    decide_due(db, environment)
    page.get_by_role("link", name="Undo").click()
    page.get_by_role("button", name="Reinstate 2 enrolments").click()
    says(page, f"This job undoes job {job.id}.")
    page.get_by_role("link", name="Cancel").click()
    says(page, "2 undecided enrolments stay as they are")
    page.get_by_role("button", name="Cancel the job").click()
    says(page, "Cancelled. 2 of 2 enrolments stay as they are.")


def test_a_page_survives_a_restart_and_an_expired_session_leads_to_the_sign_in(
    sign_in: SignIn, db: Database, world: World, environment: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "POLL_SECONDS", 0.05)
    monkeypatch.setattr(progress, "RETRY_MILLISECONDS", 20)
    job = ask(db, world, world.enrolments(6))
    page = sign_in("viewer")
    page.add_init_script("const slow = setTimeout; setTimeout = (act, time) => slow(act, time / 30)")
    seen = {"state": "queued", "accepted": 6, "in_flight": 2, "outcomes": {}}
    event = f"retry: 300\nevent: progress\ndata: {json.dumps(seen)}\n\n"
    before, after, seen_by_test = [503, 503], [503, 503], threading.Event()

    def answer(route: Route) -> None:
        refused = after if seen_by_test.is_set() else before
        if refused:
            route.fulfill(status=refused.pop())
        elif seen_by_test.is_set():
            route.continue_()
        else:
            route.fulfill(body=event, content_type="text/event-stream")

    page.route("**/events", answer)
    page.goto(f"/console/jobs/{job.id}")
    expect(page.get_by_text("4", exact=True)).to_be_visible()  # of streams that break off
    seen_by_test.set()
    expect(page.get_by_text("0", exact=True)).to_be_visible()  # the real one
    decide_due(db, environment)
    expect(page.get_by_role("row", name="Withdrawn")).to_contain_text("6")

    third = ask(db, world, world.enrolments(2))
    page.goto(f"/console/jobs/{third.id}")
    says(page, "No enrolment is decided yet.")
    world.run("UPDATE withdrawals.sessions SET expires_at = now()")
    memory.forget_all()
    page.get_by_label("Token").wait_for()
    assert page.url.endswith(f"/console/sign-in?next=%2Fconsole%2Fjobs%2F{third.id}")


def test_a_list_of_jobs_follows_what_happens_and_leaves_alone_what_is_in_use(
    sign_in: SignIn, db: Database, world: World
) -> None:
    first = ask(db, world, world.enrolments(1))
    page = sign_in("viewer")

    def link(job: Job) -> Locator:
        return page.locator(f'a[href="/console/jobs/{job.id}"]')

    def in_time(found: Callable[[], object]) -> object:
        """Again and again: the page asks a second time only when what the first answer does has been done."""
        page.clock.run_for(5_000)
        return found()

    asked: list[str] = []
    page.clock.install()
    page.goto("/console/jobs")
    link(first).focus()
    second = ask(db, world, world.enrolments(1))
    page.on("request", lambda request: asked.append(request.url))
    eventually(lambda: in_time(lambda: len(asked) > 1), what="it has asked twice")
    expect(link(first)).to_be_focused()
    expect(link(second)).to_have_count(0)
    link(first).blur()
    eventually(lambda: in_time(link(second).count), what="the second job")
