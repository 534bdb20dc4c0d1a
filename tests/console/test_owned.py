"""What a Learning Pathway owns is no dead end: the pages say where it can be withdrawn all the same, and by whom."""

import html
import re

import pytest
from starlette.testclient import TestClient

from tests.console.test_file_page import send
from tests.dead_letters.test_runs import run_off
from tests.support.console import MakeToken, Person, ask
from tests.world import World, decide_due
from worker.config import Settings
from worker.database import Database
from worker.dead_letters import remedies, runs
from worker.ledger import owned


def words(page: str) -> str:
    """What a page says."""
    return re.sub(r"\s+", " ", html.unescape(re.sub("<[^>]*>", "", page)))


def plan_of(*ids: int) -> str:
    return "/console/withdraw?what=ticked&reason=not_required&" + "&".join(f"enrolment_ids={one}" for one in ids)


def test_a_plan_says_where_owned_enrolments_go_and_leads_to_the_letters_that_are_open(
    client: TestClient, token: MakeToken, db: Database, world: World, environment: Settings
) -> None:
    pathway = world.pathway()
    ids = [world.enrolment(f"p{n}", pathway_id=pathway) for n in range(3)]
    world.enrolment("other", pathway_id=pathway)
    olga, dora = Person(client, token("operator", name="olga")), token("approver", name="dora")
    page = olga.get(plan_of(*ids))
    assert "Learning Pathways own 3 enrolments. Submitting sends them to Needs attention, where an approver" in words(
        page
    )
    assert "open already" not in page
    assert ">Send 3 to Needs attention</button>" in page
    ask(db, world, ids[:1])
    decide_due(db, environment)
    first = world.letters()[0].id
    one = olga.get(plan_of(ids[0]))
    assert f'<a href="/console/dead-letters/{first}">A letter about it is open already.</a>' in one
    assert "sends it to Needs attention, where an approver can withdraw it all the same." in words(one)
    assert "A letter about one of them is open already." in olga.get(plan_of(*ids))
    ask(db, world, [ids[1], ids[2]], actor="token:ola")
    ask(db, world, [world.enrolment("other", pathway_id=pathway)])
    decide_due(db, environment)
    link = re.search(
        r'href="(/console/dead-letters\?ids=[^"]*)">3 letters about them are open already', olga.get(plan_of(*ids))
    )
    assert link
    assert {one.id for one in world.letters() if one.enrolment_id in ids} == set(
        map(int, link[1].split("=")[1].split(","))
    )
    assert "<strong>3 letters</strong>" in olga.get(link[1])
    owner = Person(client, dora)
    assert "where you can withdraw them all the same." in words(owner.get(plan_of(*ids)))


@pytest.mark.parametrize("limit", ["MOST_LETTERS", "LOOKED_AT"])
def test_of_more_letters_than_are_named_or_looked_at_a_plan_says_so(
    client: TestClient, token: MakeToken, db: Database, world: World, environment: Settings,
    monkeypatch: pytest.MonkeyPatch, limit: str,
) -> None:  # fmt: skip
    monkeypatch.setattr(owned, limit, 2)
    ids = [world.enrolment(f"p{n}", pathway_id=world.pathway()) for n in range(3)]
    ask(db, world, ids)
    decide_due(db, environment)
    page = Person(client, token("operator")).get(plan_of(*ids))
    assert '<a href="/console/dead-letters?code=pathway_owned">At least 2 letters about them are open already.' in page
    codes = dict(world.run("SELECT e.id, s.code FROM lms.enrolments e JOIN lms.series s ON s.id = e.series_id"))
    of_file = send(Person(client, token("operator")), [[f"p{n}", codes[ids[n]]] for n in range(3)], first="Learner")
    assert ">At least 2 letters about them are open already.</a>" in of_file


def test_the_record_shows_the_reason_of_the_request_that_came_first(
    db: Database, world: World, environment: Settings
) -> None:
    """As a plan says of several requests that wait for one letter."""
    enrolment = world.enrolment("anna", pathway_id=world.pathway())
    ask(db, world, [enrolment], reason="learner_declined")
    decide_due(db, environment)
    ask(db, world, [enrolment], actor="token:ola", reason="not_required")
    decide_due(db, environment)
    (letter,) = world.letters()
    remedies.resolve(
        db,
        organisation_id=world.organisation_id,
        letter_ids=[letter.id],
        remedy="override",
        actor="test:dora",
        note="x",
    )
    decide_due(db, environment)
    assert world.status(enrolment) == "withdrawn"
    reason = world.one("SELECT withdrawal_reason FROM lms.enrolments WHERE id = :id", id=enrolment)
    assert reason == "learner_declined"


