"""HiBob, Personio and Finch say whose record changed; what is true is looked up before anything is applied."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest import mock

import httpx2
import pytest
from starlette.testclient import TestClient

from tests.support.hr_systems import HrSystem, hr_system
from tests.support.incoming import due_again, results
from tests.support.web import MakeHr, event, make_source
from tests.world import World, apply_inbox, assert_balanced, decide_due
from worker.config import Settings
from worker.database import Database
from worker.ledger import lookups
from worker.people.hr_records import hibob
from worker.queue.broker import make_broker
from worker.queue.hints import WEBHOOKS_QUEUE
from worker.queue.lookups import Lookups
from worker.queue.relay import Relay
from worker.web.hooks import finch

SECRETS = {
    "hibob": "a-secret-of-hibob-alone",
    "personio": "Bearer a-token-of-personio",
    "finch": "5WbX5kEWLlfzsGNjH64I8lOOqUB6e8FH",
}
PERSON = "3332883854254932743"


@pytest.fixture
def environment(environment: Settings) -> Settings:
    """Private addresses are allowed: the HR system is on this machine."""
    return environment.model_copy(update={"webhooks_allow_private": True})


@pytest.fixture
def system() -> Iterator[HrSystem]:
    with hr_system() as made:
        yield made


@pytest.fixture
def client(db: Database, environment: Settings, world: World, system: HrSystem, client: TestClient) -> TestClient:
    """With a source of each kind, of an organisation in Vienna."""
    world.run("UPDATE lms.organisations SET timezone = 'Europe/Vienna'")
    for kind, secret in SECRETS.items():
        make_source(
            db,
            environment,
            world.organisation_id,
            kind,
            kind,
            secret=secret,
            api_key="id:an-api-key",
            api_url=system.url,
        )
    return client


@pytest.fixture
def look_up(db: Database, environment: Settings) -> Any:
    """Make the look-ups that are due, and apply what was found; how many were made."""

    def run() -> int:
        made = Lookups(db, environment).run()
        apply_inbox(db, environment)
        return made

    return run


def hibob_body(kind: str = "employee.left", at: str = "2026-03-01T00:00:26.915906", **data: Any) -> bytes:
    """After the example at https://apidocs.hibob.com/changelog/employee-data-webhooks-tableentrycreated-….md."""
    given = {"employeeId": PERSON, **data}
    return json.dumps(
        {"companyId": 636192, "type": kind, "triggeredBy": "system", "triggeredAt": at, "version": "v2", "data": given}
    ).encode()


def send_hibob(client: TestClient, body: bytes, secret: str = SECRETS["hibob"]) -> httpx2.Response:
    signature = base64.b64encode(hmac.new(secret.encode(), body, hashlib.sha512).digest()).decode()
    return client.post("/hooks/hibob/hibob", content=body, headers={"bob-signature": signature})


def hibob_record(status: str, last_day: str | None = None) -> dict[str, Any]:
    """As `POST /v1/people/search` answers for fields that were asked for."""
    return {
        "/root/id": {"value": PERSON},
        "/internal/lifecycleStatus": {"value": status},
        "/internal/terminationDate": {"value": last_day},
    }


def job(world: World) -> tuple[str, datetime | None]:
    row = world.run("SELECT state, effective_at FROM withdrawals.jobs ORDER BY id DESC LIMIT 1")[0]
    return row.state, row.effective_at


def letters(world: World) -> list[str]:
    return [row.message for row in world.run("SELECT message FROM withdrawals.dead_letters ORDER BY id")]


