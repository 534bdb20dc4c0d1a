"""`POST /hooks/hr/{source}`: every row of the contract's table, and attempts to forge a request."""

import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pytest
import structlog
import uvicorn
from standardwebhooks import Webhook
from starlette.testclient import TestClient

from ops.local.servers import LocalServers
from schemas.catalogue import LetterCode
from tests.support import processes
from tests.support.web import Hr, MakeHr, event, signed
from tests.world import PATIENCE, World, apply_inbox, assert_balanced, decide_due
from worker.access import memory
from worker.config import Settings
from worker.database import Database
from worker.dead_letters import acts, remedies
from worker.errors import InvalidInputError
from worker.people import hr_sources
from worker.queue.broker import make_broker
from worker.queue.relay import Relay
from worker.web.app import make_app


def stored_receipts(world: World) -> list[tuple[str, int | None]]:
    rows = world.run("SELECT status, job_id FROM withdrawals.receipts ORDER BY id")
    return [(row.status, row.job_id) for row in rows]


def test_a_deactivation_is_accepted_with_a_receipt(hr: Hr, world: World, db: Database, environment: Settings) -> None:
    """202 with a receipt. Once it is applied the learner is inactive, then withdrawn in the name of the source."""
    enrolment_id = world.enrolment("anna")
    answer = hr.send(event())
    assert answer.status_code == 202
    assert answer.json() == {"receipt_id": answer.json()["receipt_id"], "status": "accepted"}
    assert world.one("SELECT count(*) FROM withdrawals.persons") == 0, "at the door nothing else happens"
    apply_inbox(db, environment)
    assert stored_receipts(world) == [("accepted", 1)]
    assert not world.active("anna")
    decide_due(db, environment)
    assert world.outcomes(1) == {enrolment_id: "withdrawn"}
    row = world.run("SELECT withdrawn_by, withdrawal_reason FROM lms.enrolments")[0]
    assert tuple(row) == ("hr:workday", "user_deactivated")
    assert_balanced(db)


def test_a_deactivation_for_a_later_day_is_scheduled(hr: Hr, world: World) -> None:
    """A date alone means the end of that day in the organisation's time zone."""
    world.run("UPDATE lms.organisations SET timezone = 'America/New_York'")
    world.enrolment("anna")
    assert hr.applied(event(effective_at="2199-07-01"))[0] == "scheduled"
    assert world.active("anna")
    due = world.one("SELECT effective_at FROM withdrawals.jobs")
    assert due == datetime(2199, 7, 2, 4, tzinfo=UTC)


def test_the_same_event_again_gets_the_same_receipt(hr: Hr, world: World) -> None:
    """200 with the same receipt, whatever happened since, also after 30 days."""
    world.enrolment("anna")
    first = hr.send(event(), key="msg_1")
    assert hr.send(event(), key="msg_1").json() == first.json(), "before it is applied"
    hr.applied(event(kind="reactivated", timestamp="2026-03-02T08:00:00Z"), key="msg_2")
    world.run("UPDATE withdrawals.receipts SET received_at = received_at - interval '31 days'")
    again = hr.send(event(), key="msg_1")
    assert (first.status_code, again.status_code) == (202, 200)
    assert first.json() == again.json()
    assert world.active("anna")


def test_the_same_id_with_another_body_is_refused(hr: Hr, world: World) -> None:
    world.enrolment("anna")
    hr.send(event(), key="msg_1")
    for other in (event("ben"), event(kind="reactivated"), b"{}", b"nonsense", {"type": "user.renamed"}):
        answer = hr.send(other, key="msg_1")
        assert answer.status_code == 409
        assert answer.json()["type"] == "urn:withdrawals:problem:idempotency_key_reused"
    assert stored_receipts(world) == [("accepted", None)]


def test_the_same_fact_under_a_new_id_changes_nothing(hr: Hr, world: World) -> None:
    world.enrolment("anna")
    assert hr.applied(event())[0] == "accepted"
    assert hr.applied(event())[0] == "ignored"
    assert world.one("SELECT count(*) FROM withdrawals.jobs") == 1


