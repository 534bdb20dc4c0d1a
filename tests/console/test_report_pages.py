"""Reports on pages: the Status filter, files that hold the same, and charts that everybody can read."""

import csv
import io
import re
from datetime import UTC, datetime, timedelta
from html import unescape
from pathlib import Path

import pytest
from playwright.sync_api import Page
from starlette.testclient import TestClient

from tests.support.console import MakeToken, SignIn, accessible, says
from tests.world import World, decide_due
from worker.config import Settings
from worker.database import Database
from worker.web.console import charts

MARKUP = "<img src=x onerror=alert(1)>"


def _ids(page: Page, column: int = 1) -> set[int]:
    return {int(text) for text in page.locator(f"tbody tr td:nth-child({column})").all_inner_texts()}


def _sign_in(client: TestClient, secret: str) -> None:
    assert client.post("/console/sign-in", data={"token": secret}).status_code == 303


def test_withdrawn_is_left_out_in_one_click_and_the_file_has_the_same_rows(
    sign_in: SignIn, world: World, db: Database, environment: Settings, tmp_path: Path
) -> None:
    """Rule 8, on the page; without JavaScript."""
    ids = world.enrolments(4)
    world.run("UPDATE lms.series SET title = :t", t=MARKUP)
    world.submit(db, [*ids[:1], 999_999], reason="learner_declined")
    decide_due(db, environment)
    page = sign_in("viewer", js=False)
    page.get_by_role("link", name="Reports").click()
    page.locator("tbody").get_by_text(MARKUP).first.wait_for()
    assert _ids(page) == set(ids)
    page.get_by_role("link", name="Without Withdrawn").click()
    assert _ids(page) == set(ids[1:])
    for name in ("CSV", "XLSX", "Parquet"):
        with page.expect_download() as download:
            page.get_by_role("link", name=name).click()
        download.value.save_as(tmp_path / name)
        assert download.value.suggested_filename.endswith(f".{name.lower()}")
    lines = csv.DictReader(io.StringIO((tmp_path / "CSV").read_text("utf-8"), newline=""))
    assert {int(line["enrolment_id"]) for line in lines} == set(ids[1:])
    page.get_by_label("Reason").select_option("learner_declined")
    page.get_by_role("button", name="Show").click()
    says(page, "No enrolment matches this filter.")
    page.get_by_role("link", name="All statuses").click()
    assert _ids(page) == set(ids[:1])
    page.get_by_role("link", name="Outcomes").click()
    assert _ids(page, 2) == {ids[0], 999_999}
    page.get_by_text("Only some outcomes").first.click()
    page.get_by_label("Not found").check()
    page.get_by_role("button", name="Show").click()
    assert _ids(page, 2) == {999_999}