def test_garden_leave_withdraws_nobody_before_the_last_day_of_the_employment(
    client: TestClient, world: World, db: Database, environment: Settings, system: HrSystem, look_up: Any
) -> None:
    """The story of a leaver of HiBob: garden leave, a repeated delivery, a moved date, and taken back."""
    enrolment = world.enrolment(PERSON)
    system.records[PERSON] = hibob_record("garden leave", "2099-06-30")
    for _ in range(2):
        assert send_hibob(client, hibob_body()).status_code == 200
        apply_inbox(db, environment)
    assert results(world) == [("accepted", True)], "the door asks nobody, and nothing is applied unread"
    broker = make_broker(environment.broker_url.get_secret_value())
    Relay(db, broker, environment).publish()
    assert broker.client.llen(f"withdrawals:{WEBHOOKS_QUEUE}") == 1, "the thread that makes requests is told"
    assert look_up() == 1
    assert job(world) == ("scheduled", datetime(2099, 6, 30, 22, tzinfo=UTC)), "the end of that day in Vienna"
    (method, path, headers, body) = system.asked[0]
    assert (method, path) == ("POST", "/v1/people/search")
    assert base64.b64decode(headers["authorization"].removeprefix("Basic ")) == b"id:an-api-key"
    assert json.loads(body)["showInactive"] is True

    system.records[PERSON] = hibob_record("garden leave", "2099-09-30")
    send_hibob(client, hibob_body("table.entry.updated", "2026-03-02T00:00:00", tableId="lifecycle"))
    assert look_up() == 1
    assert job(world) == ("scheduled", datetime(2099, 9, 30, 22, tzinfo=UTC))
    send_hibob(client, hibob_body("employee.inactivated", "2026-03-02T00:00:01"))
    look_up()
    assert results(world)[-1] == ("ignored", False), "the same again changes nothing"

    system.records[PERSON] = hibob_record("employed")
    send_hibob(client, hibob_body("employee.updated", "2026-03-03T00:00:00"))
    look_up()
    assert world.run("SELECT DISTINCT state FROM withdrawals.jobs")[0].state == "superseded"
    decide_due(db, environment)
    assert (world.status(enrolment), world.active(PERSON)) == ("in_progress", True)

    system.records[PERSON] = hibob_record("terminated", "2026-02-28")
    send_hibob(client, hibob_body("employee.left", "2026-03-04T00:00:00"))
    look_up()
    decide_due(db, environment)
    assert (world.status(enrolment), world.active(PERSON)) == ("withdrawn", False)
    assert_balanced(db)


def test_events_that_say_nothing_about_leaving_are_not_stored(client: TestClient, world: World) -> None:
    for body in (
        b"Ping test", b'"Ping test"', b'{"text": "Ping test"}', hibob_body("employee.deleted"),
        hibob_body("table.entry.created", tableId="salaries"), hibob_body("timeoff.request.approved"),
    ):  # fmt: skip
        assert (send_hibob(client, body).status_code, send_hibob(client, body).content) == (200, b"")
    assert client.post("/hooks/hibob/hibob", content=b"Ping test").status_code == 200
    assert send_personio(client, personio_body("employment.deleted")).status_code == 200
    assert send_finch(client, finch_body("payment.created")).status_code == 200
    assert results(world) == []


def test_a_record_that_stays_does_not_undo_what_another_source_said(
    client: TestClient, world: World, make_hr: MakeHr, system: HrSystem, look_up: Any
) -> None:
    """A new job title in HiBob is no reactivation."""
    world.enrolment(PERSON)
    make_hr("other").applied(event(PERSON))
    assert not world.active(PERSON)
    system.records[PERSON] = hibob_record("employed")
    send_hibob(client, hibob_body("employee.updated", "2026-04-01T00:00:00"))
    assert look_up() == 1
    assert not world.active(PERSON)


def test_an_unclear_record_goes_to_a_person_and_withdraws_nobody(
    client: TestClient, world: World, db: Database, environment: Settings, system: HrSystem, look_up: Any
) -> None:
    enrolment = world.enrolment(PERSON)
    unclear = [hibob_record("terminated"), hibob_record("employed", "2026-01-31"), hibob_record("terminated", "31/01")]
    for day, record in enumerate([*unclear, None], start=1):
        system.records = {PERSON: record} if record else {}
        send_hibob(client, hibob_body(at=f"2026-03-0{day}T00:00:00"))
        look_up()
    decide_due(db, environment)
    assert world.status(enrolment) == "in_progress"
    assert [text.partition("cannot be applied: ")[2] for text in letters(world)] == [
        "the employee is terminated, without a termination date",
        "the termination date is past, and the employee is employed",
        "internal.terminationDate: is not a date such as 2026-03-31",
        "HiBob does not show this employee to the service user",
    ]
    assert results(world) == [("invalid", False)] * 4
    assert_balanced(db)


def test_an_hr_system_that_does_not_answer_is_asked_again_for_hours(
    client: TestClient, world: World, db: Database, system: HrSystem, look_up: Any
) -> None:
    world.enrolment(PERSON)
    system.records[PERSON], system.status = hibob_record("terminated", "2026-02-28"), 503
    send_hibob(client, hibob_body())
    assert look_up() >= 1
    assert results(world) == [("accepted", True)]
    system.status = 200
    due_again(world)
    look_up()
    assert not world.active(PERSON)
    system.status = 429
    send_hibob(client, hibob_body(at="2026-03-02T00:00:00"))
    world.run("UPDATE withdrawals.receipts SET tried_for = interval '10 days' WHERE waiting")
    look_up()
    assert [letter.code for letter in world.letters()] == ["invalid_event"]
    assert "did not answer: status 429" in letters(world)[0]
    system.status, system.records[PERSON] = 200, hibob_record("terminated", "9999-12-31")
    send_hibob(client, hibob_body(at="2026-03-03T00:00:00"))
    with mock.patch.object(hibob, "parse_day", side_effect=KeyError("a defect")):
        look_up()
    assert results(world)[-1] == ("accepted", True), "it comes again, but not for ever"
    due_again(world)
    look_up()
    assert "the last day: that date is too far away" in letters(world)[-1]
    assert_balanced(db)


