"""What misled people who saw the console for the first time: each page says what it is about and how to go on."""

import re
from typing import Any

import pytest
from starlette.testclient import TestClient

from schemas.control import BrakeSetting
from schemas.jobs import FileRequest, JobRequest
from tests.approvals.office import Office
from tests.support.console import MakeToken, Person, SignIn, ask
from tests.world import World, decide_due, id_file
from worker.config import Settings
from worker.database import Database
from worker.jobs import brake
from worker.jobs.files.submit import submit_file
from worker.jobs.show import show
from worker.jobs.submit import submit
from worker.ledger import series_library
from worker.records import Job
from worker.web.console.glossary import LISTS, TERMS
from worker.web.console.render import HERE


@pytest.fixture
def operator(client: TestClient, token: MakeToken) -> Person:
    return Person(client, token("operator"))


def wanted(db: Database, world: World, **request: Any) -> Job:
    """A job over anything but ids."""
    return submit(db, world.requester(), JobRequest(reason="not_required", **request)).job


def name_series(world: World, enrolment_id: int, title: str) -> int:
    """The enrolment's Series, under a title that people know."""
    return int(
        world.one(
            "UPDATE lms.series SET title = :t "
            "WHERE id = (SELECT series_id FROM lms.enrolments WHERE id = :id) RETURNING id",
            t=title, id=enrolment_id,
        )
    )  # fmt: skip


def test_a_job_says_what_it_is_about(db: Database, world: World, environment: Settings, operator: Person) -> None:
    fire, first_aid = world.enrolments(120), world.enrolments(2)
    series_id = name_series(world, fire[0], "Fire Safety")
    name_series(world, first_aid[0], "First Aid")
    about = {
        world.submit(db, fire[:1]).id: "Withdraw Fire Safety · 1 enrolment",
        world.submit(db, fire[:3]).id: "Withdraw Fire Safety · 3 enrolments",
        world.submit(db, fire).id: "Withdraw 120 enrolments",
        world.submit(db, [*fire[:2], *first_aid]).id: "Withdraw 4 enrolments",
        world.submit(db, [*fire, *first_aid]).id: "Withdraw 122 enrolments",
        wanted(db, world, filter={"series_id": series_id}).id: "Withdraw Fire Safety · 120 enrolments",
    }
    page = operator.get("/console/jobs")
    for job_id, title in about.items():
        assert show(db, organisation_id=world.organisation_id, job_id=job_id).title == title
        assert title in page
        assert f"<h1>{title}</h1>" in operator.get(f"/console/jobs/{job_id}")


def test_a_title_names_no_person(db: Database, world: World, operator: Person) -> None:
    world.enrolment("anna")
    assert wanted(db, world, learner_external_id="anna").title == "Withdraw all that a learner is enrolled in"
    file, request = id_file([*world.enrolments(1), *world.enrolments(1)]), FileRequest(reason="not_required")
    made = submit_file(db, world.requester(), request, file, name="leaving_anna.csv")
    assert made.submitted.job.title == "Withdraw 2 enrolments from a file"


def test_exceptions_that_support_has_resolved_are_nobodys_task(
    db: Database, world: World, environment: Settings, operator: Person
) -> None:
    owned = world.enrolment("anna", pathway_id=world.pathway())
    job = ask(db, world, [owned, *world.enrolments(1)])
    decide_due(db, environment)
    assert "Completed with exceptions" in operator.get(f"/console/jobs/{job.id}")
    (letter,) = world.letters()
    operator.post(f"/console/dead-letters/{letter.id}/act", 303, act="discard", note="the pathway keeps it")
    page = operator.get(f"/console/jobs/{job.id}")
    assert "1 of 2 not withdrawn" in page
    assert "exceptions resolved" in page
    assert "Completed with exceptions" not in page


def test_the_address_of_an_act_leads_to_its_page(db: Database, world: World, operator: Person) -> None:
    """A page that an error has left at the address of an act is reloaded, and nothing is done again."""
    job = ask(db, world, world.enrolments(1))
    for address, page in (
        (f"/console/jobs/{job.id}/pause", f"/console/jobs/{job.id}"),
        ("/console/sign-out", "/console"),
    ):
        answer = operator.client.get(address)
        assert (answer.status_code, answer.headers["location"]) == (303, page)
    assert operator.client.get("/").headers["location"] == "/console"


