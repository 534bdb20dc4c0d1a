"""The administrators' way: the Series library, a Series' enrolments, one withdrawal, many."""

import io
import re
from html import unescape
from typing import Any
from urllib.parse import urljoin
from uuid import uuid4

import openpyxl
import pytest
from playwright.sync_api import FilePayload, Page, expect
from starlette.testclient import TestClient

from tests.support.console import MakeToken, SignIn, accessible, says
from tests.support.workbooks import xlsx
from tests.world import World, assert_balanced, decide_due, eventually
from worker.config import Settings
from worker.database import Database

NASTY = "<img src=x onerror=alert(1)>"


def people(world: World, title: str, count: int, *, pathway_id: int | None = None, status: str = "in_progress") -> int:
    """A Series with so many learners who have names; its id."""
    code = uuid4().hex[:8]
    series_id = int(
        world.one(
            "INSERT INTO lms.series (organisation_id, code, title) VALUES (:o, :c, :t) RETURNING id",
            o=world.organisation_id, c=code, t=title,
        )
    )  # fmt: skip
    enrol(world, series_id, count, prefix=code, pathway_id=pathway_id, status=status)
    return series_id


def enrol(world: World, series_id: int, count: int, *, prefix: str, **more: Any) -> None:
    world.run(
        """WITH l AS (INSERT INTO lms.learners (organisation_id, external_id, display_name, email)
            SELECT :o, :c || n, 'Person ' || :c || n, :c || n || '@example.org' FROM generate_series(1, :count) n
            RETURNING id)
        INSERT INTO lms.enrolments (organisation_id, learner_id, series_id, status, pathway_id, enrolled_at)
        SELECT :o, l.id, :s, :status, :p, '2026-03-01T12:00Z' FROM l""",
        o=world.organisation_id, c=prefix, count=count, s=series_id,
        status=more.get("status", "in_progress"), p=more.get("pathway_id"),
    )  # fmt: skip


def signed_in(client: TestClient, secret: str) -> str:
    client.post("/console/sign-in", data={"token": secret})
    found = re.search(r'name="csrf" value="([0-9a-f]{64})"', client.get("/console/series").text)
    assert found
    return found[1]


def key_of(text: str) -> str:
    found = re.search(r'name="key" value="([0-9a-f]{32})"', text)
    assert found, text
    return found[1]


@pytest.mark.parametrize("js", [True, pytest.param(False, marks=pytest.mark.long)], ids=["with JavaScript", "without"])
def test_a_single_enrolment_is_withdrawn_at_the_console(
    sign_in: SignIn, world: World, db: Database, deciding: None, js: bool
) -> None:
    """The library, the Series, the learner, the reason: the record shows Withdrawn."""
    series_id = people(world, f"Fire safety {NASTY}", 3)
    world.run(f"UPDATE lms.learners SET display_name = 'Ada {NASTY}' WHERE id = (SELECT min(id) FROM lms.learners)")
    page = sign_in("operator", name="mia", js=js)
    page.get_by_role("link", name="Series", exact=True).click()
    accessible(page) if js else None
    page.get_by_label("Code or title").fill("fire")
    page.get_by_role("button", name="Search").click()
    page.get_by_role("link", name="Fire safety").click()
    page.wait_for_url(f"**/console/series/{series_id}")
    page.get_by_label("Learner").fill("ada")
    page.get_by_role("button", name="Search").click()
    expect(page.locator("tbody tr")).to_have_count(1)
    accessible(page) if js else None
    expect(page.get_by_role("link", name=f"Ada {NASTY}")).to_be_visible()
    page.get_by_role("link", name=re.compile("^enrolment ")).click()
    page.get_by_label("Reason").select_option(label="User does not want to complete the enrolment")
    page.get_by_label("Note").fill(f"asked on the phone {NASTY}")
    accessible(page) if js else None
    page.get_by_role("button", name="Withdraw", exact=True).click()
    says(page, "Withdrawn.")
    expect(page.get_by_role("button", name="Withdraw", exact=True)).to_have_count(0)
    says(page, "Withdrawn on")
    accessible(page) if js else None
    page.reload()
    assert page.get_by_text("Withdrawn.", exact=True).count() == 0, "said once"
    (row,) = world.run("SELECT withdrawal_reason, withdrawn_by FROM lms.enrolments WHERE status = 'withdrawn'")
    assert tuple(row) == ("learner_declined", "token:mia")
    (job,) = world.run("SELECT door, source, note FROM withdrawals.jobs")
    assert tuple(job) == ("console", "admin", f"asked on the phone {NASTY}")
    assert_balanced(db)