def attacks(hr: Hr, other: Hr) -> Iterator[tuple[str, dict[str, str]]]:
    """Ways to forge a request: a name, and the headers."""
    body = json.dumps(event()).encode()
    good, key = signed(hr.secret, body), "msg_attack"
    signature = good["webhook-signature"]
    yield "another source's", signed(other.secret, body)
    yield "another body's", signed(hr.secret, b'{"type": "user.reactivated"}')
    yield "truncated", {**good, "webhook-signature": signature[:-9]}
    yield "empty", {**good, "webhook-signature": ""}
    yield "no version", {**good, "webhook-signature": signature.removeprefix("v1,")}
    yield "three parts", {**good, "webhook-signature": signature + ",x"}
    yield "another version", {**good, "webhook-signature": "v1a," + signature.removeprefix("v1,")}
    yield "not base64", {**good, "webhook-signature": "v1,ä!".encode("latin-1").decode("latin-1")}
    yield "another id's", {**good, "webhook-id": key}
    yield "replayed after six minutes", signed(hr.secret, body, at=time.time() - 360)
    yield "from the future", signed(hr.secret, body, at=time.time() + 360)
    for name, value in (("no number", "soon"), ("NaN", "nan"), ("endless", "1e999"), ("no time", "")):
        yield name, {**good, "webhook-timestamp": value}
    for name in ("webhook-id", "webhook-timestamp", "webhook-signature"):
        yield f"without {name}", {key: value for key, value in good.items() if key != name}


def test_a_missing_wrong_or_outdated_signature_is_refused(
    client: TestClient, make_hr: MakeHr, db: Database, world: World
) -> None:
    """401 with one body for all: it does not reveal which part was wrong, nor whether the source exists."""
    hr, other, gone = make_hr(), make_hr("other"), make_hr("gone")
    gone_id = next(source.id for source in hr_sources.list_sources(db, world.organisation_id) if source.name == "gone")
    hr_sources.disable(db, organisation_id=world.organisation_id, source_id=gone_id, actor="test:approver")
    body = json.dumps(event()).encode()
    answers = {}
    for name, headers in attacks(hr, other):
        wire = {key: value.encode("latin-1") for key, value in headers.items()}
        answers[name] = client.post("/hooks/hr/workday", content=body, headers=wire)  # type: ignore[arg-type]
    for name in ("%00", "9" * 30, "a" * 200, "%ff"):
        answers[name] = client.post(f"/hooks/hr/{name}", content=body, headers=signed(hr.secret, body))
    answers["an unknown source"] = client.post("/hooks/hr/nobody", content=body, headers=signed(hr.secret, body))
    answers["a disabled source"] = gone.send(event())
    answers["another kind of source"] = client.post(
        "/hooks/bamboohr/workday", content=body, headers=signed(hr.secret, body)
    )
    wrong = {name: answer.status_code for name, answer in answers.items() if answer.status_code != 401}
    assert not wrong
    assert len({answer.content for answer in answers.values()}) == 1
    assert "Traceback" not in answers["empty"].text
    assert stored_receipts(world) == []
    assert client.post("/hooks/hr/workday", content=body, headers=signed(hr.secret, body)).status_code == 202


def test_one_right_signature_among_several_is_enough(hr: Hr, world: World) -> None:
    raw = json.dumps(event()).encode()
    headers = signed(hr.secret, raw)
    wrong = signed("whsec_" + "A" * 44, raw)["webhook-signature"]
    both = {**headers, "webhook-signature": f"{wrong} v1a,AAAA v1 v1,a,b v1,! {headers['webhook-signature']}"}
    assert hr.client.post("/hooks/hr/workday", content=raw, headers=both).status_code == 202


def test_both_secrets_are_good_while_they_are_rotated(
    hr: Hr, db: Database, environment: Settings, world: World
) -> None:
    (source,) = hr_sources.list_sources(db, world.organisation_id)
    rotated = hr_sources.rotate(
        db, environment, organisation_id=world.organisation_id, source_id=source.id, actor="test:approver"
    )
    new = Hr(hr.client, hr.name, rotated.secret)
    assert (hr.send(event("anna")).status_code, new.send(event("ben")).status_code) == (202, 202)
    world.run("UPDATE withdrawals.sources SET previous_until = now() - interval '1 second'")
    memory.forget_all()
    assert (hr.send(event("cleo")).status_code, new.send(event("dora")).status_code) == (401, 202)