def test_nothing_ticked_leads_back_to_the_list_and_not_to_a_plan(world: World, operator: Person) -> None:
    series_id = name_series(world, world.enrolment("ada"), "Fire Safety")
    asked = f"what=ticked&series_id={series_id}&reason=not_required&status=in_progress&learner=ada"
    answer = operator.client.get(f"/console/withdraw?{asked}")
    back = answer.headers["location"]
    assert (answer.status_code, back) == (
        303,
        f"/console/series/{series_id}?learner=ada&status=in_progress&unticked=not_required",
    )
    narrowed = operator.get(back, 422)
    assert "or use “Withdraw all that match …”" in narrowed
    assert not re.search('href="[^"]*unticked', narrowed), "no link says it again"
    page = operator.get(f"/console/series/{series_id}?unticked=not_required", 422)
    assert "Nothing is ticked. Tick the enrolments to withdraw, or use “Withdraw this Series …”." in page
    assert '<option value="not_required" selected>' in page

    learners = operator.client.get("/console/withdraw?what=people&learner=x&reason=not_required").headers["location"]
    assert learners == "/console/enrolments?learner=x&unticked=not_required"
    world.enrolment("x")
    assert "Nothing is ticked. Tick the learners to withdraw." in operator.get(learners, 422)


def test_the_glossary_has_the_words_of_the_platform_and_each_source(operator: Person) -> None:
    page = operator.get("/console/glossary")
    for place in ("series", "pathway", "policy", "source", "request-source"):
        assert f'<dt id="{place}">' in page
    for label in ("HR system", "Bulk", "Correction", "Administrator", "Support"):
        assert f"<dt><strong>{label}</strong></dt>" in page.partition('id="sources"')[2]


def test_the_plan_of_a_series_stands_below_the_series(world: World, operator: Person) -> None:
    series_id = name_series(world, world.enrolments(1)[0], "Fire Safety")
    page = operator.get(f"/console/withdraw?what=all&series_id={series_id}&reason=not_required")
    assert re.search(r'href="/console/series" aria-current="page"', page)
    assert not re.search(r'href="/console/withdraw" aria-current="page"', page)
    assert f'<li><a href="/console/series/{series_id}">Fire Safety</a></li>' in page
    of_people = operator.get("/console/withdraw?what=people&learner_ids=1&reason=not_required")
    assert re.search(r'href="/console/enrolments" aria-current="page"', of_people)
    assert re.search(r'href="/console/withdraw" aria-current="page"', operator.get("/console/withdraw"))


def test_a_plan_shows_the_people_of_its_examples(world: World, operator: Person) -> None:
    enrolment_id = world.enrolment("E-77")
    world.run("UPDATE lms.learners SET display_name = 'Ada Lovelace' WHERE external_id = 'E-77'")
    page = operator.get(f"/console/withdraw?what=ticked&enrolment_ids={enrolment_id}&reason=not_required")
    assert re.search(rf'href="/console/enrolments/{enrolment_id}">Ada Lovelace</a>', page)


def test_an_error_stands_beside_its_field(world: World, operator: Person) -> None:
    series_id = name_series(world, world.enrolments(1)[0], "Fire Safety")
    page = operator.get(f"/console/series/{series_id}?enrolled_from=tomorrow", 422)
    assert re.search(r'name="enrolled_from"[^>]*aria-invalid="true" aria-describedby="wrong-enrolled_from"', page)
    assert 'id="wrong-enrolled_from"' in page