def _to_the_plan(page: Page, what: str) -> None:
    page.get_by_label("Reason for all").select_option(label="Enrolment no longer required")
    page.get_by_role("button", name=what).click()


def test_a_series_is_withdrawn_in_bulk_after_its_plan_watched_and_taken_back(
    sign_in: SignIn, world: World, db: Database, deciding: None
) -> None:
    pathway = world.pathway(f"Onboarding {NASTY}")
    series_id = people(world, "Hazardous goods", 60)
    enrol(world, series_id, 3, prefix="owned", pathway_id=pathway)
    enrol(world, series_id, 2, prefix="done", status="mastered")
    page = sign_in("operator", at=f"/console/series/{series_id}")
    page.get_by_role("link", name="Next page").click()
    expect(page.locator("tbody tr")).to_have_count(15)
    _to_the_plan(page, "Withdraw this Series …")
    says(page, "63 enrolments of 63 learners.")
    says(page, f"Onboarding {NASTY}")
    accessible(page)
    page.get_by_label("Note").fill("the course was replaced")
    page.get_by_label("Number of enrolments").fill("60")
    page.get_by_role("button", name="Withdraw 60 of 63 enrolments").click()
    page.wait_for_url("**/console/jobs/*")
    counted = "SELECT count(*) FROM lms.enrolments WHERE status = 'withdrawn'"
    eventually(lambda: world.one(counted) == 60, what="sixty are withdrawn")
    page.go_back()
    says(page, "3 enrolments of 3 learners.")
    expect(page.get_by_role("button", name="Send 3 to Needs attention")).to_be_visible()
    assert world.one("SELECT count(*) FROM withdrawals.dead_letters WHERE code = 'pathway_owned'") == 3
    page.go_forward()
    expect(page.get_by_role("status").filter(has_text="Completed with exceptions")).to_be_visible()
    page.get_by_role("link", name="Undo").click()
    page.get_by_label("Number of enrolments").fill("60")
    page.get_by_role("button", name="Reinstate 60 enrolments").click()
    expect(page.get_by_role("row", name="Reinstated")).to_contain_text("60")
    assert world.one(counted) == 0
    assert_balanced(db)


def test_the_ticked_ones_alone_are_withdrawn_without_javascript(
    sign_in: SignIn, world: World, db: Database, deciding: None
) -> None:
    series_id = people(world, "Ladders", 4)
    page = sign_in("operator", js=False, viewport={"width": 390, "height": 800}, at=f"/console/series/{series_id}")
    for box in page.get_by_role("checkbox", name=re.compile("Tick Person")).all()[:2]:
        box.check()
    _to_the_plan(page, "Withdraw the ticked …")
    says(page, "2 ticked enrolments in Ladders")
    page.get_by_role("button", name="Withdraw 2 enrolments").click()
    page.wait_for_url("**/console/jobs/*")
    eventually(lambda: world.one("SELECT count(*) FROM lms.enrolments WHERE status = 'withdrawn'") == 2)


def test_all_rows_of_a_page_are_ticked_at_once(sign_in: SignIn, world: World) -> None:
    series_id = people(world, "Ladders", 4)
    page = sign_in("operator", at=f"/console/series/{series_id}")
    page.get_by_label("Tick all rows of this page").check()
    expect(page.get_by_role("checkbox", name=re.compile("Tick Person"), checked=True)).to_have_count(4)


