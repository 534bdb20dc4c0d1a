"""The learners that the page shows before anybody searches, and what an enrolment's page says was done to it."""

import html
import re
from typing import Any

import pytest
from starlette.testclient import TestClient

from schemas.catalogue import Outcome
from tests.queue.test_costs import Backlog, assert_bounded, reads_at_each_size
from tests.support.console import MakeToken, Person, ask
from tests.world import World, decide_due
from worker.config import Settings
from worker.database import Database
from worker.dead_letters import person_history
from worker.ledger import active_learners
from worker.queue.broker import make_broker
from worker.web.app import make_app
from worker.web.console import library
from worker.web.console.render import environment as environment_of


def shown(person: Person) -> list[str]:
    """Whom all pages of the list show."""
    found, path = list[str](), "/console/enrolments"
    while path:
        page = person.get(path)
        found += re.findall(r'href="/console/people\?learner=([^"]*)"', page)
        following = re.search(r'rel="next" href="([^"]*)"', page)
        path = html.unescape(following[1]) if following else ""
    return found


def test_learners_with_active_enrolments_are_shown_without_a_search(
    client: TestClient, token: MakeToken, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where a page looks at nobody who has one."""
    monkeypatch.setattr(library, "ROWS", 2)
    monkeypatch.setattr(active_learners, "_LOOKED_AT", 3)
    for name in ("a1", "a2", "a3", "b1", "b2", "b3", "c1", "c2"):
        world.enrolment(name, "mastered" if name.startswith("a") else "in_progress")
    world.enrolment("b2")
    other = World(world.owner, world.organisation("Other"))
    other.enrolment("stranger")
    viewer = Person(client, token("viewer"))
    assert shown(viewer) == ["b1", "b2", "b3", "c1", "c2"]
    assert "Nobody here has an active enrolment. Look at the next page." in viewer.get("/console/enrolments")
    page = viewer.get("/console/enrolments?cursor=b1")
    assert re.search(r'learner=b2">b2</a></th>\s*<td class="num" data-label="Active enrolments">2</td>', page)


def test_a_page_of_learners_reads_no_more_the_more_of_them_there_are(
    db: Database, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(active_learners, "_LOOKED_AT", 10)

    def act() -> None:
        with db.begin() as connection:
            found, following = active_learners.list_active_learners(
                connection, world.organisation_id, after=None, limit=5
            )
            assert (len(found), following) == (5, found[-1].external_id)

    def enrol(backlog: Backlog, count: int) -> None:
        world.enrolments(count)

    assert_bounded(reads_at_each_size(world, db, enrol, act))


def test_what_names_one_learner_exactly_leads_to_their_page_and_any_other_search_to_a_list(
    client: TestClient, token: MakeToken, world: World
) -> None:
    for learner in ("anna", "annabel", "ben"):
        world.enrolment(learner)
    world.run("UPDATE lms.learners SET email = 'Anna@Example.org' WHERE external_id = 'anna'")
    world.run("UPDATE lms.learners SET email = 'ben' WHERE external_id = 'annabel'")
    other = World(world.owner, world.organisation("Other"))
    other.enrolment("stranger")
    viewer = Person(client, token("viewer"))
    for exact in ("anna", "anna@EXAMPLE.org"):
        answer = client.get("/console/enrolments", params={"learner": exact})
        assert (answer.status_code, answer.headers["location"]) == (303, "/console/people?learner=anna"), exact
    assert ">anna</h1>" in viewer.get("/console/people?learner=anna")
    for several in ("ann", "ANNA", "ben"):
        assert viewer.get(f"/console/enrolments?learner={several}").count('<th scope="row">') == 2, several
    assert "No enrolments found" in viewer.get("/console/enrolments?learner=stranger")
    viewer.get("/console/enrolments?learner=anna&cursor=999")
    viewer.get("/console/enrolments?learner=anna&unticked=not_required", 422)


def test_a_person_with_more_enrolments_than_are_shown_has_a_way_to_the_older_ones(
    client: TestClient, token: MakeToken, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(person_history, "MOST", 2)
    ids = [world.enrolment("anna") for _ in range(3)]
    viewer = Person(client, token("viewer"))
    page = viewer.get("/console/people?learner=anna")
    link = re.search(r'href="(/console/enrolments\?[^"]*)">Older enrolments', page)
    assert link
    older = viewer.get(html.unescape(link[1]))
    assert [f"/console/enrolments/{one}" in older for one in ids] == [True, False, False]


@pytest.mark.parametrize(("days", "said"), [(None, "There is no time limit."), (400, "for at least 400 days.")])
def test_before_the_act_an_enrolment_says_how_it_can_be_reinstated_and_for_how_long(
    db: Database, world: World, environment: Settings, token: MakeToken, days: int | None, said: str
) -> None:
    enrolment = world.enrolment("anna")
    kept = environment.model_copy(update={"job_keep_days": days})
    app = make_app(db, make_broker(environment.broker_url.get_secret_value()), kept)
    with TestClient(app, follow_redirects=False) as client:
        page = Person(client, token("operator")).get(f"/console/enrolments/{enrolment}")
        condition = "unless it has changed by then, or the learner is inactive or enrolled here again."
        assert page.index(said) < page.index(condition) < page.index(">Withdraw</button>")
        world.run("UPDATE lms.enrolments SET status = 'mastered'")
        assert "You can reinstate the enrolment here" not in Person(client, token("operator")).get(
            f"/console/enrolments/{enrolment}"
        )


def test_an_enrolment_says_of_a_request_that_changed_nothing_why(
    client: TestClient, token: MakeToken, db: Database, world: World, environment: Settings
) -> None:
    enrolment = world.enrolment("anna", pathway_id=world.pathway())
    ask(db, world, [enrolment])
    decide_due(db, environment)
    olga = Person(client, token("operator", name="olga"))
    page = olga.get(f"/console/enrolments/{enrolment}")
    said = re.sub(r"\s+", " ", re.sub("<[^>]*>", "", page.split("What was decided")[1].split("</ul>")[0]))
    assert re.search(r"Not withdrawn: a pathway owns it \(.*\): asked for by mia, decided .* job 1", said)
    assert "done" not in said
    words: Any = environment_of().get_template("enrolment_parts.html").module
    for outcome in set(Outcome) - {Outcome.WITHDRAWN, Outcome.REINSTATED}:
        assert str(words.became(outcome)).startswith(("Not ", "Nothing changed", "Was withdrawn before")), outcome


def test_an_enrolment_says_what_was_done_to_it(
    client: TestClient, token: MakeToken, db: Database, world: World, environment: Settings
) -> None:
    enrolment = world.enrolment("anna")
    world.run("UPDATE lms.learners SET display_name = external_id")
    job = ask(db, world, [enrolment])
    decide_due(db, environment)
    olga = Person(client, token("operator", name="olga"))
    olga.post(f"/console/jobs/{job.id}/take-back", key="k", enrolment_ids=str(enrolment), back="/console")
    decide_due(db, environment)
    page = olga.get(f"/console/enrolments/{enrolment}")
    said = re.sub(r"\s+", " ", re.sub("<[^>]*>", "", page.split("What was decided")[1].split("</ul>")[0]))
    assert re.search(r"Reinstated.*asked for by olga, done .* job 2 .*Withdrawn \(.*\): asked for by mia, done", said)

    series_id = world.one("SELECT series_id FROM lms.enrolments WHERE id = :id", id=enrolment)
    listed = olga.get(f"/console/series/{series_id}")
    assert "Rows without a box" not in listed
    learner = world.one("SELECT external_id FROM lms.learners WHERE id IN (SELECT learner_id FROM lms.enrolments)")
    assert listed.count(f">{learner}<") == 1, "a number that is the name stands there once"
    assert f'<a href="/console/people?learner={learner}">{learner}</a>' in listed, "and leads to the learner"
    assert f'href="/console/enrolments/{enrolment}">enrolment {enrolment}</a>' in listed
    world.run("UPDATE lms.enrolments SET status = 'mastered'")
    assert "Rows without a box have ended or are withdrawn" in olga.get(f"/console/series/{series_id}")
