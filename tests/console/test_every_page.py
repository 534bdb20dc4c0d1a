"""Every page of the console is accessible in both colour schemes, fits a phone and respects the roles."""

import os
from datetime import timedelta
from io import BytesIO

import pytest
from playwright.sync_api import expect

from schemas.dead_letters import LetterFilter
from schemas.protections import ProtectionRequest
from schemas.report_schedules import Every, Report, ScheduleRequest
from schemas.saved_views import ListName, ViewRequest
from tests.approvals.office import Office
from tests.support.console import ABOUT_COLOUR, SignIn, accessible, ask, held_job, says
from tests.support.incoming import make_registered
from tests.world import World, decide_due
from worker.access.persons import Actor
from worker.config import Settings
from worker.database import Database
from worker.dead_letters import runs
from worker.errors import SecondPersonNeededError
from worker.jobs.files import uploads
from worker.people import protections
from worker.reports import scheduled_files, schedules
from worker.search import saved_views
from worker.search.keeper import keep_all
from worker.web.console.app import ROUTERS
from worker.webhooks import endpoints

FULL = os.environ.get("WITHDRAWALS_TEST_CHAOS") == "full"
WORDIEST = ("/console/brake", "/console/settings/retention")
"""Pages whose German is always looked at, on a phone and by axe; the others where the long tests run."""
IN_THE_SUITE = {
    "/console",
    "/console/approvals/{approval_id}",
    "/console/settings/retention",
    "/console/series/{series_id}",
    "/console/people",
    "/console/dead-letters/act",
}
"""Pages that together have nearly all that pages are made of. Stories look at others; `make chaos` at each."""
NO_PAGES = {
    "/console/jobs/{job_id}/events",
    "/console/reports/enrolments.{format}",
    "/console/reports/outcomes.{format}",
    "/console/reports/files/{file_id}",
    "/console/withdraw/file/{upload_id}/faults",
    "/console/withdraw/template.csv",
    "/console/withdraw/template.xlsx",
    "/console/sign-in/provider",
    "/console/sign-in/callback",
}