def test_a_file_is_planned_and_confirmed_without_sending_it_again(sign_in: SignIn, world: World, db: Database) -> None:
    ids = world.enrolments(3)
    page = sign_in("operator", at="/console/withdraw")
    accessible(page)
    content = "enrolment_id\n" + "".join(f"{one}\n" for one in ids)

    def upload(body: str) -> None:
        file = FilePayload(name=f"leavers {NASTY}.csv", mimeType="text/csv", buffer=body.encode())
        page.get_by_label("File").set_input_files([file])

    upload("enrolment_id\n1\nseven\n")
    page.get_by_label("Reason for all").select_option("not_required")
    page.get_by_role("button", name="Show the plan").click()
    says(page, "1 of 2 rows has a fault")
    says(page, "enrolment_id: 'seven' is not a positive whole number")
    accessible(page)
    upload(content)
    page.get_by_role("button", name="Show the plan").click()
    says(page, "3 enrolments of 3 learners.")
    accessible(page)
    page.get_by_role("button", name="Withdraw 3 enrolments").click()
    page.wait_for_url("**/console/jobs/*")
    (job,) = world.run("SELECT file_name, accepted, door FROM withdrawals.jobs")
    assert tuple(job) == (f"leavers {NASTY}.csv", 3, "console")


@pytest.mark.parametrize("js", [pytest.param(True, marks=pytest.mark.long), False])
def test_an_excel_file_with_faults_is_mended_and_finished(
    sign_in: SignIn, world: World, js: bool, db: Database
) -> None:
    series_id = people(world, "Ladders", 3)
    ids = [row[0] for row in world.run("SELECT id FROM lms.enrolments ORDER BY id")]
    page = sign_in("operator", js=js, at="/console/withdraw")
    book = xlsx([["Enrolment ID", "Name"], [ids[0], "a"], ["oops", "b"], [ids[2], "c"]])
    page.get_by_label("File").set_input_files([FilePayload(name="leavers.xlsx", mimeType="", buffer=book)])
    page.get_by_label("Reason for all").select_option("not_required")
    page.get_by_role("button", name="Show the plan").click()
    says(page, "Enrolment ID: 'oops' is not a positive whole number")
    page.get_by_role("button", name="Withdraw 2 enrolments").click()
    says(page, "1 row was left out")
    if js:  # axe is a script
        accessible(page)
    with page.expect_download() as started:
        page.get_by_role("link", name="Download the rows with faults").click()
    assert started.value.suggested_filename == "leavers faults.xlsx"
    sheet = openpyxl.load_workbook(io.BytesIO(started.value.path().read_bytes())).worksheets[0]
    header, row = ([cell.value for cell in cells] for cells in sheet.iter_rows())
    assert header == ["Enrolment ID", "Name", "problem"]
    assert row == ["oops", "b", "Line 3: Enrolment ID: 'oops' is not a positive whole number"]
    mended = xlsx([header, [ids[1], "b", row[2]], [ids[0], "a", ""]])
    page.get_by_label("File").set_input_files([FilePayload(name="mended.xlsx", mimeType="", buffer=mended)])
    page.get_by_label("Reason for all").select_option("not_required")
    page.get_by_role("button", name="Show the plan").click()
    says(page, "1 were taken by an earlier job")
    page.get_by_role("button", name="Withdraw 1 enrolment").click()
    page.wait_for_url("**/console/jobs/*")
    jobs = world.run("SELECT accepted, duplicates FROM withdrawals.jobs ORDER BY id")
    assert [tuple(job) for job in jobs] == [(2, 0), (1, 1)]
    assert series_id


def test_what_may_not_be_withdrawn_says_why_and_whom_to_ask(
    client: TestClient, world: World, db: Database, environment: Settings, token: MakeToken
) -> None:
    csrf = signed_in(client, token("operator"))
    pathway = world.pathway("Onboarding")
    owned = world.enrolment("anna", pathway_id=pathway)
    for enrolment_id, said in {
        world.enrolment("anna", "mastered"): "an ended enrolment is never withdrawn",
        world.enrolment("ben", "archived"): "which this service does not know",
        world.enrolment("carl", "withdrawn"): "This service did not withdraw it",
        owned: "send it to support",
    }.items():
        text = client.get(f"/console/enrolments/{enrolment_id}").text
        assert said in text
        assert ">Withdraw</button>" not in text
    page = client.get(f"/console/enrolments/{owned}").text
    sent = {"csrf": csrf, "key": key_of(page), "reason": "not_required"}
    world.run("UPDATE withdrawals.tokens SET last_used_at = now()")
    answer = client.post(f"/console/enrolments/{owned}/withdraw", data=sent)
    assert answer.status_code == 303
    decide_due(db, environment)
    letter = world.letters()[0]
    assert f"/console/dead-letters/{letter.id}" in client.get(f"/console/enrolments/{owned}").text
    assert world.status(owned) == "in_progress"