def test_two_organisations_may_have_sources_of_one_name(make_hr: MakeHr, world: World) -> None:
    """The secret tells them apart. The same external id in another organisation is another person."""
    other_id = world.organisation("Other")
    mine, theirs = make_hr(), make_hr(organisation_id=other_id)
    world.enrolment("anna")
    world.enrolment("anna", organisation_id=other_id)
    assert theirs.applied(event(), key="msg_1")[0] == "accepted"
    assert [row.active for row in world.run("SELECT active FROM lms.learners ORDER BY organisation_id")] == [
        True,
        False,
    ]
    assert mine.send(event(), key="msg_1").status_code == 202


BOMB = b'{"type": "user.deactivated", "data": ' + b"[" * 20_000 + b"]" * 20_000 + b"}"
NOT_JSON = {
    "no JSON": b"nonsense", "empty": b"", "latin-1": '{"type": "é"}'.encode("latin-1"), "a bomb of lists": BOMB,
    "NaN": b'{"type": NaN}', "a name twice": b'{"type": "a", "type": "b"}', "a number without end": b"1" * 10_000,
}  # fmt: skip


def test_a_body_that_is_not_json_is_refused_and_kept(hr: Hr, world: World, db: Database) -> None:
    """400 and a dead letter `invalid_event`; sending it again opens no second one."""
    for name, raw in NOT_JSON.items():
        headers = {**signed(hr.secret, b"x", key=f"msg_{name}")}
        key, at = headers["webhook-id"], headers["webhook-timestamp"]
        headers["webhook-signature"] = sign_bytes(hr.secret, key, at, raw)
        answers = [hr.client.post("/hooks/hr/workday", content=raw, headers=headers) for _ in range(2)]
        assert [answer.status_code for answer in answers] == [400, 400], name
        assert answers[0].json() == answers[1].json()
        assert answers[0].json()["type"] == "urn:withdrawals:problem:not_json"
    assert Counter(letter.code for letter in world.letters()) == {"invalid_event": len(NOT_JSON)}
    assert_balanced(db)


def sign_bytes(secret: str, key: str, at: str, raw: bytes) -> str:
    import base64
    import hashlib
    import hmac

    of_secret = base64.b64decode(secret.removeprefix("whsec_"))
    return (
        "v1," + base64.b64encode(hmac.new(of_secret, f"{key}.{at}.".encode() + raw, hashlib.sha256).digest()).decode()
    )


INVALID: dict[str, Any] = {
    "data.external_id": event(external_id=""),
    "data.effective_at": event(effective_at="soon"),
    "data.sequence": event(sequence="7"),
    "timestamp": event(timestamp="20260301"),
    "data": {"type": "user.deactivated", "timestamp": "2026-03-01T08:00:00Z", "data": []},
    "type": {"timestamp": "2026-03-01T08:00:00Z"},
}


def test_invalid_data_of_a_known_type_is_refused_and_kept(hr: Hr, world: World, db: Database) -> None:
    """422 that names the field, and a dead letter `invalid_event` with the body and the fault."""
    for field, body in INVALID.items():
        answers = [hr.send(body, key=f"msg_{field}") for _ in range(2)]
        assert [answer.status_code for answer in answers] == [422, 422], field
        assert answers[0].json()["detail"].startswith(f"{field}:"), answers[0].json()
    nul = hr.send(event(external_id="an\0na"))
    assert nul.status_code == 422
    found = world.letters()
    assert Counter(letter.code for letter in found) == {"invalid_event": len(INVALID) + 1}
    letter = remedies.show(db, organisation_id=world.organisation_id, letter_id=found[0].id)
    assert letter.evidence["source"] == "workday"
    assert json.loads(letter.evidence["body"]) == INVALID["data.external_id"]
    assert "cannot be read" in letter.message
    assert_balanced(db)


def test_a_time_too_far_away_is_refused_and_nothing_is_applied(hr: Hr, make_hr: MakeHr, world: World) -> None:
    late = make_hr("late", grace_hours=24)
    for sender in (hr, late):
        answer = sender.send(event(effective_at="9999-12-31"))
        assert answer.status_code == 422
        assert answer.json()["detail"].startswith("effective_at: that")
    first, again = (hr.send(event("ben", effective_at="9999-12-31"), key="msg_1") for _ in range(2))
    assert (first.status_code, first.json()) == (again.status_code, again.json())
    assert world.one("SELECT count(*) FROM withdrawals.jobs") == 0
    assert world.one("SELECT count(*) FROM withdrawals.person_events") == 0
    assert [letter.code for letter in world.letters()] == ["invalid_event"] * 3