def test_a_large_series_is_counted_too(world: World, operator: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(series_library, "COUNTED_AT_MOST", 2)
    series_id = name_series(world, world.enrolments(7)[0], "Fire Safety")
    assert "7 enrolments, 7 active" in operator.get(f"/console/series/{series_id}")
    assert "more than" not in operator.get("/console/series")


def test_a_plan_speaks_of_the_brake_or_of_a_policy_only_where_it_holds_the_job(
    operator: Person, db: Database, world: World, environment: Settings
) -> None:
    """Its heading says what it is: a job from a page is not of the source Bulk."""
    first, *others = world.enrolments(5)
    ask(db, world, [first])
    ids = "&".join(f"enrolment_ids={one}" for one in others)
    address = f"/console/withdraw?what=ticked&{ids}&reason=not_required"

    def main() -> str:
        page = operator.get(address)
        return re.sub(r"\s+", " ", page[page.index("<main") : page.index("</main>")])

    page = main()
    assert "<h1>Plan a withdrawal</h1>" in page
    assert "bulk" not in page.lower()
    assert "brake" not in page.lower()
    assert "policy" not in page.lower()
    office = Office(db, world, environment)
    office.rules(withdraw__admin=3)
    page = main()
    assert "A policy would hold this job until an approver who did not request it releases it." in page
    assert "A policy allows 3 learners of the source Administrator in 24 hours" in page
    assert "brake" not in page.lower()
    assert "Used by" not in page, "what used the brake says nothing about a policy"
    office.rules()
    brake.set_limits(
        db, organisation_id=world.organisation_id, wanted=BrakeSetting(floor=2, share=0.1), actor="test:approver"
    )
    page = main()
    assert "The brake would hold this job until an approver who did not request it releases it." in page
    assert 'Used by <a href="/console/jobs/1">job 1</a> (1 learner, ' in page
    assert "policy" not in page.lower()


def test_an_enrolment_is_called_by_its_series_in_every_table_and_its_number_is_secondary(
    operator: Person, db: Database, world: World, environment: Settings
) -> None:
    owned = world.enrolment("anna", pathway_id=world.pathway("Onboarding"))
    name_series(world, owned, "Fire safety")
    job = ask(db, world, [owned])
    named = re.compile(
        rf'<a href="/console/enrolments/{owned}(?:/history)?">Fire safety</a>'
        rf' <span class="muted small nowrap">enrolment {owned}</span>'
    )
    assert named.search(operator.get(f"/console/jobs/{job.id}/enrolments"))
    decide_due(db, environment)
    letter = world.letters()[0].id
    for page in (
        *("/console/enrolments?learner=ann", f"/console/jobs/{job.id}/outcomes", "/console/reports"),
        *("/console/reports/outcomes", "/console/dead-letters", f"/console/dead-letters/{letter}"),
    ):
        shown = operator.get(page)
        assert named.search(shown), page
        assert not re.search(rf'/console/enrolments/{owned}[^"]*"[^>]*>(?:enrolment )?{owned}<', shown), page
    assert "<h1>What happened: anna in Fire safety</h1>" in operator.get(f"/console/enrolments/{owned}/history")
    operator.post("/console/people/protect", learner="anna", enrolment=str(owned), kind="legal_hold", reason="a case")
    person = operator.get("/console/people?learner=anna")
    assert re.search(rf"Legal hold of {named.pattern} until", person)
    assert f"Fire safety (enrolment {owned}): Owned by a pathway" in person


def test_the_page_of_a_learner_begins_with_no_dangerous_button(operator: Person, world: World) -> None:
    """Its table has the acts on one enrolment; what concerns all of them is opened first."""
    for _ in range(2):
        world.enrolment("anna")
    page = operator.get("/console/people?learner=anna")
    main = page[page.index("<main") : page.index("</main>")]
    assert "Withdraw all 2 active enrolments …</summary>" in main
    at_once = re.sub(r"<details.*?</details>", "", main, flags=re.DOTALL)
    buttons = re.findall(r'class="button([^"]*)"[^>]*>([^<]*)<', at_once)
    assert buttons == [(" small", "Withdraw …")] * 2
    refused = operator.post("/console/people/withdraw", 422, learner="anna", key="k").text
    assert re.search('<details class="more" id="withdraw" open>', refused), "what is wrong is not folded away"


def test_what_is_this_leads_to_its_term_which_stands_out(sign_in: SignIn, world: World) -> None:
    page = sign_in("viewer", at="/console/brake")
    term = page.locator("a.term").first
    place = str(term.get_attribute("href")).partition("#")[2]
    colour = "one => getComputedStyle(one).backgroundColor"
    term.click()
    page.wait_for_url(f"**/glossary#{place}")
    assert page.locator(f"#{place}").evaluate(colour) != page.locator("dt:not(:target)").first.evaluate(colour)
    assert page.locator(f"#{place}").evaluate("one => one.getBoundingClientRect().top >= 0")


def test_every_way_to_a_term_leads_to_one() -> None:
    places = [
        place
        for template in sorted((HERE / "templates").glob("*.html"))
        for place in re.findall(r'parts\.term\("([^"]+)"|/console/glossary#([\w-]+)', template.read_text("utf-8"))
    ]
    assert places
    assert {one or other for one, other in places} <= {*TERMS, *LISTS}