def test_an_hr_system_that_does_not_answer_holds_up_no_other_source(
    client: TestClient,
    world: World,
    db: Database,
    environment: Settings,
    make_hr: MakeHr,
    system: HrSystem,
    look_up: Any,
) -> None:
    """Until it was asked once, its event may say something newer, and the deactivation of another source waits."""
    enrolment = world.enrolment(PERSON)
    send_hibob(client, hibob_body())
    make_hr("other").applied(event(PERSON))
    decide_due(db, environment)
    assert (world.status(enrolment), world.active(PERSON)) == ("in_progress", False)
    system.status = 503
    look_up()
    world.run("UPDATE withdrawals.chunks SET run_after = now() WHERE state = 'ready'")
    decide_due(db, environment)
    assert world.status(enrolment) == "withdrawn"


def test_one_lookup_of_a_person_is_in_hand_until_what_it_found_is_applied(
    client: TestClient, world: World, db: Database, environment: Settings, make_hr: MakeHr, system: HrSystem
) -> None:
    """So what a later one finds is newer, and a worker that lost its lease writes nothing."""
    world.enrolment(PERSON)
    for day in (1, 2):
        send_hibob(client, hibob_body(at=f"2026-03-0{day}T00:00:00"))
    make_hr("other").applied(event("somebody-else"))  # what is applied beside them does not take them along
    lease = timedelta(seconds=60)
    first = db.run(lambda connection: lookups.claim(connection, lease=lease))
    assert first is not None
    assert db.run(lambda connection: lookups.claim(connection, lease=lease)) is None
    assert not db.run(lambda connection: connection.scalar(lookups.ANY_DUE.clause))
    due_again(world)  # its lease has run out
    again = db.run(lambda connection: lookups.claim(connection, lease=lease))
    assert again is not None and (again.event.id, again.began_at > first.began_at) == (first.event.id, True)
    assert not db.run(lambda connection: lookups.lock(connection, first)), "another worker has it"
    system.records[PERSON] = hibob_record("garden leave", "2099-06-30")
    due_again(world)
    step = Lookups(db, environment).step
    assert step()
    assert not step(), "what was found is not applied yet"
    apply_inbox(db, environment)
    assert step()
    apply_inbox(db, environment)
    assert [status for status, _ in results(world)] == ["scheduled", "ignored", "accepted"]


def personio_body(name: str = "employment.terminated", **payload: Any) -> bytes:
    """After https://developer.personio.de/v2.0/reference/webhooks; the payload's fields are not published there."""
    given = payload or {"id": "2306b77a-35fb-4b1d-8044-3b14f7f2ca65", "person_id": "5005"}
    fields = {"company_id": "54321", "occurred_at": "2026-03-01T07:00:00Z", "event_name": name, "payload": given}
    return json.dumps(fields).encode()


def send_personio(client: TestClient, body: bytes, token: str = SECRETS["personio"]) -> httpx2.Response:
    headers = {"authorization": token, "content-type": "application/json"}
    return client.post("/hooks/personio/personio", content=body, headers=headers)


def test_personio_is_asked_for_all_employments_of_the_person(
    client: TestClient, world: World, db: Database, system: HrSystem, look_up: Any
) -> None:
    world.enrolment("5005")
    ended = {"status": "INACTIVE", "employment_end_date": "2025-12-31"}
    system.records["5005"] = [
        {"status": "ACTIVE", "termination": {"termination_date": "2099-06-30", "last_working_day": "2099-05-31"}},
        ended,
    ]  # fmt: skip
    for _ in range(2):
        assert (send_personio(client, personio_body()).status_code, results(world)) == (200, [("accepted", True)])
    look_up()
    assert job(world) == ("scheduled", datetime(2099, 6, 30, 22, tzinfo=UTC))
    asked = [(method, path) for method, path, *_ in system.asked]
    assert asked == [("POST", "/v2/auth/token"), ("GET", "/v2/persons/5005/employments?limit=50")]
    assert system.asked[0][3] == "grant_type=client_credentials&client_id=id&client_secret=an-api-key"
    assert system.asked[1][2]["authorization"] == "Bearer papi-token"
    system.records["5005"] = [{"status": "ACTIVE"}, ended]
    send_personio(client, personio_body("employment.updated", person={"id": 5005}))
    look_up()
    assert job(world)[0] == "superseded"
    send_personio(client, personio_body("employment.updated", id="some-employment"))
    assert [letter.code for letter in world.letters()] == ["invalid_event"], "it names no person"
    assert_balanced(db)