def _fill(db: Database, world: World, environment: Settings) -> dict[str, list[str]]:
    """Make one record of each kind. Returns the path of each page, with addresses that show its states."""
    owned = world.enrolment("anna", pathway_id=world.pathway("Onboarding"))
    world.enrolment("anna", "no_attempts", pathway_id=world.pathway("Onboarding"))
    active, gone = world.enrolment("ben"), world.enrolment("carla")
    done = ask(db, world, [owned, gone, 999_999])
    decide_due(db, environment)
    run = runs.start(
        db, organisation_id=world.organisation_id, act="redrive", wanted=LetterFilter(), actor="token:mia"
    )  # fmt: skip
    later = ask(db, world, [active], effective_at=world.one("SELECT now()") + timedelta(days=2))
    held = held_job(db, world)
    series = world.one("SELECT series_id FROM lms.enrolments WHERE id = :id", id=owned)
    with db.begin() as connection:
        kept = uploads.keep(
            connection,
            world.organisation_id,
            requested_by="token:anna",
            name="a.csv",
            stream=BytesIO(b"enrolment_id\n1\noops\n"),
        )
        uploads.keep_faults(connection, world.organisation_id, kept, BytesIO(b"enrolment_id,problem"), "csv")
    wanted = ProtectionRequest(learner_external_id="carla", kind="legal_hold", reason="case 17")
    protections.protect(db, organisation_id=world.organisation_id, wanted=wanted, who=Actor("token:mia"))
    keep_all(db)
    source = make_registered(db, environment, world.organisation_id)
    hook = endpoints.create(
        db,
        environment,
        organisation_id=world.organisation_id,
        url="https://desk.example/hooks/withdrawals",
        events=["job.held", "enrolment.withdrawn"],
        actor="token:mia",
    )
    kept_view = saved_views.save(
        db,
        organisation_id=world.organisation_id,
        wanted=ViewRequest(list=ListName.JOBS, name="Held for long", filter={"state": "held"}, shared=True),
        who=Actor("token:anna"),
    )
    letters = [str(letter.id) for letter in world.letters()]
    office = Office(db, world, environment)
    office.rules(override=0)
    with pytest.raises(SecondPersonNeededError) as waits:
        office.resolve([int(letters[0])])
    asked = waits.value.approval_id
    to_make = ScheduleRequest(report=Report.OUTCOMES, every=Every.DAILY, names=True)
    made = schedules.create(db, organisation_id=world.organisation_id, wanted=to_make, who=Actor("cli:ada"))
    schedules.make_now(db, organisation_id=world.organisation_id, schedule_id=made.id, who=Actor("cli:ada"))
    scheduled_files.make_due(db, environment)
    jobs = [str(job.id) for job in (done, later, held)]
    return {
        "/console/sign-in": [""],
        "/console/link": [""],
        "/console/signed-out": [""],
        "/console/sessions": [""],
        "/console": [""],
        "/console/brake": [""],
        "/console/approvals": [""],
        "/console/approvals/{approval_id}": [f"/{asked}"],
        "/console/settings/sources": [""],
        "/console/settings/sources/{source_id}": [f"/{source.id}"],
        "/console/settings/webhooks": [""],
        "/console/settings/webhooks/{webhook_id}": [f"/{hook.endpoint.id}"],
        "/console/settings/notifications": [""],
        "/console/settings/tokens": [""],
        "/console/settings/members": [""],
        "/console/settings/policies": [""],
        "/console/settings/retention": [""],
        "/console/system": [""],
        "/console/glossary": [""],
        "/console/views": [""],
        "/console/views/{view_id}": [f"/{kept_view.id}"],
        "/console/series": ["", "?q=nothing-is-called-so"],
        "/console/series/{series_id}": [f"/{series}", f"/{series}?status=mastered", f"/{series}?enrolled_from=soon"],
        "/console/enrolments": ["", "?learner=anna"],
        "/console/enrolments/{enrolment_id}": [f"/{owned}", f"/{active}", f"/{gone}"],
        "/console/enrolments/{enrolment_id}/history": [f"/{owned}/history", f"/{gone}/history"],
        "/console/search": ["", "?q=anna", "?q=nobody-is-called-so"],
        "/console/people": ["?learner=anna", "?learner=carla"],
        "/console/withdraw": ["", f"?what=all&series_id={series}&reason=not_required"],
        "/console/withdraw/file/{upload_id}": [f"/{kept.id}?job={done.id}"],
        "/console/withdraw/file/{upload_id}/plan": [f"/{kept.id}/plan?reason=not_required"],
        "/console/jobs": ["", "?state=held"],
        "/console/jobs/act": [
            f"/act?act={act}&ids={later.id}&ids={held.id}&ids={done.id}" for act in ("cancel", "release")
        ],
        "/console/jobs/{job_id}": [f"/{job}" for job in jobs],
        "/console/jobs/{job_id}/cancel": [f"/{later.id}/cancel"],
        "/console/jobs/{job_id}/move": [f"/{later.id}/move"],
        "/console/jobs/{job_id}/undo": [f"/{done.id}/undo"],
        "/console/jobs/{job_id}/outcomes": [f"/{done.id}/outcomes"],
        "/console/jobs/{job_id}/enrolments": [f"/{held.id}/enrolments", f"/{done.id}/enrolments"],
        "/console/jobs/release": ["/release"],
        "/console/reports": [""],
        "/console/reports/outcomes": ["/outcomes"],
        "/console/reports/summary": ["/summary", "/summary?compare=before"],
        "/console/reports/series": ["/series", "/series?q=nothing-is-called-so"],
        "/console/reports/schedules": ["/schedules"],
        "/console/dead-letters": ["", "?code=pathway_owned"],
        "/console/dead-letters/groups": ["/groups"],
        "/console/dead-letters/act": [
            f"/act?act={act}&code=pathway_owned" for act in ("redrive", "override", "cascade", "keep", "assign")
        ],
        "/console/dead-letters/{letter_id}": [f"/{letter}" for letter in letters],
        "/console/runs": [""],
        "/console/runs/{run_id}": [f"/{run.id}"],
    }