def test_the_same_form_sent_twice_makes_one_job(client: TestClient, world: World, token: MakeToken) -> None:
    csrf = signed_in(client, token("operator"))
    series_id = people(world, "Ladders", 3)
    plan = client.get(f"/console/withdraw?what=all&series_id={series_id}&reason=enrolment_error").text
    sent = {"csrf": csrf, "key": key_of(plan), "what": "all", "series_id": series_id, "reason": "enrolment_error"}
    answers = [client.post("/console/withdraw", data=sent) for _ in range(2)]
    assert {answer.headers["location"] for answer in answers} == {"/console/jobs/1"}
    assert client.post("/console/withdraw", data={**sent, "reason": "not_required"}).status_code == 409
    assert world.run("SELECT source, accepted FROM withdrawals.jobs") == [("correction", 3)]


def test_a_request_leads_to_its_job_which_says_itself_how_it_stands(
    client: TestClient, world: World, token: MakeToken, db: Database, environment: Settings
) -> None:
    csrf = signed_in(client, token("operator"))
    series_id = people(world, "Ladders", 3)
    sent = {"csrf": csrf, "key": "k", "what": "all", "series_id": series_id, "reason": "not_required"}
    path = client.post("/console/withdraw", data=sent).headers["location"]
    decide_due(db, environment)
    page = client.get(path).text
    assert ">Completed</span>" in page
    assert "notice told" not in page


def test_a_plan_that_no_longer_holds_is_shown_anew_with_both_counts(
    client: TestClient, world: World, token: MakeToken
) -> None:
    csrf = signed_in(client, token("operator"))
    series_id = people(world, "Ladders", 10)
    plan = client.get(f"/console/withdraw?what=all&series_id={series_id}&reason=not_required").text
    found = re.search(r'name="plan_hash" value="([^"]+)"', plan)
    assert found
    world.run("UPDATE lms.enrolments SET status = 'mastered' WHERE id IN (SELECT id FROM lms.enrolments LIMIT 5)")
    sent = {"csrf": csrf, "key": key_of(plan), "what": "all", "series_id": series_id, "reason": "not_required"}
    answer = client.post("/console/withdraw", data={**sent, "plan_hash": found[1], "note": "kept"})
    assert answer.status_code == 409
    assert "Planned: 10 withdrawn. Now: 5 withdrawn" in answer.text
    assert "Withdraw 5 enrolments" in answer.text
    assert ">kept</textarea>" in answer.text
    assert world.one("SELECT count(*) FROM withdrawals.jobs") == 0


