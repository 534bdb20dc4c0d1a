"""Confirmation by weight: for a large share of the organisation the count is typed, and the server asks for it."""

from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.support.console import MakeToken, Person, field_of
from tests.world import World, assert_balanced, decide_due
from worker.config import Settings
from worker.database import Database
from worker.web.console import weight

ASKS = "This concerns a large share of your learners."


@pytest.fixture
def ola(client: TestClient, token: MakeToken, monkeypatch: pytest.MonkeyPatch) -> Person:
    monkeypatch.setattr(weight, "LEAST", 3)
    return Person(client, token("operator", name="ola"))


def jobs(world: World) -> int:
    return int(world.one("SELECT count(*) FROM withdrawals.jobs"))


def test_the_count_of_a_large_withdrawal_and_of_its_undo_is_typed(
    ola: Person, db: Database, world: World, environment: Settings
) -> None:
    ids = [str(one) for one in world.enrolments(4)]
    query = "&".join(f"enrolment_ids={one}" for one in ids)
    small = ola.get(f"/console/withdraw?what=ticked&enrolment_ids={ids[0]}&reason=not_required")
    assert ASKS not in small
    plan = ola.get(f"/console/withdraw?what=ticked&{query}&reason=not_required")
    assert ASKS in plan
    assert ">Withdraw 4 enrolments</button>" in plan
    form: dict[str, Any] = {"what": "ticked", "enrolment_ids": ids, "reason": "not_required", "note": "all of them"}
    form |= {name: field_of(plan, name) for name in ("key", "plan_hash")}
    for typed in ("", "3", "four"):
        refused = ola.post("/console/withdraw", 422, **form, typed=typed)
        assert 'id="wrong-typed"' in refused.text
        assert ">all of them</textarea>" in refused.text
    ola.post("/console/withdraw", 422, **{**form, "plan_hash": ""})
    assert jobs(world) == 0
    ola.post("/console/withdraw", **form, typed=" 4 ")
    decide_due(db, environment)
    ola.post("/console/withdraw", **form)  # the same form again is answered by its key

    page = ola.get("/console/jobs/1/undo")
    assert ASKS in page
    assert 'id="wrong-typed"' in ola.post("/console/jobs/1/undo", 422, key="undo", typed="5").text
    assert jobs(world) == 1
    ola.post("/console/jobs/1/undo", key="undo", typed="4")
    decide_due(db, environment)
    assert world.one("SELECT count(*) FROM lms.enrolments WHERE status = 'in_progress'") == 4
    assert_balanced(db)


def test_the_count_of_a_large_file_is_typed(ola: Person, world: World) -> None:
    ids = world.enrolments(4)
    sent = "enrolment_id\n" + "\n".join(map(str, ids))
    form = {"csrf": ola.csrf, "reason": "not_required", "key": "k"}
    file = {"file": ("a.csv", sent)}
    planned = ola.client.post("/console/withdraw/file", data={**form, "act": "plan"}, files=file, follow_redirects=True)
    assert ASKS in planned.text
    confirm = {**form, "act": "withdraw", **{one: field_of(planned.text, one) for one in ("upload", "plan_hash")}}
    refused = ola.client.post("/console/withdraw/file", data={**confirm, "note": "all of them"}, follow_redirects=True)
    assert refused.status_code == 422
    assert 'id="wrong-typed"' in refused.text
    assert ">all of them</textarea>" in refused.text
    assert field_of(refused.text, "upload") == confirm["upload"], "the file is not sent again"
    assert jobs(world) == 0
    confirm["plan_hash"] = field_of(refused.text, "plan_hash")
    assert ola.client.post("/console/withdraw/file", data={**confirm, "typed": "4"}).status_code == 303
    assert jobs(world) == 1


def test_what_concerns_a_small_share_needs_no_typing(ola: Person, world: World) -> None:
    query = "&".join(f"enrolment_ids={one}" for one in world.enrolments(40)[:3])
    plan = ola.get(f"/console/withdraw?what=ticked&{query}&reason=not_required")
    assert ASKS not in plan
    assert ">Withdraw 3 enrolments</button>" in plan
