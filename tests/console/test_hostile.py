"""Addresses and forms that no page made are refused with a message, and never select more than they say."""

import threading
from typing import Any

import psycopg
import pytest
from starlette.testclient import TestClient

from tests.console.test_library import people
from tests.support.console import MakeToken, Person
from tests.world import World
from worker.web.console import acted

LONG = "0" * 19 + "1" + "9" * 5000
"""More digits than int() takes, of which the first twenty look harmless."""


@pytest.fixture
def mia(client: TestClient, token: MakeToken, world: World) -> Person:
    people(world, "Fire safety", 2)
    return Person(client, token("approver", name="mia"))


@pytest.mark.parametrize(
    "path",
    [
        "/console/series/1?status=%00",
        f"/console/series/1?pathway_id={LONG}",
        f"/console/withdraw?what=all&series_id={LONG}",
        f"/console/reports?cursor={'9' * 5000}",
        f"/console/reports/outcomes?cursor=1-{'9' * 5000}",
    ],
)
def test_an_address_that_no_page_made_gets_an_answer(mia: Person, path: str) -> None:
    assert mia.client.get(path).status_code in (200, 422), path


@pytest.mark.parametrize("number", ["abc", "-1", "0", "1.5", "\u0661", "9" * 30])
@pytest.mark.parametrize("name", ["series_id", "pathway_id"])
def test_an_invalid_condition_is_refused_and_not_left_out(mia: Person, name: str, number: str) -> None:
    """Without it the rest of the filter would mean every Series of the organisation."""
    page = mia.get(f"/console/withdraw?what=all&status=in_progress&reason=not_required&{name}={number}", 422)
    assert "choose one from the list" in page
    assert "plan_hash" not in page


@pytest.mark.parametrize("cells", [LONG, "0" * 19 + "1" + "9" * 50])
def test_a_very_long_id_in_a_file_is_a_fault_of_its_line(mia: Person, cells: str) -> None:
    sent = {"csrf": mia.csrf, "reason": "not_required"}
    file = {"file": ("a.csv", f"enrolment_id\n{cells}\n".encode())}
    answer = mia.client.post("/console/withdraw/file", data=sent, files=file, follow_redirects=True)
    assert answer.status_code == 200
    assert "Line 2: enrolment_id" in answer.text
    assert "plan_hash" not in answer.text


@pytest.mark.parametrize(("zone", "at"), [("Asia/Tokyo", "0001-01-01T00:00"), ("America/New_York", "9999-12-31T23:59")])
def test_a_time_at_the_end_of_the_calendar_is_refused(mia: Person, zone: str, at: str) -> None:
    mia.client.cookies.set("withdrawals_zone", zone, path="/console")
    form = {"what": "ticked", "enrolment_ids": "1", "reason": "not_required", "plan_hash": "x", "key": "k"}
    assert "too far away" in mia.post("/console/withdraw", 422, **form, effective_at=at).text


@pytest.mark.parametrize("seen_at", ["0001-01-01T00:00:00+14:00", "1", "infinity"])
def test_a_release_with_an_invalid_time_is_refused(mia: Person, seen_at: str) -> None:
    mia.post("/console/jobs/release", 422, seen_at=seen_at)


def test_a_run_with_a_very_long_number_is_refused(mia: Person) -> None:
    mia.post("/console/dead-letters/act", 422, act="redrive", expected="9" * 5000)


def test_a_form_in_a_charset_of_its_own_is_refused(mia: Person) -> None:
    body = b'--x\r\nContent-Disposition: form-data; name="csrf"\r\n\r\n\\ud800\r\n--x--\r\n'
    kind = "multipart/form-data; boundary=x; charset=unicode_escape"
    assert mia.client.post("/console/sign-out", content=body, headers={"Content-Type": kind}).status_code == 415


def test_a_form_of_too_many_fields_is_refused(mia: Person) -> None:
    answer = mia.post("/console/sign-out", 400, **{f"field{n}": "1" for n in range(1100)})
    assert "1,000 fields" in answer.text


def test_the_page_of_an_unexpected_error_has_the_security_headers(mia: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    """No middleware sees this page."""
    monkeypatch.setattr("worker.web.console.overview.read_status", lambda *_, **__: 1 / 0)
    answer = mia.client.get("/console")
    assert answer.status_code == 500
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["cache-control"] == "no-store"
    assert "Nothing was changed" not in answer.text


def test_an_accepted_job_is_reported_although_the_database_goes_away(
    mia: Person, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_: Any, **__: Any) -> Any:
        raise psycopg.OperationalError("server closed the connection unexpectedly")

    monkeypatch.setattr(acted, "show", gone)
    enrolment_id = world.one("SELECT min(id) FROM lms.enrolments")
    answer = mia.post(f"/console/enrolments/{enrolment_id}/withdraw", 303, reason="not_required", key="k")
    assert answer.headers["location"] == f"/console/enrolments/{enrolment_id}"
    assert world.one("SELECT count(*) FROM withdrawals.jobs") == 1


def test_only_a_few_requests_wait_for_their_outcome(mia: Person, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """No worker runs here: whoever waits would hold a thread for as long as the page waits, here an hour."""
    monkeypatch.setattr(acted, "_SHOWN_AT_ONCE", 3600.0)
    monkeypatch.setattr(acted, "_waiting", threading.BoundedSemaphore(1))
    acted._waiting.acquire()
    enrolment_id = world.one("SELECT min(id) FROM lms.enrolments")
    mia.post(f"/console/enrolments/{enrolment_id}/withdraw", 303, reason="not_required", key="k")
    assert world.one("SELECT count(*) FROM withdrawals.jobs WHERE finished_at IS NULL") == 1
