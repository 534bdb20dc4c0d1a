"""What support does with the 292 letters of the demo: group, understand, preview, decide as one, explain afterwards."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient

from ops.demo import oulad
from schemas.jobs import JobRequest
from tests.support.commandline import done, withdrawals
from tests.world import World, assert_balanced, decide_due, eventually
from worker.access import tokens
from worker.config import Settings
from worker.database import Database
from worker.dead_letters import run_steps
from worker.jobs.submit import Requester, submit
from worker.queue.broker import make_broker
from worker.web.app import make_app

ORGANISATION = "Open University"
Call = Callable[..., Any]


@pytest.fixture
def open_university(owner: Database, world: World, db: Database, environment: Settings) -> int:
    """The dataset, and one request for all whom it says to have withdrawn: what a pathway owns becomes letters."""
    rows = oulad.registrations()
    with owner.begin() as connection:
        organisation_id, base = oulad.load(connection, ORGANISATION, rows)
    wanted = [base + row.number for row in rows if row.withdrawn]
    who = Requester(organisation_id, "test:registry", "cli", "demo")
    submit(db, who, JobRequest(enrolment_ids=wanted, reason="not_required"))
    decide_due(db, environment)
    return organisation_id


def _decided(db: Database, environment: Settings, ended: Callable[[], bool]) -> None:
    """The relay's steps and a worker's claims, until the run has ended."""

    def step() -> bool:
        run_steps.step_all(db)
        decide_due(db, environment)
        return ended()

    eventually(step, what="the run ends")


@pytest.fixture
def call(db: Database, environment: Settings, open_university: int) -> Iterator[Call]:
    """The API, as an approver: `call("GET", "/v1/dead-letters")`."""
    app = make_app(db, make_broker(environment.broker_url.get_secret_value()), environment)
    token = tokens.create(db, organisation_id=open_university, name="dora", role="approver", actor="test").secret
    with TestClient(app, raise_server_exceptions=False, headers={"Authorization": f"Bearer {token}"}) as client:

        def calling(method: str, path: str, **more: Any) -> Any:
            answer = client.request(method, path, **more)
            assert answer.is_success, answer.text
            return answer.json()

        yield calling


@pytest.mark.long
def test_over_http_they_are_overridden(call: Call, db: Database, world: World, environment: Settings) -> None:
    """Small: tests/console/test_desk_stories.py, in a browser, and tests/web/test_desk_api.py, over HTTP."""
    (group,) = call("GET", "/v1/dead-letters/groups")["items"]
    assert (group["count"], group["code"]) == (292, "pathway_owned")
    assert oulad.PATHWAY in group["sentence"]
    (letter,) = call("GET", "/v1/dead-letters", params={"fingerprint": group["fingerprint"], "limit": 1})["items"]
    shown = call("GET", f"/v1/dead-letters/{letter['id']}")
    assert oulad.PATHWAY in shown["diagnosis"]["sentence"]
    assert set(shown["remedies"]) >= {"override", "cascade", "keep"}
    act = {"fingerprint": group["fingerprint"], "remedy": "override", "note": "the pathway has ended"}
    preview = call("POST", "/v1/dead-letters/resolve", json={**act, "dry_run": True})
    assert preview["letters"] == 292
    assert preview["outcomes"] == {"withdrawn": 292}
    run = call("POST", "/v1/dead-letters/resolve", json=act)
    _decided(db, environment, lambda: call("GET", f"/v1/dead-letters/runs/{run['id']}")["finished_at"] is not None)
    assert call("GET", f"/v1/dead-letters/runs/{run['id']}")["resolved"] == 292
    assert call("GET", "/v1/dead-letters", params={"state": "open"})["items"] == []
    receipt = call("GET", f"/v1/enrolments/{letter['enrolment_id']}/history")
    (decision,) = receipt["decisions"]
    assert (decision["outcome"], decision["rule"]["number"], decision["asked_by"]) == ("withdrawn", 6, "token:dora")
    assert "the pathway has ended" in [event["note"] for event in receipt["events"]]
    _, withdrawn = world.run("SELECT status = 'withdrawn', count(*) FROM lms.enrolments GROUP BY 1 ORDER BY 1")
    assert withdrawn[1] == 10_156
    assert_balanced(db)


@pytest.mark.long
def test_on_the_command_line_they_are_kept(
    open_university: int, db: Database, world: World, environment: Settings
) -> None:
    """Small: the same letters over HTTP above; tests/cli/test_desk_cli.py has the words of the command line."""
    at = ("--organisation", ORGANISATION)
    (group,) = done("dead-letters", "groups", *at)["items"]
    assert (group["count"], group["code"]) == (292, "pathway_owned")
    letter = done("dead-letters", "list", *at)["items"][0]
    shown = withdrawals("dead-letters", "show", letter["id"], *at)
    assert oulad.PATHWAY in shown.out
    act = ("--fingerprint", group["fingerprint"], "--remedy", "keep", "--note", "the pathway goes on", *at)
    assert done("dead-letters", "resolve", *act, "--dry-run")["letters"] == 292
    run = done("dead-letters", "resolve", *act, "--as", "dora")
    _decided(db, environment, lambda: done("dead-letters", "runs", "show", run["id"], *at)["finished_at"] is not None)
    assert done("dead-letters", "groups", "--state", "open", *at)["items"] == []
    told = withdrawals("explain", letter["enrolment_id"], *at)
    assert "the pathway goes on" in told.out
    assert "keep" in told.out
    assert world.one("SELECT count(*) FROM lms.enrolments WHERE status = 'withdrawn'") == 10_156 - 292
    assert_balanced(db)
