"""Saved views: everybody keeps their own, shares them, and finds them at the console, over HTTP and by the CLI."""

import json
from typing import Any

from starlette.testclient import TestClient

from schemas.saved_views import ListName, ViewRequest
from tests.console.test_library import people
from tests.support.commandline import done, withdrawals
from tests.support.console import MakeToken, Person, ask, field_of
from tests.world import World
from worker.access.persons import Actor
from worker.database import Database
from worker.search import saved_views

HERE = "/console/views"


def saved(world: World) -> list[Any]:
    return world.run("SELECT list_name, name, filter, shared, owner FROM withdrawals.saved_views ORDER BY id")


def test_a_view_is_saved_opened_shared_renamed_and_deleted(
    client: TestClient, token: MakeToken, db: Database, world: World
) -> None:
    series = people(world, "Fire safety", 3)
    code = world.one("SELECT code FROM lms.series WHERE id = :id", id=series)
    job = ask(db, world, world.enrolments(1))
    secrets = {name: token("viewer", name=name) for name in ("ada", "bob")} | {"own": token("owner", name="own")}
    ada = Person(client, secrets["ada"])
    assert "Save this view" not in ada.get("/console/jobs"), "nothing is narrowed"
    page = ada.get(f"/console/jobs?state=queued&series={code}&learner=anna&created_from=2020-01-01&sort=oldest")
    conditions = field_of(page, "filter").replace("&#34;", '"')
    assert json.loads(conditions) == {
        "state": "queued",
        "series": code,
        "learner_external_id": "anna",
        "created_from": "2020-01-01",
        "sort": "oldest",
    }
    ada.post(HERE, 303, list="jobs", filter='{"status": "x"}', name="Wrong")
    assert "The view was not saved. filter.status" in ada.get("/console/jobs")
    for odd in ('{"\\ud800": 1}', '{"requested_by": "\\ud800"}', '{"requested_by": "\\u0000"}', '{"x": {"x": 1}}'):
        assert ada.post(HERE, list="jobs", filter=odd, name="Odd").headers["location"] == "/console/jobs", odd
    for broken in ("[" * 9_000, "{", "7", '"x"'):
        ada.post(HERE, 422, list="jobs", filter=broken, name="Broken")
    ada.post(HERE, list="jobs", filter='{"state": "queued"}', name="Waiting <b>")
    ada.post(HERE, list="jobs", filter='{"state": "queued"}', name="Waiting <b>")
    assert len(saved(world)) == 1, "the same form sent twice is one view"
    ada.post(HERE, list="jobs", filter='{"state": "held"}', name="WAITING <b>")
    assert "you have another view" in ada.get("/console/jobs")
    ada.post(HERE, list="enrolments", filter=f'{{"series_id": {series}, "status": ["mastered"]}}', name="Done")
    ada.post(HERE, list="learners", filter='{"learner": "anna b"}', name="Anna")
    ada.post(HERE, list="dead_letters", filter='{"older_than": "3d", "assignee": "mine", "overdue": true}', name="Late")
    for number, there in enumerate(
        (
            "/console/jobs?state=queued&view=1",
            f"/console/series/{series}?status=mastered&view=2",
            "/console/enrolments?learner=anna+b&view=3",
            "/console/dead-letters?assignee=mine&older_than=3d&overdue=true&view=4",
        ),
        1,
    ):
        answer = client.get(f"{HERE}/{number}")
        assert (answer.status_code, answer.headers["location"]) == (303, there)
        opened = ada.get(there)
        assert f'href="{HERE}/{number}" aria-current="page"' in opened
    assert f"/console/jobs/{job.id}" in ada.get("/console/jobs?state=queued&view=1")
    assert f'href="{HERE}/2"' not in ada.get(f"/console/series/{people(world, 'Another', 1)}"), (
        "each Series has its own"
    )

    bob = Person(client, secrets["bob"])
    assert "Waiting" not in bob.get("/console/jobs") + bob.get(HERE)
    for path in (f"{HERE}/1", f"{HERE}/1/delete"):
        bob.post(path, 404, name="x")
    bob.get(f"{HERE}/1", 404)
    ada = Person(client, secrets["ada"])
    ada.post(f"{HERE}/1", name="In the queue", shared="true")
    ada.post(f"{HERE}/4", 422, name="")
    bob = Person(client, secrets["bob"])
    assert "In the queue" in bob.get("/console/jobs")
    assert "Rename or share" not in bob.get(HERE), "only its owner changes it"
    for path in (f"{HERE}/1", f"{HERE}/1/delete"):
        assert "one of ada, who alone changes it" in bob.post(path, 409, name="Mine").text
    world.run("""UPDATE withdrawals.saved_views SET filter = '{"state": "gone"}' WHERE id = 1""")
    assert client.get(f"{HERE}/1").headers["location"] == HERE
    assert "cannot be applied any more. filter.state" in bob.get(HERE)
    assert "Cannot be applied" in bob.get("/console/jobs")
    Person(client, secrets["own"]).post(f"{HERE}/1/delete")
    assert [row.name for row in saved(world)] == ["Done", "Anna", "Late"]
    acts = world.run("SELECT actor, action, detail FROM withdrawals.audit WHERE action LIKE 'view.%' ORDER BY id")
    assert [(row.actor, row.action) for row in acts[-2:]] == [
        ("token:ada", "view.change"),
        ("token:own", "view.delete"),
    ]
    assert "anna" not in str(acts), "the audit is kept: it names nobody for a filter's sake"


