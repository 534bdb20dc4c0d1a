"""The Python client against the real service, and against a network that fails."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
import tenacity
from starlette.testclient import TestClient

from schemas import answers
from schemas.client import (
    BusyError,
    Client,
    ConflictError,
    ForbiddenError,
    HrSource,
    InvalidError,
    KeyReusedError,
    NotFoundError,
    UnauthorisedError,
    UnreachableError,
)
from schemas.dead_letters import LetterFilter
from schemas.events import HrEvent
from schemas.jobs import FileRequest, JobRequest
from tests.support.web import MakeHr
from tests.world import PATIENCE, World, decide_due
from worker.config import Settings
from worker.database import Database

Bearer = Callable[..., dict[str, str]]


def token(headers: dict[str, str]) -> str:
    return headers["Authorization"].removeprefix("Bearer ")


def request(*ids: int, **more: Any) -> JobRequest:
    return JobRequest(reason="not_required", enrolment_ids=list(ids), **more)


def test_models_are_imported_without_the_clients_libraries() -> None:
    code = (
        "import sys, schemas.jobs, schemas.events, schemas.answers, schemas.dead_letters; "
        "assert not {'httpx2', 'tenacity', 'worker', 'ops'} & set(sys.modules); import schemas.client; "
        "assert not {'worker', 'ops', 'sqlalchemy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=PATIENCE)


def test_a_service_submits_watches_and_decides_with_the_client(
    address: str, bearer: Bearer, db: Database, environment: Settings, world: World, tmp_path: Path
) -> None:
    ids = world.enrolments(3)
    owned = world.enrolment("anna", pathway_id=world.pathway())
    with Client(address, token(bearer("approver"))) as client:
        job = client.submit(request(*ids, owned), key="k")
        assert client.submit(request(*reversed(ids), owned), key="k").id == job.id
        with pytest.raises(KeyReusedError):
            client.submit(request(*ids), key="k")
        path = tmp_path / "ids.csv"
        path.write_text("enrolment_id\n999999\n")
        file = client.submit_file(path, FileRequest(reason="not_required", note="gone"), key="f")
        assert client.submit_file(path, FileRequest(reason="not_required", note="gone"), key="f").id == file.id
        decide_due(db, environment)
        assert client.job(job.id).outcomes == {"withdrawn": 3, "pathway_owned": 1}
        assert [found.id for found in client.jobs()] == [file.id, job.id]
        assert [found.enrolment_id for found in client.outcomes(job.id, outcome="withdrawn")] == ids
        (letter,) = client.dead_letters(LetterFilter(code="pathway_owned"))
        assert client.dead_letter(letter.id).remedies["override"]
        assert client.redrive(letter.id, note="once more").state == "redriven"
        with pytest.raises(ConflictError):
            client.discard(letter.id)
        decide_due(db, environment)
        assert client.resolve(letter.id, remedy="override", note="agreed").state == "redriven"
        later = client.submit(request(*ids, effective_at="2990-01-01"))
        assert client.cancel(later.id).state == "cancelled"
        with pytest.raises(NotFoundError) as missing:
            client.job(999_999)
        assert missing.value.problem.type == "urn:withdrawals:problem:not_found"
        with pytest.raises(InvalidError, match="Line 2"):
            path.write_text("enrolment_id\nx\n")
            client.submit_file(path, FileRequest(reason="not_required"))
    with Client(address, token(bearer("viewer"))) as client, pytest.raises(ForbiddenError):
        client.discard(letter.id)
    with Client(address, "wrong") as client, pytest.raises(UnauthorisedError):
        client.job(job.id)


def test_a_job_of_the_release_before_is_read_too() -> None:
    """During a deployment a new client meets web processes of 0.1.0."""
    answer = {
        "id": 7, "kind": "withdraw", "state": "queued", "reason": "not_required", "source": "bulk",
        "requested_by": "token:export", "note": None, "learner_external_id": None,
        "created_at": "2026-03-01T08:00:00Z", "effective_at": "2026-03-01T08:00:00Z", "finished_at": None,
        "accepted": 3, "duplicates": 0, "outcomes": {}, "in_flight": 3, "open_dead_letters": 0,
        "idempotency_key": "k", "held_because": None, "held_why": None, "brake": None, "file_name": None,
        "reinstates": None, "reinstated": 0,
    }  # fmt: skip
    assert answers.Job.model_validate(answer).in_flight == 3


def test_pages_are_fetched_until_the_last(address: str, bearer: Bearer, db: Database, world: World) -> None:
    job = world.submit(db, list(range(1, 2502)))
    with Client(address, token(bearer("operator"))) as client:
        client.cancel(job.id)
        assert [found.enrolment_id for found in client.outcomes(job.id)] == list(range(1, 2502))


def test_an_hr_system_signs_its_events(
    address: str, make_hr: MakeHr, bearer: Bearer, db: Database, environment: Settings, world: World
) -> None:
    made = make_hr("workday")
    world.enrolment("anna")
    event = HrEvent.model_validate(
        {"type": "user.deactivated", "timestamp": "2026-03-01T08:00:00Z", "data": {"external_id": "anna"}}
    )
    with HrSource(address, "workday", made.secret) as source:
        receipt = source.send(event, event_id="e1")
        assert source.send(event, event_id="e1") == receipt
    decide_due(db, environment)
    assert not world.active("anna")
    with Client(address, token(bearer("viewer"))) as client:
        shown = client.receipt(receipt.receipt_id)
        assert (shown.state, shown.status, client.job(shown.job_id or 0).outcomes) == (
            "applied",
            "accepted",
            {"withdrawn": 1},
        )
    with HrSource(address, "workday", "whsec_" + "A" * 32) as source, pytest.raises(UnauthorisedError):
        source.send(event)


class Failing(httpx2.BaseTransport):
    """Fails in turn as told, then hands over; remembers the keys that it saw."""

    def __init__(self, then: TestClient, *failures: Any) -> None:
        self.then, self.failures, self.keys = then, list(failures), list[str | None]()

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        self.keys.append(request.headers.get("idempotency-key"))
        failure = self.failures.pop(0) if self.failures else None
        if isinstance(failure, type):
            if failure is httpx2.ReadError:  # it arrived; the answer was lost
                self._hand_over(request)
            raise failure("gone")
        if failure is not None:
            return httpx2.Response(failure, headers={"Retry-After": "0"}, content=b"<html>busy</html>")
        return self._hand_over(request)

    def _hand_over(self, request: httpx2.Request) -> httpx2.Response:
        headers = {name: value for name, value in request.headers.items() if name != "host"}
        answer = self.then.request(request.method, str(request.url), content=request.read(), headers=headers)
        return httpx2.Response(answer.status_code, headers=answer.headers, content=answer.content)


def test_it_asks_again_with_the_same_key_until_it_is_answered(client: TestClient, bearer: Bearer, world: World) -> None:
    network = Failing(client, httpx2.ConnectError, 503, 429, httpx2.ReadError)
    with Client("http://testserver", token(bearer("producer")), transport=network) as asking:
        job = asking.submit(request(*world.enrolments(1)))
    assert len(network.keys) == 5
    assert len(set(network.keys)) == 1
    assert world.run("SELECT id, idempotency_key FROM withdrawals.jobs") == [(job.id, network.keys[0])]


def test_an_act_without_a_key_is_not_sent_again_once_it_may_have_arrived(
    client: TestClient, bearer: Bearer, world: World
) -> None:
    network = Failing(client, httpx2.ConnectError, httpx2.ReadError)
    with (
        Client("http://testserver", token(bearer("operator")), transport=network) as asking,
        pytest.raises(UnreachableError),
    ):
        asking.redrive(1)
    assert len(network.keys) == 2


class Clock:
    """Time that passes only when somebody sleeps: `tenacity` reads it in place of the module `time`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.pauses = 1000.0, list[float]()
        monkeypatch.setattr(tenacity, "time", self)
        monkeypatch.setattr(tenacity.nap, "time", self)

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def ask_a_busy_service(patience: float, retry_after: str) -> BusyError:
    """Ask for a job of a service that refuses every request with 503; the error in which patience ends."""
    header = {b"Retry-After": retry_after.encode("latin-1")}
    busy = httpx2.MockTransport(lambda _: httpx2.Response(503, headers=header))
    with Client("http://busy", "t", patience=patience, transport=busy) as client, pytest.raises(BusyError) as refused:
        client.job(1)
    return refused.value