def _addresses(shown: dict[str, list[str]]) -> list[str]:
    """The whole addresses: what follows the part of a path that is the same for all."""
    found = []
    for path, ends in shown.items():
        fixed = path.split("/{")[0] if "{" in path else path
        for end in ends:
            base = fixed if "{" in path or end.startswith("?") or not end else path.rsplit("/", 1)[0]
            found.append(base + end)
    return found


def list_addresses(db: Database, world: World, environment: Settings) -> list[str]:
    """Make one record of each kind; the addresses of all pages, with their states."""
    return _addresses(_fill(db, world, environment))


_WIDER = """() => [...document.querySelectorAll("header *, main *, footer *")]
    .filter(one => one.checkVisibility({visibilityProperty: true}) && !one.closest(".visually-hidden, thead, svg"))
    .filter(one => one.getBoundingClientRect().right > innerWidth + 0.5)
    .map(one => `${one.tagName} ${one.className} ${one.textContent.trim().slice(0, 40)}`)"""
"""What goes over the edge of the screen, also where one could scroll to it."""


@pytest.mark.timeout(900)  # it looks at some forty pages, twice
@pytest.mark.parametrize("states", [1, pytest.param(None, id="all", marks=pytest.mark.long)])
def test_every_page_is_accessible_in_both_schemes_and_fits_a_phone(
    sign_in: SignIn, db: Database, world: World, environment: Settings, states: int | None
) -> None:
    """The suite looks at one state of some pages."""
    shown = _fill(db, world, environment)
    paths = {route.path for router in ROUTERS for route in router.routes if "GET" in route.methods}  # type: ignore[attr-defined]
    assert paths - NO_PAGES == set(shown), "a page without an address here, or an address without a page"
    page = sign_in("owner", name="anna", viewport={"width": 390, "height": 800})
    looked_at = {path: ends[:states] for path, ends in shown.items() if states is None or path in IN_THE_SUITE}
    for address in _addresses(looked_at):
        answer = page.goto(address)
        assert answer is not None
        assert answer.status == (422 if "soon" in address else 200), address
        assert page.evaluate(_WIDER) == [], f"{address} is too wide for a phone"
        page.emulate_media(color_scheme="light")
        accessible(page)
        page.emulate_media(color_scheme="dark")
        accessible(page, ABOUT_COLOUR)
    german = sign_in("owner", name="gerda", viewport={"width": 390, "height": 800}, locale="de-DE")
    for address in _addresses(shown):
        if FULL or address.startswith(WORDIEST):
            german.goto(address)
            assert german.locator("html").get_attribute("lang") == "de"
            assert german.evaluate(_WIDER) == [], f"{address} is too wide for a phone in German"
            accessible(german)


def test_what_a_role_lacks_is_not_offered_and_is_refused(sign_in: SignIn, db: Database, world: World) -> None:
    job = ask(db, world, world.enrolments(3))
    page = sign_in("viewer", at=f"/console/jobs/{job.id}")
    expect(page.get_by_role("button", name="Pause")).to_have_count(0)
    says(page, "perator")  # who can is said
    page.evaluate(
        f"""() => {{
            const form = document.querySelector("form[action='/console/sign-out']");
            form.action = "/console/jobs/{job.id}/pause";
            form.submit();
        }}"""
    )
    says(page, "This needs the role operator")
    accessible(page)
    assert world.one("SELECT state FROM withdrawals.jobs") == "queued"
