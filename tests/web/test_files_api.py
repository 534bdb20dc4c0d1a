"""`POST /v1/jobs/file`: nothing is accepted unless all rows parse, and what is wrong is named by its line."""

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from starlette.testclient import TestClient

from tests.world import World, decide_due
from worker.config import Settings
from worker.database import Database

Bearer = Callable[..., dict[str, str]]


@pytest.fixture
def send(client: TestClient, bearer: Bearer) -> Callable[..., Any]:
    """Send a file: `send(b"enrolment_id\\n1\\n", reason="not_required")`."""
    headers = bearer("producer")

    def sending(content: bytes | None, *, key: str | None = None, name: str = "people.csv", **fields: str) -> Any:
        fields.setdefault("reason", "not_required")
        files = {"file": (name, content, "text/csv")} if content is not None else {"other": ("a", b"")}
        return client.post(
            "/v1/jobs/file", headers={**headers, "Idempotency-Key": key or uuid4().hex}, data=fields, files=files
        )

    return sending


def test_a_file_is_one_job(send: Callable[..., Any], db: Database, environment: Settings, world: World) -> None:
    ids = world.enrolments(3)
    rows = "".join(f"{i},x\r\n" for i in [*ids, ids[0]])
    answer = send(b"\xef\xbb\xbfEnrolment_ID,name\r\n" + rows.encode(), source="admin", note="spring", key="f",
                  effective_at="2026-01-01T00:00:00Z")  # fmt: skip
    job = answer.json()
    assert answer.status_code == 202
    assert answer.headers["location"] == f"/v1/jobs/{job['id']}"
    assert (job["accepted"], job["duplicates"], job["source"], job["note"]) == (3, 1, "admin", "spring")
    decide_due(db, environment)
    assert [world.status(i) for i in ids] == ["withdrawn"] * 3


def test_a_decision_receipt_names_the_file_and_the_line(
    send: Callable[..., Any], client: TestClient, bearer: Bearer, world: World
) -> None:
    """Only the last part of the name: where the sender keeps the file is nobody's business."""
    one, two = world.enrolments(2)
    job = send(f"enrolment_id\n{two}\n\n{one}\n{one}\n".encode(), name="C:\\Users\\mia/leavers.csv").json()
    assert job["file_name"] == "leavers.csv"
    receipt = client.get(f"/v1/enrolments/{one}/history", headers=bearer("viewer")).json()
    asked = receipt["decisions"][0]["request"]
    assert (asked["file_name"], asked["line"], asked["door"]) == ("leavers.csv", 4, "api")


def test_the_same_key_and_ids_are_the_same_job_and_a_known_key_answers_first(
    send: Callable[..., Any], world: World
) -> None:
    one, two = world.enrolments(2)
    first = send(f"enrolment_id\n{one}\n{two}\n".encode(), key="f")
    again = send(f"enrolment_id,more\n{two},\n{one},\n".encode(), key="f")
    assert (first.status_code, again.status_code) == (202, 200)
    assert again.json()["id"] == first.json()["id"]
    for broken in (b"enrolment_id\nx\n", b"", f"enrolment_id\n{one}\n".encode()):
        assert send(broken, key="f").json()["type"].endswith("idempotency_key_reused")
    assert world.one("SELECT count(*) FROM withdrawals.jobs") == 1


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty"),
        (b"enrolment_id\n", "no rows"),
        (b"id\n1\n", "Line 1: the header has no column `enrolment_id`"),
        (b"enrolment_id,reason\n1,not_required\n", "one bulk job has one reason"),
        (b"enrolment_id\n1\n2\nx\n", "Line 4: enrolment_id: 'x'"),
        (b"enrolment_id\n1\n99999999999999999999\n", "Line 3"),
        (b"enrolment_id\n1\n2,3\n", "Line 3: the line has 2 columns"),
        (b"enrolment_id\n1\n\0\n", "NUL"),
        (b"enrolment_id,name\n1,Ren\x81e\n", "UTF-8"),
        (b"enrolment_id\n" + b"1" * 1_000_001, "longer than"),
        (b'enrolment_id\n"1\n', "Line 2"),
        (None, "file"),
    ],
)  # fmt: skip
def test_nothing_is_accepted_of_a_file_with_a_fault_and_the_fault_is_named(
    send: Callable[..., Any], world: World, content: bytes | None, said: str
) -> None:
    answer = send(content)
    assert answer.status_code == 422, answer.text
    assert said in answer.json()["detail"]
    assert world.one("SELECT count(*) FROM withdrawals.jobs") == 0


@pytest.mark.parametrize(
    ("field", "value"),
    [("reason", "bored"), ("source", "hr"), ("effective_at", "soon"), ("note", "a\0"), ("colour", "blue")],
)
def test_a_field_beside_the_file_is_checked_like_that_of_a_job(
    send: Callable[..., Any], field: str, value: str
) -> None:
    answer = send(b"enrolment_id\n1\n", **{field: value})
    assert answer.status_code == 422
    assert field in answer.json()["detail"]


def test_what_is_no_form_is_refused(client: TestClient, bearer: Bearer) -> None:
    headers = {**bearer("producer"), "Idempotency-Key": "k"}
    for kind, body, status in [
        ("text/csv", b"enrolment_id\n1\n", 415),
        ("multipart/form-data", b"enrolment_id\n1\n", 400),
        ("multipart/form-data; boundary=x", b"enrolment_id\n1\n", 400),
    ]:
        answer = client.post("/v1/jobs/file", content=body, headers={**headers, "Content-Type": kind})
        assert answer.status_code == status, (kind, answer.text)
        assert answer.headers["content-type"] == "application/problem+json"


def test_an_upload_is_read_no_further_than_it_may_be_long(client: TestClient, bearer: Bearer) -> None:
    headers = {**bearer("producer"), "Idempotency-Key": "k", "Content-Length": str(200 * 2**20)}
    answer = client.post("/v1/jobs/file", headers={**headers, "Content-Type": "multipart/form-data; boundary=x"})
    assert (answer.status_code, answer.json()["type"]) == (413, "urn:withdrawals:problem:too_large")