@pytest.mark.parametrize("retry_after", ["0", "-5", "now", "\u00b2", "Wed, 21 Oct 2015 07:28:00 GMT", ""])
def test_every_attempt_is_preceded_by_a_pause_whatever_retry_after_says(clock: Clock, retry_after: str) -> None:
    refused = ask_a_busy_service(60, retry_after)
    assert refused.problem.status == 503
    assert min(clock.pauses) >= 0.05
    assert 6 < len(clock.pauses) < 60, "pauses that grow: some, but not a storm, in a minute"
    assert len({round(pause, 6) for pause in clock.pauses}) == len(clock.pauses), "jittered"


def test_no_pause_is_shorter_than_the_service_asked_for(clock: Clock) -> None:
    refused = ask_a_busy_service(60, "7")
    assert refused.retry_after == 7
    assert min(clock.pauses) >= 7
    assert len(set(clock.pauses)) == len(clock.pauses), "jittered, so that clients do not return all at once"


def test_patience_ends(clock: Clock) -> None:
    begun = clock.now
    ask_a_busy_service(0.2, "0")
    assert clock.pauses
    assert clock.now - begun <= 0.2 + 1e-9


def test_a_service_that_asks_for_more_than_all_patience_is_not_asked_again(clock: Clock) -> None:
    assert ask_a_busy_service(60, "61").retry_after == 61
    assert not clock.pauses
