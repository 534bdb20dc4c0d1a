"""Jobs over HTTP: every row of the contract's table that begins with `/v1/jobs`, and what must not come through."""

import json
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest
import structlog
from starlette.testclient import TestClient

from ops.local.servers import LocalServers
from tests.support import processes
from tests.world import World, assert_balanced, decide_due, eventually
from worker.config import Settings
from worker.database import Database

Bearer = Callable[..., dict[str, str]]


@pytest.fixture
def producer(bearer: Bearer) -> dict[str, str]:
    return bearer("producer", name="HR export")


def post(client: TestClient, headers: dict[str, str], body: Any, key: str | None = None, path: str = "/v1/jobs") -> Any:
    """Ask for a job; bytes as they are."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    sent = {"Content-Type": "application/json", "Idempotency-Key": key or uuid4().hex, **headers}
    return client.post(path, content=raw, headers=sent)


def kind(answer: Any) -> str:
    assert answer.headers["content-type"] == "application/problem+json"
    return str(answer.json()["type"].removeprefix("urn:withdrawals:problem:"))


def test_a_new_job_answers_202_with_its_place_and_is_done(
    client: TestClient, producer: dict[str, str], db: Database, environment: Settings, world: World
) -> None:
    one, two = world.enrolments(2)
    answer = post(client, producer, {"reason": "not_required", "enrolment_ids": [one, two, one], "note": "replaced"})
    job = answer.json()
    assert answer.status_code == 202
    assert answer.headers["location"] == f"/v1/jobs/{job['id']}"
    assert (job["state"], job["accepted"], job["duplicates"], job["in_flight"]) == ("queued", 2, 1, 2)
    assert (job["source"], job["requested_by"], job["note"]) == ("bulk", "token:HR export", "replaced")
    decide_due(db, environment)
    shown = client.get(answer.headers["location"], headers=producer).json()
    assert (shown["state"], shown["outcomes"]) == ("completed", {"withdrawn": 2})
    assert world.one("SELECT withdrawn_by FROM lms.enrolments WHERE id = :id", id=one) == "token:HR export"
    assert world.one(
        "SELECT count(*) FROM withdrawals.audit WHERE action = 'job.submit' AND job_id = :id", id=job["id"]
    )


def test_the_three_selections_and_a_later_time_are_taken(
    client: TestClient, producer: dict[str, str], db: Database, environment: Settings, world: World
) -> None:
    listed, found, persons = world.enrolment("anna"), world.enrolment("ben", "not_signed_in"), world.enrolment("cleo")
    reason = {"reason": "learner_declined"}
    jobs = [
        post(client, producer, {**reason, "enrolment_ids": [listed]}),
        post(client, producer, {**reason, "filter": {"status": ["not_signed_in"]}, "source": "admin"}),
        post(client, producer, {**reason, "learner_external_id": "cleo"}),
    ]
    later = post(client, producer, {**reason, "enrolment_ids": [listed], "effective_at": "2990-01-01"})
    assert [answer.status_code for answer in [*jobs, later]] == [202] * 4
    assert (later.json()["state"], later.json()["effective_at"]) == ("scheduled", "2990-01-02T00:00:00Z")
    decide_due(db, environment)
    assert [world.status(item) for item in (listed, found, persons)] == ["withdrawn"] * 3


def test_same_key_and_body_is_the_same_job_and_another_body_is_refused(
    client: TestClient, producer: dict[str, str], world: World
) -> None:
    one, two = world.enrolments(2)
    first = post(client, producer, {"reason": "not_required", "enrolment_ids": [one, two]}, "k")
    again = post(client, producer, {"enrolment_ids": [two, one], "reason": "not_required"}, "k")
    assert (first.status_code, again.status_code) == (202, 200)
    assert again.json()["id"] == first.json()["id"]
    other = post(client, producer, {"reason": "not_required", "enrolment_ids": [one]}, "k")
    assert (other.status_code, kind(other)) == (409, "idempotency_key_reused")
    assert world.one("SELECT count(*) FROM withdrawals.jobs") == 1


@pytest.mark.parametrize(
    "body",
    [b"{", b"[]", b'{"reason": "bored"}', json.dumps({"reason": "not_required", "enrolment_ids": [1] * 100_001})],
    ids=["no JSON", "no object", "invalid", "too many ids"],
)
def test_a_known_key_answers_before_anything_else_is_checked(
    client: TestClient, producer: dict[str, str], world: World, body: str | bytes
) -> None:
    raw = body if isinstance(body, bytes) else body.encode()
    assert 400 <= post(client, producer, raw, "k").status_code < 500
    assert world.one("SELECT count(*) FROM withdrawals.jobs") == 0
    post(client, producer, {"reason": "not_required", "enrolment_ids": world.enrolments(1)}, "k")
    assert kind(post(client, producer, raw, "k")) == "idempotency_key_reused"


@pytest.mark.parametrize("key", [None, "", "   ", "x" * 256, "tab\tinside"])
def test_a_key_is_needed(client: TestClient, producer: dict[str, str], key: str | None) -> None:
    headers = {**producer, "Content-Type": "application/json", **({} if key is None else {"Idempotency-Key": key})}
    answer = client.post("/v1/jobs", content=b"{}", headers=headers)
    assert (answer.status_code, kind(answer)) == (400, "idempotency_key_missing")


NESTED = b'{"reason": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (b"", 400, "not JSON"),
        (b"\xff\xfe", 400, "not JSON"),
        (NESTED, 400, "not JSON"),
        (b'{"reason": "not_required", "enrolment_ids": [NaN]}', 400, "not JSON"),
        (b'{"reason": "not_required", "enrolment_ids": [' + b"9" * 5000 + b"]}", 400, "not JSON"),
        (b'{"reason": "not_required", "enrolment_ids": [99999999999999999999]}', 422, "enrolment_ids.0"),
        (b'{"reason": "not_required", "enrolment_ids": [1e400]}', 422, "enrolment_ids.0"),
        (b'{"reason": "not_required", "enrolment_ids": [true]}', 422, "enrolment_ids.0"),
        (b'{"reason": "not_required", "enrolment_ids": []}', 422, "enrolment_ids"),
        (b'{"reason": "not_required", "enrolment_ids": [0]}', 422, "enrolment_ids.0"),
        (b'{"enrolment_ids": [1]}', 422, "reason"),
        (b'{"reason": "bored", "enrolment_ids": [1]}', 422, "reason"),
        (b'{"reason": "not_required", "source": "hr", "enrolment_ids": [1]}', 422, "source"),
        (b'{"reason": "not_required", "source": "correction", "enrolment_ids": [1]}', 422, "rule 1"),
        (b'{"reason": "not_required"}', 422, "exactly one"),
        (b'{"reason": "not_required", "enrolment_ids": [1], "learner_external_id": "a"}', 422, "exactly one"),
        (b'{"reason": "not_required", "enrolment_ids": [{"id": 1, "reason": "bored"}]}', 422, "rule 5"),
        (b'{"reason": "not_required", "filter": {}}', 422, "filter"),
        (b'{"reason": "not_required", "filter": {"status": ["\\u0000"]}}', 422, "NUL"),
        (b'{"reason": "not_required", "filter": {"\\ud800": 1}}', 422, "filter"),
        (b'{"reason": "not_required", "learner_external_id": "a\\u0000"}', 422, "learner_external_id"),
        (b'{"reason": "not_required", "learner_external_id": "\\udfff"}', 422, "learner_external_id"),
        (b'{"reason": "not_required", "enrolment_ids": [1], "note": "\\u0000"}', 422, "note"),
        (b'{"reason": "not_required", "enrolment_ids": [1], "effective_at": "soon"}', 422, "effective_at"),
        (b'{"reason": "not_required", "enrolment_ids": [1], "effective_at": "9999-12-31"}', 422, "effective_at"),
        (b'{"reason": "not_required", "enrolment_ids": [1], "colour": 1}', 422, "colour"),
    ],
)  # fmt: skip
def test_what_is_malformed_is_refused_whole_and_named(
    client: TestClient, producer: dict[str, str], world: World, body: bytes, status: int, said: str
) -> None:
    answer = post(client, producer, body)
    assert answer.status_code == status, answer.text
    assert said in answer.json()["detail"]
    assert world.one("SELECT count(*) FROM withdrawals.jobs") == 0


def test_a_list_of_wrong_ids_is_told_in_few_words(client: TestClient, producer: dict[str, str]) -> None:
    answer = post(client, producer, {"reason": "not_required", "enrolment_ids": ["x"] * 5000})
    assert answer.status_code == 422
    assert len(answer.json()["errors"]) == 20


def test_more_ids_than_json_takes_are_sent_to_the_file(client: TestClient, producer: dict[str, str]) -> None:
    answer = post(client, producer, {"reason": "not_required", "enrolment_ids": list(range(1, 100_002))})
    assert (answer.status_code, kind(answer)) == (413, "too_many_ids")
    assert "/v1/jobs/file" in answer.json()["detail"]


def test_a_body_is_read_no_further_than_it_may_be_long(client: TestClient, producer: dict[str, str]) -> None:
    def chunked(path: str, most: int) -> Any:
        read = 0

        def parts() -> Iterator[bytes]:
            nonlocal read
            for _ in range(most // 1_000_000 + 5):
                read += 1
                yield b" " * 1_000_000

        sent = {**producer, "Content-Type": "application/json", "Idempotency-Key": "k"}
        return client.post(path, content=parts(), headers=sent)

    whole = post(client, producer, b" " * 4_194_305)
    for answer in (whole, chunked("/v1/jobs", 4_194_304), chunked("/v1/dead-letters/1/discard", 4_194_304)):
        assert (answer.status_code, kind(answer)) == (413, "too_large")


@pytest.mark.parametrize(("header", "value"), [("Content-Type", "text/plain"), ("Content-Encoding", "gzip")])
def test_another_content_type_is_refused(client: TestClient, bearer: Bearer, header: str, value: str) -> None:
    paths = ["/v1/jobs"] if header == "Content-Encoding" else ["/v1/jobs", "/v1/jobs/1/cancel", "/v1/jobs/file"]
    for path in paths:
        answer = post(client, {**bearer("operator"), header: value}, {"note": "x"}, path=path)
        assert answer.status_code == 415, path


def test_another_organisations_id_is_not_found_like_one_that_does_not_exist(
    client: TestClient, producer: dict[str, str], db: Database, environment: Settings, world: World
) -> None:
    foreign = world.enrolment("eve", organisation_id=world.organisation("Other"))
    job = post(client, producer, {"reason": "not_required", "enrolment_ids": [foreign, 999_999]}).json()
    decide_due(db, environment)
    items = client.get(f"/v1/jobs/{job['id']}/outcomes", headers=producer).json()["items"]
    strip = [{**item, "enrolment_id": 0, "dead_letter_id": 0} for item in items]
    assert strip[0]["outcome"] == "not_found"
    assert strip[0] == strip[1]
    assert world.status(foreign) == "in_progress"


def test_outcomes_come_in_pages_and_by_outcome(
    client: TestClient, producer: dict[str, str], db: Database, environment: Settings, world: World
) -> None:
    ids = [*world.enrolments(5), world.enrolment("p", pathway_id=world.pathway())]
    job = post(client, producer, {"reason": "not_required", "enrolment_ids": ids}).json()
    decide_due(db, environment)
    path, seen, cursor = f"/v1/jobs/{job['id']}/outcomes", [], None
    while True:
        found = client.get(path, headers=producer, params={"limit": 4, **({"cursor": cursor} if cursor else {})}).json()
        seen += [item["enrolment_id"] for item in found["items"]]
        cursor = found["next_cursor"]
        if cursor is None:
            break
    assert seen == sorted(ids)
    (owned,) = client.get(path, headers=producer, params={"outcome": "pathway_owned"}).json()["items"]
    assert (owned["enrolment_id"], owned["prior_status"]) == (ids[-1], "in_progress")
    assert owned["dead_letter_id"] == world.letters()[0].id
    assert client.get(path, headers=producer, params={"outcome": "lost"}).status_code == 422
    assert client.get(path, headers=producer, params={"cursor": "²"}).status_code == 422


def test_cancel_ends_what_is_not_decided_and_the_listing_has_every_id(
    client: TestClient, producer: dict[str, str], bearer: Bearer, db: Database, world: World
) -> None:
    operator = bearer("operator", name="Olga")
    ids = world.enrolments(7)
    job = world.submit(db, ids, chunk_size=3)
    path = f"/v1/jobs/{job.id}"
    assert kind(client.post(f"{path}/cancel", headers=bearer("viewer"))) == "forbidden"
    cancelled = client.post(f"{path}/cancel", headers=operator, json={"note": "sent by mistake"})
    assert (cancelled.status_code, cancelled.json()["state"]) == (200, "cancelled")
    assert client.post(f"{path}/cancel", headers=operator).status_code == 200, "once more changes nothing"
    first = client.get(f"{path}/outcomes", headers=operator, params={"limit": 4}).json()
    rest = client.get(f"{path}/outcomes", headers=operator, params={"cursor": first["next_cursor"], "limit": 4}).json()
    items = [*first["items"], *rest["items"]]
    assert [item["enrolment_id"] for item in items] == ids
    assert rest["next_cursor"] is None
    assert {item["outcome"] for item in items} == {"cancelled"}
    assert client.get(f"{path}/outcomes", headers=operator, params={"outcome": "withdrawn"}).json()["items"] == []
    assert world.run("SELECT actor, note FROM withdrawals.audit WHERE action = 'job.cancel'") == [
        ("token:Olga", "sent by mistake")
    ]
    assert_balanced(db)


def test_a_person_job_lists_its_enrolments_or_the_person_when_it_was_closed_whole(
    client: TestClient, bearer: Bearer, db: Database, environment: Settings, world: World
) -> None:
    operator, enrolment = bearer("operator"), world.enrolment("anna")
    person = {"reason": "not_required", "learner_external_id": "anna"}
    whole = post(client, operator, {**person, "effective_at": "2990-01-01"}).json()["id"]
    client.post(f"/v1/jobs/{whole}/cancel", headers=operator)
    applied = post(client, operator, person).json()["id"]
    decide_due(db, environment)
    (item,) = client.get(f"/v1/jobs/{whole}/outcomes", headers=operator).json()["items"]
    assert (item["enrolment_id"], item["learner_external_id"], item["outcome"]) == (None, "anna", "cancelled")
    (item,) = client.get(f"/v1/jobs/{applied}/outcomes", headers=operator).json()["items"]
    assert (item["enrolment_id"], item["outcome"]) == (enrolment, "withdrawn")


def test_cancelling_a_job_that_had_ended_says_so(
    client: TestClient, bearer: Bearer, db: Database, environment: Settings, world: World
) -> None:
    job = world.submit(db, world.enrolments(1))
    decide_due(db, environment)
    answer = client.post(f"/v1/jobs/{job.id}/cancel", headers=bearer("operator"))
    assert (answer.status_code, kind(answer)) == (409, "job_ended")
    assert "completed" in answer.json()["detail"]


def test_another_organisations_job_answers_as_one_that_does_not_exist(
    client: TestClient, bearer: Bearer, db: Database, world: World
) -> None:
    job = world.submit(db, world.enrolments(1))
    elsewhere = bearer("approver", organisation_id=world.organisation("Other"))
    for method, path in [("GET", "/v1/jobs/{}"), ("GET", "/v1/jobs/{}/outcomes"), ("POST", "/v1/jobs/{}/cancel")]:
        theirs = client.request(method, path.format(job.id), headers=elsewhere)
        none = client.request(method, path.format(999_999), headers=elsewhere)
        assert theirs.status_code == none.status_code == 404
        assert theirs.text.replace(str(job.id), "999999") == none.text
        assert client.request(method, path.format(2**63), headers=elsewhere).status_code == 422
    assert world.one("SELECT state FROM withdrawals.jobs") == "queued"
    # Keys are each organisation's own, too.
    assert (
        post(client, elsewhere, {"reason": "not_required", "enrolment_ids": [1]}, job.idempotency_key).status_code
        == 202
    )


def test_without_postgresql_the_answer_is_503_and_the_service_heals_by_itself(
    client: TestClient, producer: dict[str, str], servers: LocalServers, world: World, impatient: TestClient
) -> None:
    body = {"reason": "not_required", "enrolment_ids": world.enrolments(1)}
    assert post(impatient, producer, body, "before").status_code == 202
    processes.kill_postgres(servers)
    try:
        answer = post(impatient, producer, body, "k")
        assert (answer.status_code, kind(answer)) == (503, "unavailable")
        assert int(answer.headers["retry-after"]) > 0
    finally:
        processes.start_postgres(servers)
    assert eventually(lambda: post(impatient, producer, body, "k").status_code in (200, 202))
    assert post(impatient, producer, body, "before").status_code == 200


PRIVATE = ("emp-70077", "on sick leave", "token-of")


def test_no_log_line_has_a_token_a_note_or_an_external_id(
    client: TestClient, bearer: Bearer, db: Database, environment: Settings, world: World,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    operator = bearer("operator", name="token-of-olga")
    enrolment = world.enrolment("emp-70077", pathway_id=world.pathway())
    note = {"note": "on sick leave since May"}
    with structlog.testing.capture_logs() as entries:
        person = {"reason": "not_required", "learner_external_id": "emp-70077", **note}
        post(client, operator, person, "k-70077")
        post(client, operator, {**person, "note": "on sick leave since June"}, "k-70077")
        post(client, operator, {**person, "source": "on sick leave"})
        post(client, operator, {"reason": "not_required", "enrolment_ids": [enrolment], **note})
        rows = f"enrolment_id\n{enrolment}\non sick leave\n".encode()
        client.post("/v1/jobs/file", headers={**operator, "Idempotency-Key": "f"},
                    data={"reason": "not_required", **note}, files={"file": ("emp-70077.csv", rows)})  # fmt: skip
        decide_due(db, environment)
        letter = world.letters()[0].id
        client.post(f"/v1/dead-letters/{letter}/redrive", headers=operator, json=note)
        decide_due(db, environment)
        client.post(f"/v1/dead-letters/{letter}/resolve", headers=operator, json={"remedy": "keep", **note})
        client.get("/v1/dead-letters", headers=operator, params={"fingerprint": "emp-70077"})
        client.get("/v1/jobs", headers={"Authorization": "Bearer wdt_token-of-nobody"})
    assert {entry["event"] for entry in entries} >= {"job.accepted", "dead_letter.redrive", "dead_letter.keep"}
    of_the_service = [record.getMessage() for record in caplog.records if record.name != "httpx2"]  # the caller's own
    said = repr(entries) + repr(of_the_service)
    secret = operator["Authorization"].rpartition("_")[2]
    assert not [word for word in (*PRIVATE, "70077", secret) if word in said], said