def test_wrong_input_is_a_sentence_and_nothing_is_written(client: TestClient, world: World, token: MakeToken) -> None:
    csrf = signed_in(client, token("operator"))
    series_id = people(world, "Ladders", 2)
    (enrolment_id, _) = sorted(row[0] for row in world.run("SELECT id FROM lms.enrolments"))
    for path, said in {
        f"/console/series/{series_id}?enrolled_from=soon": "is not a day. Give one such as 2026-03-01.",
        f"/console/series/{series_id}?enrolled_from=2026-03-02&enrolled_to=2026-03-01": "is before",
        f"/console/series/{series_id}?enrolled_to=9999-12-31": "too far away",
        f"/console/series/{series_id}?pathway_id=x": "choose one from the list",
        f"/console/series/{series_id}?cursor=x": "not a cursor of this list",
        "/console/withdraw?what=ticked&reason=not_required": "Nothing is ticked",
        "/console/withdraw?what=all&reason=not_required": "at least one condition",
        f"/console/withdraw?what=some&series_id={series_id}&reason=not_required": "Use one of: ticked, all, people.",
        f"/console/withdraw?what=all&series_id={series_id}&reason=bored": "not_required",
    }.items():
        answer = client.get(path)
        assert answer.status_code == 422, path
        assert said in answer.text, path
    for data in ({"reason": ""}, {"reason": "bored"}, {"reason": "not_required", "key": ""}):
        answer = client.post(f"/console/enrolments/{enrolment_id}/withdraw", data={"csrf": csrf, "key": "k", **data})
        assert answer.status_code == 422
    for missing in ("/console/series/999", "/console/enrolments/999"):
        assert client.get(missing).status_code == 404
    later = {"csrf": csrf, "key": "k", "what": "ticked", "enrolment_ids": enrolment_id, "reason": "not_required"}
    assert client.post("/console/withdraw", data={**later, "effective_at": "soon"}).status_code == 422
    assert client.get("/console/series?q=%00").status_code == 200
    assert client.get("/console/enrolments?learner=%25").status_code == 200
    assert world.one("SELECT count(*) FROM withdrawals.jobs") == 0


def test_filters_find_what_they_say(client: TestClient, world: World, token: MakeToken) -> None:
    signed_in(client, token("operator"))
    series_id = people(world, "Ladders", 3)
    enrol(world, series_id, 2, prefix="done", status="mastered")
    enrol(world, series_id, 1, prefix="owned_", pathway_id=world.pathway("Onboarding"))
    path = f"/console/series/{series_id}"
    for query, count in {
        "": 6, "status=mastered": 2, "status=mastered&status=in_progress": 6, "learner=done1": 1,
        "learner=DONE1@EXAMPLE.org": 1, "learner=done": 2, "learner=owned_": 1, "learner=wned%25": 0,
        f"pathway_id={world.pathway('Onboarding')}": 1, "enrolled_from=2026-03-01&enrolled_to=2026-03-01": 6,
        "enrolled_from=2026-03-02": 0, "enrolled_to=2026-02-28": 0,
    }.items():  # fmt: skip
        assert client.get(f"{path}?{query}").text.count('<th scope="row">') == count, query
    assert client.get("/console/enrolments?learner=done").text.count('<th scope="row">') == 2


def test_another_organisations_series_and_enrolments_are_not_there(
    client: TestClient, world: World, token: MakeToken
) -> None:
    series_id = people(world, "Secret Series", 1)
    enrolment_id = world.one("SELECT max(id) FROM lms.enrolments")
    csrf = signed_in(client, token("approver", organisation_id=world.organisation("Other")))
    assert "Secret" not in client.get("/console/series").text
    assert client.get(f"/console/series/{series_id}").status_code == 404
    assert client.get(f"/console/enrolments/{enrolment_id}").status_code == 404
    sent = {"csrf": csrf, "key": "k", "reason": "not_required"}
    assert client.post(f"/console/enrolments/{enrolment_id}/withdraw", data=sent).status_code == 404
    assert "Secret" not in client.get(f"/console/withdraw?what=all&series_id={series_id}&reason=not_required").text
    assert client.get("/console/enrolments?learner=Person").text.count('<th scope="row">') == 0


def test_the_series_library_goes_on_from_page_to_page(client: TestClient, token: MakeToken, world: World) -> None:
    """More Series than a page shows: each stands on one page, in the order of the codes."""
    world.run(
        "INSERT INTO lms.series (organisation_id, code, title) "
        "SELECT :o, 'code-' || to_char(n, 'FM000'), 'Series' FROM generate_series(1, 120) n",
        o=world.organisation_id,
    )
    signed_in(client, token("operator"))
    address: str | None = "/console/series"
    seen: list[str] = []
    pages = 0
    while address:
        text = client.get(address).text
        seen += re.findall(r"code-\d{3}", text)
        pages += 1
        following = re.search(r'rel="next" href="([^"]*)"', text)
        address = urljoin(address, unescape(following[1])) if following else None
    assert pages > 1
    assert list(dict.fromkeys(seen)) == [f"code-{number:03}" for number in range(1, 121)]