def test_the_charts_say_what_they_show(sign_in: SignIn, world: World, db: Database, environment: Settings) -> None:
    page = sign_in("viewer")
    page.goto("/console/reports/summary")
    says(page, "Nothing was withdrawn in these weeks.")
    ids = [*world.enrolments(3), world.enrolment("gone", "mastered")]
    world.submit(db, [*ids, 999_999])
    decide_due(db, environment)
    page.reload()
    chart = page.get_by_role("group", name="Withdrawals by week and reason: Enrolment no longer required 3.")
    chart.wait_for()
    assert page.locator("svg.chart").count() == 4
    card = page.locator(".card").filter(has=chart)
    week = datetime.now(UTC).date() - timedelta(days=datetime.now(UTC).weekday())
    row = card.get_by_role("row", name=f"{week:%-d %b %Y}")
    assert row.get_by_role("cell").all_inner_texts() == ["3", "0", "0", "0"]
    says(page, "Had ended")
    accessible(page)
    page.set_viewport_size({"width": 390, "height": 800})
    for tab in ("Summary", "Enrolments", "Outcomes"):
        page.get_by_label("Reports", exact=True).get_by_role("link", name=tab).click()
        page.get_by_label("Reports", exact=True).locator("[aria-current]", has_text=tab).wait_for()
        accessible(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_a_filter_that_cannot_be_is_told_beside_the_form(client: TestClient, world: World, token: MakeToken) -> None:
    world.enrolments(1)
    _sign_in(client, token("viewer"))
    paths = ("/console/reports", "/console/reports/summary", "/console/reports/outcomes")
    for query, told in {
        "reason=boredom": "Reason: ",
        "source=hr2": "Source: ",
        "withdrawn_from=yesterday": "Withdrawn from: ",
        "withdrawn_from=2026-02-01&withdrawn_to=2026-01-01": "is not after",
        "withdrawn_to=9999-12-31": "too far away",
        "withdrawn_from=0001-01-01": "too far away",
        "status=a%00b": "Status: ",
        "series=a%00b": "Series: ",
        "series=none+such": "no Series has the code “none such”",
        "reason=not_required&reason=not_required": "Reason: give it only once",
        "nonsense=1": "Nonsense: ",
    }.items():
        spoken = [query, query.replace("withdrawn_", "decided_")]
        for path, asked in zip(paths, (query, query, spoken[1]), strict=True):
            answer = client.get(f"{path}?{asked}")
            assert answer.status_code == 422, (path, asked)
            assert told.replace("Withdrawn", "Decided" if "outcomes" in path else "Withdrawn") in unescape(answer.text)
            assert "<form" in answer.text
    for path in (paths[0], paths[2]):
        assert client.get(f"{path}?cursor=x").status_code == 422
    assert client.get("/console/reports/summary?withdrawn_from=2020-01-01").status_code == 422
    assert client.get("/console/reports/enrolments.csv?reason=boredom").status_code == 422
    assert client.get("/console/reports/enrolments.pdf").status_code == 422


def test_a_series_is_found_by_a_part_of_its_title(client: TestClient, world: World, token: MakeToken) -> None:
    (wanted,) = world.enrolments(1)
    world.enrolments(1)
    world.run("UPDATE lms.series SET code = 'BIO-1', title = 'Cells & so on' WHERE id = 1")
    _sign_in(client, token("viewer"))
    answer = client.get("/console/reports?series=cells&exclude_status=withdrawn")
    link = re.search(r'href="([^"]+)">BIO-1 \(Cells &amp; so on\)', answer.text)
    assert link
    found = client.get(unescape(link[1]))
    assert found.status_code == 200
    assert re.findall(r"/console/enrolments/(\d+)", found.text) == [str(wanted)]
    assert 'name="exclude_status" value="withdrawn"' in found.text
    lines = client.get("/console/reports/enrolments.csv?series=BIO-1").text.splitlines()
    assert len(lines) == 2


def test_pages_of_outcomes_follow_on_each_other(
    client: TestClient, world: World, db: Database, environment: Settings, token: MakeToken
) -> None:
    ids = world.enrolments(60)
    for part in (ids[:40], ids[30:]):
        world.submit(db, part)
    decide_due(db, environment)
    _sign_in(client, token("viewer"))
    answer = client.get("/console/reports/outcomes?reason=not_required")
    pages = [answer.text]
    while following := re.search(r'rel="next" href="([^"]+)"', pages[-1]):
        pages.append(client.get(unescape(following[1])).text)
    rows = [
        row for page in pages for row in re.findall(r"/console/jobs/(\d+)\"[^/]*/a></td>\s*<td[^>]*>.*?>(\d+)<", page)
    ]
    assert len(rows) == len(set(rows)) == 70
    assert [int(job) for job, _ in rows] == sorted((int(job) for job, _ in rows), reverse=True)


@pytest.mark.parametrize("path", ["", "/outcomes", "/summary", "/enrolments.csv", "/outcomes.parquet"])
def test_reports_are_for_who_is_signed_in_and_of_one_organisation(
    client: TestClient, world: World, token: MakeToken, path: str
) -> None:
    world.enrolment("anna")
    assert client.get(f"/console/reports{path}").status_code == 303
    _sign_in(client, token("viewer", organisation_id=world.organisation("Other")))
    answer = client.get(f"/console/reports{path}")
    assert answer.status_code == 200
    assert b"anna" not in answer.content


def test_what_stands_in_a_chart_is_text_and_nothing_in_it_runs() -> None:
    for drawn in (
        charts.stacked_columns([MARKUP, "b"], {MARKUP: [1, 2], '"><script>': [0, 1]}, alt=f'"{MARKUP}'),
        charts.horizontal_bars({MARKUP: 12, "b": 0}, alt=f'"{MARKUP}'),
    ):
        assert not re.search(r"<(?!/?(svg|g|rect|path|text|a|title)\b)|\sstyle=|\son\w+=\"|\sid=", drawn), drawn
        assert "&lt;img src=x" in drawn


def test_axes_have_few_round_figures() -> None:
    assert charts._scale([0]) == [0, 1]
    assert charts._scale([7]) == [0, 2, 4, 6, 8]
    assert charts._scale([9864, 3]) == [0, 5000, 10_000]
    assert charts._scale([1_000_000]) == [0, 500_000, 1_000_000]


def test_lists_say_how_many_and_who_and_a_figure_leads_to_its_rows(
    client: TestClient, world: World, db: Database, environment: Settings, token: MakeToken
) -> None:
    ids = [*world.enrolments(7), world.enrolment("ended", "mastered")]
    world.run("UPDATE lms.learners SET display_name = 'Zoë ' || id WHERE external_id <> 'ended'")
    world.run("UPDATE lms.series SET code = 'BIO-1', title = 'Cells & so on' WHERE id = 1")
    world.submit(db, ids)
    decide_due(db, environment)
    _sign_in(client, token("viewer"))
    page = client.get("/console/reports").text
    assert 'Enrolments <span class="muted small">8</span>' in page
    assert re.search(r'<a href="/console/people\?learner=[^"]+">Zoë \d+</a>', page)
    assert '<option value="BIO-1">Cells &amp; so on</option>' in page
    assert 'Outcomes <span class="muted small">8</span>' in client.get("/console/reports/outcomes").text
    summary = client.get("/console/reports/summary?source=bulk").text
    for outcome, count in (("withdrawn", 7), ("enrolment_ended", 1)):
        link = re.search(rf'<a href="([^"]*outcome={outcome}[^"]*)">{count}</a>', summary)
        assert link, outcome
        assert "source=bulk" in link[1], "the rest of the filter stays"
        behind = client.get(unescape(link[1]))
        assert behind.status_code == 200
        assert f'Outcomes <span class="muted small">{count}</span>' in behind.text
