"""`GET /v1/receipts/{id}`: what became of an event, before and after it is applied."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.support.commandline import done, withdrawals
from tests.support.incoming import incoming, make_registered, waiting
from tests.support.web import Hr, MakeHr, event
from tests.world import World, apply_inbox, decide_due
from worker.config import Settings
from worker.database import Database
from worker.queue.broker import make_broker
from worker.web.app import make_app

Bearer = Callable[..., dict[str, str]]
AT_ACME = ("--organisation", "Acme")


@pytest.fixture
def show(client: TestClient, bearer: Bearer) -> Callable[[str], dict[str, Any]]:
    """The receipt as a viewer reads it."""
    headers = bearer("viewer")

    def read(receipt_id: str) -> dict[str, Any]:
        answer = client.get(f"/v1/receipts/{receipt_id}", headers=headers)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    return read


def test_a_receipt_says_that_its_event_waits_and_then_what_became_of_it(
    hr: Hr, world: World, db: Database, environment: Settings, show: Callable[[str], dict[str, Any]]
) -> None:
    world.enrolment("anna")
    receipt_id = hr.send(event(effective_at="2026-03-31"), key="msg_1").json()["receipt_id"]
    waiting = show(receipt_id)
    assert (waiting["state"], waiting["status"], waiting["job_id"], waiting["applied_at"]) == (
        "waiting", "accepted", None, None,
    )  # fmt: skip
    apply_inbox(db, environment)
    applied = show(receipt_id)
    assert applied == {
        **waiting, "state": "applied", "job_id": 1, "applied_at": applied["applied_at"],
    }  # fmt: skip
    assert (applied["source"], applied["event_id"], applied["type"]) == ("workday", "msg_1", "user.deactivated")
    assert applied["effective_at"] == "2026-04-01T00:00:00Z"
    assert "anna" not in json.dumps(applied)


@pytest.mark.parametrize(
    ("policy", "said", "status"),
    [
        ({}, event(), "accepted"),
        ({"grace_hours": 48}, event(), "scheduled"),
        ({"on_deactivate": "hold"}, event(), "held"),
        ({"on_deactivate": "ignore"}, event(), "noted"),
        ({}, event(kind="reactivated"), "reactivated"),
        ({}, event(timestamp="2020-01-01T00:00:00Z"), "ignored"),
        ({}, {"type": "user.renamed"}, "ignored"),
    ],
)
def test_a_receipt_says_what_the_order_of_events_made_of_it(
    make_hr: MakeHr, world: World, db: Database, environment: Settings, show: Callable[[str], dict[str, Any]],
    policy: dict[str, Any], said: dict[str, Any], status: str,
) -> None:  # fmt: skip
    hr = make_hr(**policy)
    world.enrolment("anna")
    hr.applied(event(kind="reactivated", timestamp="2025-01-01T00:00:00Z"))
    receipt_id = hr.send(said).json()["receipt_id"]
    decide_due(db, environment)
    found = show(receipt_id)
    assert (found["state"], found["status"]) == ("applied", status)
    assert (found["job_id"] is not None) is (status in ("accepted", "scheduled", "held"))


def test_what_a_deactivation_does_can_be_changed_for_events_that_are_applied_from_then_on(
    make_hr: MakeHr, client: TestClient, bearer: Bearer, world: World, db: Database, environment: Settings
) -> None:
    hr, source = make_hr(on_deactivate="hold"), "/v1/sources/1"
    for name in ("anna", "ben", "cleo"):
        world.enrolment(name)
    hr.applied(event("anna"))
    hr.send(event("ben"))  # waits, so it is for the policy that holds when it is applied
    wanted = {"on_deactivate": "withdraw", "grace_hours": 0}
    assert client.put(f"{source}/policy", json=wanted, headers=bearer("approver")).status_code == 403
    theirs = bearer("owner", organisation_id=world.organisation("Other"))
    assert client.put(f"{source}/policy", json=wanted, headers=theirs).status_code == 404
    for wrong, field in (({"on_deactivate": "fire"}, "on_deactivate"), ({"grace_hours": 9000}, "grace_hours")):
        refused = client.put(f"{source}/policy", json={**wanted, **wrong}, headers=bearer("owner"))
        assert (refused.status_code, field in refused.text) == (422, True)
    for _ in range(2):  # a repetition changes nothing and is on record once
        changed = client.put(f"{source}/policy", json=wanted, headers=bearer("owner")).json()
        assert {name: changed[name] for name in wanted} == wanted
    decide_due(db, environment)
    assert [row.state for row in world.run("SELECT state FROM withdrawals.jobs ORDER BY id")] == ["held", "completed"]
    done("sources", "set-policy", 1, *AT_ACME, "--on-deactivate", "ignore", "--grace-hours", 2)
    assert (
        "Use one of: withdraw, hold, ignore"
        in withdrawals("sources", "set-policy", 1, *AT_ACME, "--on-deactivate", "fire").err
    )
    hr.applied(event("cleo"))
    assert world.one("SELECT count(*) FROM withdrawals.jobs") == 2
    acts = world.run("SELECT detail FROM withdrawals.audit WHERE action = 'source.set_policy' ORDER BY id")
    assert [(row.detail["before"]["on_deactivate"], row.detail["after"]) for row in acts] == [
        ("hold", wanted), ("withdraw", {"on_deactivate": "ignore", "grace_hours": 2}),
    ]  # fmt: skip


def test_the_receipt_of_an_event_that_cannot_be_read_names_its_letter(
    hr: Hr, world: World, show: Callable[[str], dict[str, Any]]
) -> None:
    receipt_id = hr.send(b"nonsense").json()["receipt_id"]
    found = show(receipt_id)
    assert (found["state"], found["status"], found["dead_letter_id"]) == ("applied", "invalid", world.letters()[0].id)


def test_another_organisations_receipt_is_one_that_does_not_exist(
    hr: Hr, client: TestClient, bearer: Bearer, world: World
) -> None:
    receipt_id = hr.send(event()).json()["receipt_id"]
    other = bearer("viewer", organisation_id=world.organisation("Other"))
    assert client.get(f"/v1/receipts/{receipt_id}", headers=other).status_code == 404
    assert client.get(f"/v1/receipts/{receipt_id}", headers=bearer("producer")).status_code == 403


def test_the_command_line_shows_a_receipt(hr: Hr) -> None:
    receipt_id = hr.send(event(), key="msg_1").json()["receipt_id"]
    shown = withdrawals("receipts", "show", receipt_id, "--json")
    assert json.loads(shown.out)["state"] == "waiting"
    assert "msg_1" in withdrawals("receipts", "show", receipt_id).out
    assert withdrawals("receipts", "show", "999").code == 1


def test_what_waits_at_the_door_is_committed_when_the_server_stops(
    db: Database, environment: Settings, world: World
) -> None:
    source = make_registered(db, environment, world.organisation_id)
    app = make_app(db, make_broker(environment.broker_url.get_secret_value()), environment)
    door = app.state.services.inbox
    futures = [door.submit(source, incoming(f"person-{number}")) for number in range(50)]
    db.close()  # as the server does after its last request
    assert all(future.result(0).status == "accepted" for future in futures)
    assert len(waiting(world)) == 50
    with pytest.raises(RuntimeError, match="closed"):
        door.submit(source, incoming("late"))