def finch_body(kind: str = "employment.updated", **data: Any) -> bytes:
    """After `types/employment_event.py` of https://github.com/Finch-API/finch-api-python."""
    given = data or {"individual_id": "5d0b10a1-a09a-430f-81f1-20be735dc5e9"}
    fields = {"company_id": "720be419", "account_id": "b9a8", "connection_id": "c1", "event_type": kind, "data": given}
    return json.dumps(fields).encode()


def send_finch(
    client: TestClient, body: bytes, key: str = "msg_1", secret: str = SECRETS["finch"], at: float | None = None
) -> httpx2.Response:
    sent = str(int(time.time() if at is None else at))
    signed = hmac.new(base64.b64decode(secret), f"{key}.{sent}.".encode() + body, hashlib.sha256).digest()
    headers = {
        "finch-event-id": key,
        "finch-timestamp": sent,
        "finch-signature": f"v1,{base64.b64encode(b'another').decode()} v1,{base64.b64encode(signed).decode()}",
        "content-type": "application/json",
    }
    return client.post("/hooks/finch/finch", content=body, headers=headers)


def test_finch_is_asked_for_the_employment_of_the_individual(
    client: TestClient, world: World, system: HrSystem, look_up: Any
) -> None:
    person = "5d0b10a1-a09a-430f-81f1-20be735dc5e9"
    world.enrolment(person)
    system.records[person] = {"id": person, "is_active": False, "employment_status": "leave", "end_date": None}
    send_finch(client, finch_body())
    look_up()
    assert (world.active(person), results(world)) == (True, [("ignored", False)]), "leave is employment"
    system.records[person] |= {"employment_status": "terminated", "end_date": "2026-02-28"}
    for _ in range(2):
        assert send_finch(client, finch_body(), "msg_2").status_code == 200
    look_up()
    assert (world.active(person), len(results(world))) == (False, 2)
    assert json.loads(system.asked[0][3]) == {"requests": [{"individual_id": person}]}
    assert system.asked[0][2]["finch-api-version"] == "2020-09-17"
    assert system.asked[0][2]["authorization"] == "Bearer id:an-api-key"


def test_finchs_own_example_of_a_signature_is_genuine(monkeypatch: pytest.MonkeyPatch) -> None:
    """From `tests/api_resources/test_webhooks.py` of https://github.com/Finch-API/finch-api-python."""
    headers = {
        "finch-event-id": "msg_2Lh9KRb0pzN4LePd3XiA4v12Axj",
        "finch-timestamp": "1676312382",
        "finch-signature": "v1,m7y0TV2C+hlHxU42wCieApTSTaA8/047OAplBqxIV/s=",
    }
    body = b'{"company_id":"720be419-0293-4d32-a707-32179b0827ab"}'
    monkeypatch.setattr(time, "time", lambda: 1676312382.0 + 299)
    assert finch.is_genuine(SECRETS["finch"], headers, body)
    monkeypatch.setattr(time, "time", lambda: 1676312382.0 + 301)
    assert not finch.is_genuine(SECRETS["finch"], headers, body)


def test_what_is_not_signed_by_the_source_is_not_taken(client: TestClient, world: World) -> None:
    """401 with one body for all."""
    answers = [
        send_hibob(client, hibob_body(), "another-secret-of-another-source"),
        client.post("/hooks/hibob/hibob", content=hibob_body()),
        client.post("/hooks/hibob/nobody", content=hibob_body()),
        send_personio(client, personio_body(), "a-token-of-personio"),
        client.post("/hooks/personio/personio", json={}),
        send_finch(client, finch_body(), secret=base64.b64encode(b"another secret of another").decode()),
        send_finch(client, finch_body(), at=time.time() - 360),
        client.post("/hooks/finch/finch", json={}),
        client.post("/hooks/finch/nobody", json={}),
    ]
    assert {answer.status_code for answer in answers} == {401}
    assert len({answer.content for answer in answers}) == 1
    assert results(world) == []