def test_a_view_is_the_same_over_http_and_on_the_command_line(
    client: TestClient, token: MakeToken, db: Database, world: World
) -> None:
    ada, bob = ({"Authorization": f"Bearer {token('viewer', name=name)}"} for name in ("ada", "bob"))
    wanted: dict[str, Any] = {"list": "jobs", "name": "Held", "filter": {"state": "held"}}
    faults: list[dict[str, Any]] = [{"filter": {}}, {"filter": {"state": "x"}}, {"name": " "}, {"list": "series"}]
    for wrong in faults:
        assert client.post("/v1/views", json={**wanted, **wrong}, headers=ada).status_code == 422, wrong
    made = client.post("/v1/views", json=wanted, headers=ada)
    assert (made.status_code, made.json()["own"], made.json()["page"]) == (201, True, f"{HERE}/1")
    assert client.get("/v1/views/1", headers=bob).status_code == 404
    changed = client.patch("/v1/views/1", json={"shared": True, "filter": {"state": "paused"}}, headers=ada)
    assert (changed.json()["filter"], changed.json()["name"]) == ({"state": "paused"}, "Held")
    assert client.patch("/v1/views/1", json={"name": "x"}, headers=bob).status_code == 409
    assert client.patch("/v1/views/1", json={}, headers=ada).status_code == 422
    (seen,) = client.get("/v1/views", params={"list": "jobs"}, headers=bob).json()["items"]
    assert (seen["own"], seen["owner"]) == (False, "token:ada")

    save = ("views", "save", "enrolments", "Active", "--where", "series_id=7", "--where", "status=in_progress")
    assert done(*save)["filter"] == {"series_id": 7, "status": ["in_progress"]}
    assert done("views", "change", "2", "--name", "Now", "--shared")["shared"]
    assert [one["name"] for one in done("views", "list")["items"]] == ["Now", "Held"]
    assert [one["name"] for one in done("views", "list", "--list", "jobs", "--as", "token:ada")["items"]] == ["Held"]
    assert "--where" in withdrawals("views", "save", "jobs", "x", "--where", "held").err
    assert done("views", "delete", "1")["name"] == "Held", "an administrator of the machine is an owner"
    assert client.delete("/v1/views/2", headers=ada).status_code == 409
    phone, at_desk = Actor("token:phone", made_by="person:Ada#17"), Actor("person:Ada Lovelace#17")
    how: dict[str, Any] = {"organisation_id": world.organisation_id}
    view = ViewRequest(list=ListName.JOBS, name="Hers", filter=wanted["filter"])
    hers = saved_views.save(db, **how, who=phone, wanted=view)
    found = saved_views.list_all(db, **how, who=at_desk)
    assert [one.id for one in found if one.own] == [hers.id], "a member has the views of their token, and by any name"


def test_other_filters_are_saved_to_the_view_that_was_opened(
    client: TestClient, token: MakeToken, world: World
) -> None:
    secrets = {name: token("viewer", name=name) for name in ("ada", "bob")}
    ada = Person(client, secrets["ada"])
    ada.post(HERE, list="jobs", filter='{"state": "queued"}', name="Waiting", shared="true")
    same = ada.get("/console/jobs?state=queued&view=1")
    assert '<input type="hidden" name="view" value="1">' in same, "the form of the filters goes on with it"
    assert "Save these filters" not in same
    assert "Save this view" not in same
    other = ada.get("/console/jobs?state=held&reason=not_required&view=1")
    assert "Save these filters to “Waiting”" in other
    assert "Save this view" in other
    assert "Save these filters" not in ada.get("/console/jobs?state=nonsense&view=1", 422)
    given = field_of(other, "filter").replace("&#34;", '"')
    went = ada.post(f"{HERE}/1/filter", filter=given).headers["location"]
    assert went == "/console/jobs?state=held&reason=not_required&view=1"
    page = ada.get(went)
    assert "has these filters now" in page
    assert "Save these filters to" not in page
    assert saved(world)[0].filter == {"state": "held", "reason": "not_required"}
    ada.post(f"{HERE}/1/filter", 422, filter='{"state": "nonsense"}')
    ada.post(f"{HERE}/1/filter", 422, filter="{}")
    bob = Person(client, secrets["bob"])
    assert "Save these filters" not in bob.get("/console/jobs?state=paused&view=1"), "it is shared, and ada's"
    bob.post(f"{HERE}/1/filter", 409, filter='{"state": "paused"}')
    assert saved(world)[0].filter == {"state": "held", "reason": "not_required"}


def test_what_is_wrong_with_a_filter_is_said_in_german(client: TestClient, token: MakeToken) -> None:
    gerda = Person(client, token("viewer"))
    gerda.post("/console/language", language="de")
    refused = gerda.post("/console/views", list="jobs", name="lang", filter='{"state": "lost"}')
    said = gerda.get(refused.headers["location"])
    assert "Die Ansicht wurde nicht gespeichert." in said
    assert "Input should be" not in said
