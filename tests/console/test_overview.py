"""The overview: what runs, what waits, what failed; and that a part that fails hides no other."""

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


def test_all_stands_at_a_glance_and_leads_on(
    sign_in: SignIn, db: Database, world: World, environment: Settings
) -> None:
    page = sign_in("viewer")
    says(page, "No enrolments yet")
    says(page, "withdrawals load FILE.csv")
    assert page.get_by_role("alert").all_text_contents() == [
        "No relay runs, so workers are not woken. To start one: withdrawals relay",
        "No worker runs, so requests are kept and wait. To start one: withdrawals worker",
    ]
    accessible(page)
    with db.begin() as connection:
        processes.record_alive(connection, uuid4(), "worker", 4)
        processes.record_alive(connection, uuid4(), "relay", 1)
    world.relay_leads(seen="-1 day")
    owned = world.enrolment("anna", pathway_id=world.pathway(NASTY))
    page.reload()
    page.get_by_role("link", name="Choose a Series").wait_for()
    assert not page.get_by_role("alert").count()
    accessible(page)

    job = ask(db, world, [owned, world.enrolment("ben")], actor=NASTY)
    decide_due(db, environment)
    world.run("UPDATE withdrawals.dead_letters SET opened_at = now() - interval '60 days'")
    held = held_job(db, world)
    page.reload()
    expect(page.get_by_role("row", name="Workers 1 running 4")).to_be_visible()
    expect(page.get_by_role("row", name="Owned by a pathway 1 1 60 days ago")).to_be_visible()
    expect(page.get_by_role("region", name="The brake")).to_contain_text("The limit is the larger of 2 and 10 %")
    last = page.get_by_role("region", name="Latest jobs")
    expect(last.get_by_role("row", name=NASTY)).to_contain_text("1 withdrawn")
    accessible(page)
    page.get_by_role("region", name="Jobs in progress").get_by_role("link", name="1", exact=True).click()
    page.get_by_role("link", name=held.title).wait_for()
    assert page.url.endswith("/console/jobs?state=held")
    assert job.id != held.id


def test_a_part_that_cannot_be_read_hides_no_other(
    token: MakeToken, db: Database, world: World, environment: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def late(_: object) -> None:
        raise sqlalchemy.exc.OperationalError("SELECT", {}, Exception("canceling statement due to statement timeout"))

    job = ask(db, world, world.enrolments(2))
    monkeypatch.setattr(gauges, "due_chunks", late)
    nowhere = "redis://127.0.0.1:1"
    app = make_app(db, make_broker(nowhere), environment.model_copy(update={"broker_url": SecretStr(nowhere)}))
    with TestClient(app, raise_server_exceptions=False, follow_redirects=False) as client:
        page = Person(client, token("viewer")).get("/console")
    assert "Redis cannot be reached." in page
    assert "127.0.0.1" not in page
    assert "These parts could not be read: due work." in page
    assert f"/console/jobs/{job.id}" in page


def test_what_is_broken_is_told_with_what_mends_it() -> None:
    def told(**found: object) -> list[str]:
        now = datetime.now(UTC)
        fine = {"worker": ProcessCount(1, 4, now), "relay": ProcessCount(1, 1, now)}
        parts = {"broker": True, "processes": fine, "leader": Leader(1.0), "due": (0, 0.0), **found}
        nothing = dict.fromkeys(("jobs", "letters", "brake", "last", "has_enrolments"))
        return [alarm.text + alarm.command for alarm in ServiceStatus(**nothing, **parts).alarms]  # type: ignore[arg-type]

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