def test_a_plan_that_sends_nothing_to_anybody_says_that_nothing_would_be_withdrawn(
    client: TestClient, token: MakeToken, world: World
) -> None:
    ended = world.enrolment("anna")
    world.run("UPDATE lms.enrolments SET status = 'mastered'")
    assert ">Submit the job: nothing would be withdrawn</button>" in Person(client, token("operator")).get(
        plan_of(ended)
    )


def test_a_series_says_how_many_of_its_active_enrolments_pathways_own(
    client: TestClient, token: MakeToken, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    pathway = world.pathway()
    for n in range(2):
        world.enrolment(f"p{n}", pathway_id=pathway)
    world.run("UPDATE lms.enrolments SET series_id = (SELECT min(series_id) FROM lms.enrolments)")
    series_id = world.one("SELECT min(series_id) FROM lms.enrolments")
    olga, dora = token("operator"), token("approver")
    page = words(Person(client, olga).get(f"/console/series/{series_id}"))
    assert "Learning Pathways own all 2 active enrolments of this Series. A request sends them to" in page
    assert "where an approver can withdraw them all the same." in page
    assert "where you can withdraw them all the same." in words(
        Person(client, dora).get(f"/console/series/{series_id}")
    )
    world.enrolment("free")
    world.run("UPDATE lms.enrolments SET series_id = :id", id=series_id)
    assert "Learning Pathways own 2 of the 3 active enrolments" in words(
        Person(client, olga).get(f"/console/series/{series_id}")
    )
    monkeypatch.setattr(owned, "COUNTED", 2)
    assert "Learning Pathways own at least" in words(Person(client, olga).get(f"/console/series/{series_id}"))
    world.run("UPDATE lms.enrolments SET pathway_id = NULL")
    assert "Learning Pathways own" not in words(Person(client, olga).get(f"/console/series/{series_id}"))


def test_a_learners_page_leads_to_the_letter_of_what_a_pathway_owns(
    client: TestClient, token: MakeToken, db: Database, world: World, environment: Settings
) -> None:
    enrolment = world.enrolment("anna", pathway_id=world.pathway())
    olga, dora = token("operator", name="olga"), token("approver", name="dora")
    page = Person(client, olga).get("/console/people?learner=anna")
    assert (
        "A Learning Pathway owns 1 active enrolment. An approver can withdraw it all the same, in its letter:" in page
    )
    assert f'no letter yet. <a href="/console/enrolments/{enrolment}">Send it to support</a>' in page
    assert "Nothing is open: no letter, and no withdrawal that waits." in page
    ask(db, world, [enrolment])
    assert "Nothing is open" not in Person(client, olga).get("/console/people?learner=anna"), "a job waits"
    decide_due(db, environment)
    page = Person(client, dora).get("/console/people?learner=anna")
    letter = world.letters()[0].id
    assert "You can withdraw it all the same, in its letter:" in page
    assert f'<a href="/console/dead-letters/{letter}">letter {letter}</a>' in page
    assert "Nothing is open" not in page, "the letter is"
    of_enrolment = f"/console/enrolments/{enrolment}"
    assert "You can still withdraw it there: alone" in Person(client, dora).get(of_enrolment)
    assert "An approver can still withdraw it there: alone" in Person(client, olga).get(of_enrolment)


def test_a_card_that_recommends_to_keep_offers_to_withdraw_as_well(
    client: TestClient, token: MakeToken, db: Database, world: World, environment: Settings
) -> None:
    """The newest request that waits for the letter may have another reason than the one that opened it."""
    enrolment = world.enrolment("anna", pathway_id=world.pathway())
    ask(db, world, [enrolment], reason="learner_declined")
    decide_due(db, environment)
    dora = Person(client, token("approver", name="dora"))
    page = dora.get("/console/dead-letters")
    card = re.findall(r'(?s)<section class="card" aria-labelledby="part-1">.*?</section>', page)[0]
    assert "Leave it as it is (keep)</button>" in card
    assert "<summary>Withdraw it anyway (override)</summary>" in card
    form = re.findall(r'(?s)<form class="stack".*?</form>', card)[1]
    assert re.search(r'<textarea[^>]*name="note"[^>]*></textarea>', form), "not the reason to keep it"
    fields = {name: html.unescape(value) for name, value in re.findall(r'name="(\w+)" value="([^"]*)"', form)}
    assert fields["act"] == "override"
    dora.post("/console/dead-letters/act", 303, **{**fields, "note": "asked its owner"})
    run_off(db, world, environment, runs.show(db, organisation_id=world.organisation_id, run_id=1))
    assert world.status(enrolment) == "withdrawn"