def test_an_event_of_an_unknown_type_is_ignored(hr: Hr, world: World) -> None:
    first = hr.send({"type": "user.renamed", "data": 7}, key="msg_1")
    again = hr.send({"type": "user.renamed", "data": 7}, key="msg_1")
    assert (first.status_code, again.status_code) == (202, 200)
    assert first.json() == again.json()
    assert first.json()["status"] == "ignored"
    assert world.letters() == []


def test_a_body_too_large_or_of_a_wrong_type_is_refused(hr: Hr, world: World) -> None:
    """10 MB are not read. A body must not be compressed."""
    huge = hr.send(event(note="x" * 10_000_000))
    plain = hr.send(event(), headers={"content-type": "text/plain"})
    none = hr.send(event(), headers={"content-type": ""})
    packed = hr.send(event(), headers={"content-encoding": "gzip"})
    assert [answer.status_code for answer in (huge, plain, none, packed)] == [413, 415, 415, 415]
    assert stored_receipts(world) == []


def test_an_endless_chunked_body_is_refused_at_the_limit(db: Database, environment: Settings, hr: Hr) -> None:
    """Over a real socket: the answer arrives while the sender is still sending."""
    app = make_app(db, make_broker(environment.broker_url.get_secret_value()), environment)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = uvicorn.Server(uvicorn.Config(app, log_config=None))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        with socket.create_connection(listening.getsockname(), timeout=PATIENCE) as sender:
            head = "POST /hooks/hr/workday HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
            sender.sendall((head + "Content-Type: application/json\r\n\r\n").encode())
            for _ in range(environment.hook_body_bytes // 4096 + 1):  # no more: what is not read would reset the answer
                sender.sendall(b"1000\r\n" + b"x" * 4096 + b"\r\n")
            assert sender.recv(64).startswith(b"HTTP/1.1 413")
        raw = json.dumps(event()).encode()
        headers = "".join(f"{name}: {value}\r\n" for name, value in signed(hr.secret, raw).items())
        with socket.create_connection(listening.getsockname(), timeout=PATIENCE) as sender:
            sender.sendall((head + headers + "\r\n").encode())
            for byte in raw:
                sender.sendall(b"1\r\n" + bytes([byte]) + b"\r\n")
            sender.sendall(b"0\r\n\r\n")
            assert sender.recv(64).startswith(b"HTTP/1.1 202")
        server.should_exit = True
        thread.join(PATIENCE)


def test_while_postgresql_is_down_the_sender_is_asked_to_come_back(
    client: TestClient, hr: Hr, world: World, db: Database, servers: LocalServers
) -> None:
    """503 with Retry-After, and the service heals by itself."""
    db.retry_seconds = 0.5
    processes.kill_postgres(servers)
    try:
        down = hr.send(event(), key="msg_1")
    finally:
        processes.start_postgres(servers)
        world.owner.engine.dispose()  # of connections to the server that was killed
    db.retry_seconds = PATIENCE
    assert down.status_code == 503
    assert int(down.headers["retry-after"]) > 0
    assert hr.send(event(), key="msg_1").status_code in (200, 202)
    assert [status for status, _ in stored_receipts(world)] == ["accepted"]


def test_while_redis_is_down_events_are_still_accepted(
    hr: Hr, world: World, db: Database, environment: Settings, servers: LocalServers
) -> None:
    """Still 202; once Redis is back the relay wakes the workers."""
    enrolment_id = world.enrolment("anna")
    processes.kill_redis(servers)
    try:
        assert hr.send(event()).status_code == 202
    finally:
        processes.start_redis(servers)
    broker = make_broker(environment.broker_url.get_secret_value())
    assert Relay(db, broker, environment).publish() == 1
    decide_due(db, environment)
    assert world.status(enrolment_id) == "withdrawn"


def test_an_event_about_an_unknown_learner_becomes_a_dead_letter(
    hr: Hr, world: World, db: Database, environment: Settings
) -> None:
    """202; a dead letter `unknown_learner`, which is done once the learner exists."""
    assert hr.send(event("zoe")).status_code == 202
    decide_due(db, environment)
    assert [letter.code for letter in world.letters()] == ["unknown_learner"]
    enrolment_id = world.enrolment("zoe")
    remedies.redrive_known_learners(db)
    decide_due(db, environment)
    assert world.status(enrolment_id) == "withdrawn"
    assert [letter.state for letter in world.letters()] == ["resolved"]
    assert_balanced(db)


def test_a_hundred_identical_webhooks_at_once_are_one_job(
    hr: Hr, world: World, db: Database, environment: Settings
) -> None:
    """99 answers have the receipt of the one."""
    world.enrolment("anna")
    with ThreadPoolExecutor(25) as pool:
        answers = list(pool.map(lambda _: hr.send(event(), key="msg_1"), range(100)))
    assert Counter(answer.status_code for answer in answers) == {202: 1, 200: 99}
    assert len({answer.text for answer in answers}) == 1
    assert stored_receipts(world) == [("accepted", None)]
    apply_inbox(db, environment)
    assert stored_receipts(world) == [("accepted", 1)]


@pytest.mark.parametrize("back", ["reactivated", "deactivation_cancelled"])
def test_who_comes_back_within_the_grace_period_keeps_everything(
    make_hr: MakeHr, world: World, db: Database, environment: Settings, back: str
) -> None:
    """Inactive at once, withdrawn only after the grace period. A reactivation supersedes the scheduled job."""
    hr = make_hr(grace_hours=48)
    enrolment_id = world.enrolment("anna")
    now = datetime.now(UTC)
    assert hr.applied(event(timestamp=now.isoformat()))[0] == "scheduled"
    assert not world.active("anna")
    wait = world.one("SELECT extract(epoch FROM effective_at - created_at) FROM withdrawals.jobs")
    assert 47.9 * 3600 < wait <= 48.1 * 3600
    hr.send(event(kind=back, timestamp=datetime.now(UTC).isoformat()))
    decide_due(db, environment)
    assert world.active("anna")
    assert world.status(enrolment_id) == "in_progress"
    assert world.one("SELECT state FROM withdrawals.jobs") == "superseded"
    assert_balanced(db)


def test_the_grace_period_starts_when_the_event_is_received(make_hr: MakeHr, world: World) -> None:
    """There is time to take back an event dated yesterday. `active` changes at the event's own time."""
    hr = make_hr(grace_hours=48)
    for person, effective_at in (("anna", "2020-01-01"), ("ben", "2199-01-01T00:00:00Z")):
        world.enrolment(person)
        assert hr.applied(event(person, effective_at=effective_at))[0] == "scheduled"
    waits = world.run("SELECT extract(epoch FROM effective_at - created_at) / 3600 FROM withdrawals.jobs ORDER BY id")
    assert 47.9 < waits[0][0] <= 48.1
    assert world.one("SELECT max(effective_at) FROM withdrawals.jobs") == datetime(2199, 1, 3, tzinfo=UTC)
    assert (world.active("anna"), world.active("ben")) == (False, True)


def test_a_repeated_deactivation_does_not_start_the_grace_period_again(make_hr: MakeHr, world: World) -> None:
    """A newer deactivation for a later date does postpone the withdrawal."""
    hr = make_hr(grace_hours=48)
    world.enrolment("anna")
    due = []
    for day, more in ((1, {}), (2, {}), (3, {"effective_at": "2199-01-01T00:00:00Z"})):
        assert hr.applied(event(timestamp=f"2026-03-0{day}T08:00:00Z", **more))[0] == "scheduled"
        due.append(world.one("SELECT effective_at FROM withdrawals.jobs WHERE state = 'scheduled'"))
    assert due[0] == due[1]
    assert due[2] == datetime(2199, 1, 3, tzinfo=UTC)


def test_an_event_that_cannot_be_read_is_discarded_and_not_tried_again(hr: Hr, world: World, db: Database) -> None:
    """A redrive cannot help: the sender corrects the event and sends it under a new id."""
    hr.send(b"nonsense")
    (letter,) = world.letters()
    assert list(acts.remedies(LetterCode.INVALID_EVENT)) == ["discard"]
    act: dict[str, Any] = {"organisation_id": world.organisation_id, "letter_ids": [letter.id], "actor": "test:support"}
    with pytest.raises(InvalidInputError, match=r"redrive is not for .* Use one of: discard"):
        remedies.redrive(db, **act)
    remedies.discard(db, **act, note="asked the sender to correct it")
    assert [row.state for row in world.letters()] == ["discarded"]


def test_a_source_may_hold_for_a_second_person(
    make_hr: MakeHr, world: World, db: Database, environment: Settings
) -> None:
    hr = make_hr(on_deactivate="hold")
    enrolment_id = world.enrolment("anna")
    assert hr.applied(event())[0] == "held"
    decide_due(db, environment)
    assert world.status(enrolment_id) == "in_progress"
    assert not world.active("anna")
    assert tuple(world.run("SELECT state, held_because FROM withdrawals.jobs")[0]) == ("held", "policy")
    hr.applied(event(kind="reactivated", timestamp="2026-03-02T08:00:00Z"))
    assert world.one("SELECT state FROM withdrawals.jobs") == "superseded"
    assert_balanced(db)


def test_a_source_may_withdraw_nothing(make_hr: MakeHr, world: World, db: Database, environment: Settings) -> None:
    hr = make_hr(on_deactivate="ignore")
    enrolment_id = world.enrolment("anna")
    assert hr.applied(event()) == ("noted", None)
    decide_due(db, environment)
    assert world.status(enrolment_id) == "in_progress"
    assert not world.active("anna")


def test_a_person_on_leave_is_not_deactivated(hr: Hr, world: World) -> None:
    """Leave is not deactivation."""
    world.enrolment("anna")
    assert hr.send(event(kind="leave_started")).json()["status"] == "ignored"
    assert world.active("anna")


def test_no_secret_and_no_person_in_logs_and_errors(hr: Hr, make_hr: MakeHr, world: World) -> None:
    world.enrolment("emp-70077")
    with structlog.testing.capture_logs() as entries:
        answers = [hr.send(event("emp-70077")), hr.send(event("emp-70077", effective_at="emp-70077")), hr.send(b"x")]
        answers.append(hr.send(event("emp-70077"), headers={"webhook-signature": "v1,x"}))
    said = repr(entries) + "".join(answer.text for answer in answers)
    assert "hook.received" in said
    assert "70077" not in said
    assert hr.secret.removeprefix("whsec_") not in said
    stored = world.run("SELECT s::text FROM withdrawals.sources s")[0][0]
    assert hr.secret.removeprefix("whsec_") not in stored


def test_a_signature_made_by_the_library_that_senders_use_is_accepted(hr: Hr) -> None:
    """Text beyond ASCII is signed as UTF-8."""
    raw = json.dumps(event("Zoë"), ensure_ascii=False).encode()
    assert hr.client.post("/hooks/hr/workday", content=raw, headers=signed(hr.secret, raw)).status_code == 202
    assert Webhook(hr.secret).verify(raw, signed(hr.secret, raw))["data"]["external_id"] == "Zoë"


def test_a_source_is_also_found_by_its_id(hr: Hr, db: Database, world: World) -> None:
    (source,) = hr_sources.list_sources(db, world.organisation_id)
    assert Hr(hr.client, str(source.id), hr.secret).send(event()).status_code == 202


def test_the_receipt_id_is_the_one_in_the_ledger(hr: Hr, world: World) -> None:
    answer = hr.send(event())
    assert answer.json()["receipt_id"] == str(world.one("SELECT id FROM withdrawals.receipts"))


def test_an_event_dated_in_the_future_becomes_a_dead_letter(hr: Hr, world: World, db: Database) -> None:
    """Otherwise it would stay the newest for ever, and a later deactivation would change nothing."""
    world.enrolment("anna")
    ahead = hr.send(event(kind="reactivated", timestamp="9999-12-31T23:59:59Z"))
    assert (ahead.status_code, ahead.json()["detail"].startswith("timestamp:")) == (422, True)
    assert [letter.code for letter in world.letters()] == ["invalid_event"]
    assert hr.applied(event())[0] == "accepted"
    assert not world.active("anna")
    assert_balanced(db)
