"""The overview and the page of the system; and that a part that fails hides no other."""

from datetime import UTC, datetime
from uuid import uuid4

import pytest
import sqlalchemy.exc
from playwright.sync_api import expect
from pydantic import SecretStr
from starlette.testclient import TestClient

from tests.support.console import NASTY, MakeToken, Person, SignIn, accessible, ask, held_job, says
from tests.world import World, decide_due
from worker.config import Settings
from worker.database import Database
from worker.ledger import gauges, processes
from worker.ledger.leader import FailingStep, Leader
from worker.ledger.processes import ProcessCount
from worker.queue.broker import make_broker
from worker.web.app import make_app
from worker.web.console.status import ServiceStatus


def test_the_overview_speaks_to_administrators_and_the_system_page_to_engineers(
    sign_in: SignIn, db: Database, world: World, environment: Settings
) -> None:
    page = sign_in("approver", name="mia")
    says(page, "No enrolments yet")
    alarm = page.get_by_role("alert")
    expect(alarm).to_contain_text("The service does not fully work now.")
    expect(page.locator("main code, main pre")).to_have_count(0)  # no commands for administrators
    accessible(page)
    alarm.get_by_role("link").click()
    page.get_by_role("heading", name="System").wait_for()
    expect(page.get_by_role("alert")).to_have_text(
        [
            "No relay runs, so workers are not woken. To start one: withdrawals relay",
            "No worker runs, so requests are kept and wait. To start one: withdrawals worker",
        ]
    )
    with db.begin(autocommit=True) as connection:
        processes.record_alive(connection, uuid4(), "worker", 4)
        processes.record_alive(connection, uuid4(), "relay", 1)
    world.run("UPDATE withdrawals.processes SET seen_at = now() + interval '1 day'")  # nobody beats for them
    world.relay_leads()
    page.reload()
    says(page, "Everything runs.")
    expect(page.get_by_role("row", name="Workers 1 running 4")).to_be_visible()
    accessible(page)

    owned = world.enrolment("anna", pathway_id=world.pathway(NASTY))
    page.goto("/console")
    says(page, "Nothing needs you now.")
    expect(page.get_by_role("alert")).to_have_count(0)
    ask(db, world, [owned, world.enrolment("ben")], actor=NASTY)
    decide_due(db, environment)
    world.run("UPDATE withdrawals.dead_letters SET opened_at = now() - interval '60 days'")
    held = held_job(db, world)
    page.reload()
    needs = page.get_by_role("region", name="Needs a person").get_by_role("listitem")
    expect(needs).to_have_count(3)
    expect(needs.nth(0)).to_contain_text(f"1 waits for a second person {held.title}")
    expect(needs.nth(1)).to_contain_text("1 overdue letter")
    expect(needs.nth(2)).to_contain_text("Owned by a pathway: 1, the oldest 60 days ago")
    week = page.get_by_role("region", name="The last 7 days")
    assert week.locator(".figure").all_text_contents() == ["1withdrawn", "0reinstated", "2jobs"]
    expect(page.get_by_role("region", name="The brake")).to_contain_text("The limit is the larger of 2 and 10 %")
    expect(page.get_by_role("region", name="Latest jobs").get_by_role("row", name=NASTY)).to_contain_text("1 withdrawn")
    accessible(page)
    page.get_by_role("region", name="In progress").get_by_role("link", name="1", exact=True).click()
    page.wait_for_url("**/console/jobs?state=held")
    page.get_by_role("link", name=held.title).wait_for()


def test_a_part_that_cannot_be_read_hides_no_other(
    token: MakeToken, db: Database, world: World, environment: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def late(*_: object) -> None:
        raise sqlalchemy.exc.OperationalError("SELECT", {}, Exception("canceling statement due to statement timeout"))

    job = ask(db, world, world.enrolments(2))
    monkeypatch.setattr(gauges, "due_chunks", late)
    monkeypatch.setattr(gauges, "unfinished_jobs", late)
    nowhere = "redis://127.0.0.1:1"
    app = make_app(db, make_broker(nowhere), environment.model_copy(update={"broker_url": SecretStr(nowhere)}))
    with TestClient(app, raise_server_exceptions=False, follow_redirects=False) as client:
        person = Person(client, token("viewer"))
        page, system = person.get("/console"), person.get("/console/system")
    assert "These parts could not be read: jobs in progress." in page
    assert f"/console/jobs/{job.id}" in page
    assert "Redis cannot be reached." in system
    assert "127.0.0.1" not in system
    assert "These parts could not be read: due work." in system


def test_what_is_broken_is_told_with_what_mends_it() -> None:
    def told(**found: object) -> list[str]:
        now = datetime.now(UTC)
        fine = {"worker": ProcessCount(1, 4, now), "relay": ProcessCount(1, 1, now)}
        parts = {"broker": True, "processes": fine, "leader": Leader(1.0), "due": (0, 0.0), **found}
        return [alarm.text + alarm.command for alarm in ServiceStatus(**parts).alarms]  # type: ignore[arg-type]

    now = datetime.now(UTC)
    assert told() == []
    assert "withdrawals worker" in told(processes={"relay": ProcessCount(1, 1, now)})[0]
    assert "withdrawals relay" in told(leader=Leader(None))[0]
    assert "withdrawals relay" in told(leader=Leader(16.0))[0], "one that hangs, whatever stands by"
    failing = (FailingStep("sessions", 1200, now, "DivisionByZero", "0123456789ab"),)
    assert told(leader=Leader(1.0, failing)) == [
        "Steps of the relay fail again and again: sessions (1,200 times, DivisionByZero). Its log says why."
    ]
    assert "Redis" in told(broker=False)[0]
    assert told(due=(9, 3600.0)) == ["The oldest due work has waited for 60 minutes."]
    assert told(processes=None, leader=None, due=None) == []
