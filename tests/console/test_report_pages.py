"""Reports on pages: the Status filter, files that hold the same, and charts that everybody can read."""

import csv
import io
import re
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from html import unescape
from pathlib import Path

import pytest
from playwright.sync_api import Error, Page
from starlette.testclient import TestClient

from schemas.reinstate import ReinstateRequest
from tests.support.console import MakeToken, SignIn, accessible, says
from tests.support.load import FULL
from tests.world import World, decide_due, eventually
from worker.config import Settings
from worker.database import Database
from worker.jobs.reinstate import reinstate
from worker.reports import lists, scheduled_files
from worker.web.console import charts
from worker.web.console.languages import language

MARKUP = "<img src=x onerror=alert(1)>"


def _shows(page: Page, ids: set[int], column: int = 1) -> None:
    """Until the page has just these rows: a click does not wait for the page that it leads to."""
    cells = page.locator(f"tbody tr td:nth-child({column})")

    def are_there() -> bool:
        with suppress(Error):  # the page makes way for the next
            return {int(re.findall(r"enrolment (\d+)|$", cell)[0] or 0) for cell in cells.all_inner_texts()} == ids
        return False

    eventually(are_there, what=f"rows of {ids}")


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
    _shows(page, set(ids))
    page.get_by_role("link", name="Without Withdrawn").click()
    _shows(page, set(ids[1:]))
    for name in ("CSV", "XLSX", "Parquet"):
        with page.expect_download() as download:
            page.get_by_role("link", name=name).click()
        download.value.save_as(tmp_path / name)
        assert download.value.suggested_filename.endswith(f".{name.lower()}")
    lines = csv.DictReader(io.StringIO((tmp_path / "CSV").read_text("utf-8"), newline=""))
    assert {int(line["enrolment_id"]) for line in lines} == set(ids[1:])
    page.get_by_text("Filters", exact=True).click()
    page.get_by_label("Reason").select_option("learner_declined")
    page.get_by_role("button", name="Apply").click()
    says(page, "No enrolment matches this filter.")
    page.get_by_role("link", name="All statuses").click()
    _shows(page, set(ids[:1]))
    page.get_by_role("link", name="Outcomes").click()
    _shows(page, {ids[0], 999_999}, 2)
    page.get_by_text("Filters", exact=True).click()
    page.get_by_text("Only some outcomes").first.click()
    page.get_by_label("Not found").check()
    page.get_by_role("button", name="Apply").click()
    _shows(page, {999_999}, 2)
    page.get_by_role("link", name="Remove the filter Outcome: Not found").click()
    _shows(page, {ids[0], 999_999}, 2)


def test_the_charts_say_what_they_show(sign_in: SignIn, world: World, db: Database, environment: Settings) -> None:
    page = sign_in("viewer", at="/console/reports/summary")
    says(page, "Nothing was withdrawn in these weeks.")
    ids = [*world.enrolments(3), world.enrolment("gone", "mastered")]
    world.submit(db, [*ids, 999_999])
    decide_due(db, environment)
    page.reload()
    chart = page.get_by_role("group", name="Withdrawals by week and reason: Enrolment no longer required 3.")
    chart.wait_for()
    assert page.locator("svg.chart").count() == 4
    card = page.locator(".card").filter(has=chart)
    week = world.one("SELECT date_trunc('week', max(decided_at) AT TIME ZONE 'UTC')::date FROM withdrawals.outcomes")
    row = card.get_by_role("row", name=f"{week:%-d %b %Y}")
    assert row.get_by_role("cell").all_inner_texts() == ["3", "0", "0", "0"]
    says(page, "Had ended")
    accessible(page)
    page.set_viewport_size({"width": 390, "height": 800})
    for tab in ("Summary", "Enrolments", "Outcomes") if FULL else ("Outcomes",):
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
    one = re.compile(r'/console/jobs/(\d+)"[^/]*/a></td>\s*<td[^>]*>.*?>enrolment (\d+)<')
    rows = [row for page in pages for row in one.findall(page)]
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
    english = language("en")
    for drawn in (
        charts.stacked_columns(
            [MARKUP, "b"], {MARKUP: [1, 2], '"><script>': [0, 1]}, language=english, alt=f'"{MARKUP}'
        ),
        charts.horizontal_bars({MARKUP: 12, "b": 0}, language=english, alt=f'"{MARKUP}'),
    ):
        assert not re.search(r"<(?!/?(svg|g|rect|path|text|a|title)\b)|\sstyle=|\son\w+=\"|\sid=", drawn), drawn
        assert "&lt;img src=x" in drawn


def test_axes_have_few_round_figures() -> None:
    assert charts._scale([0]) == [0, 1]
    assert charts._scale([7]) == [0, 2, 4, 6, 8]
    assert charts._scale([9864, 3]) == [0, 5000, 10_000]
    assert charts._scale([1_000_000]) == [0, 500_000, 1_000_000]


def test_each_figure_leads_to_its_rows_and_periods_are_compared(
    client: TestClient, world: World, db: Database, environment: Settings, token: MakeToken,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    ids = [*world.enrolments(7), world.enrolment("ended", "mastered")]
    world.run("UPDATE lms.series SET code = 'BIO-1', title = 'Cells & so on' WHERE id = 1")
    job = world.submit(db, ids)
    decide_due(db, environment)
    taken_back = ReinstateRequest.model_validate({"filter": {"enrolment_ids": ids[:2]}})
    reinstate(db, world.requester(), job.id, taken_back)
    decide_due(db, environment)
    world.run(
        "UPDATE withdrawals.outcomes SET decided_at = decided_at - interval '10 days' WHERE enrolment_id = ANY(:ids)",
        ids=ids[2:4],
    )
    secret = token("viewer")
    _sign_in(client, secret)
    assert 'Enrolments <span class="muted small">8</span>' in client.get("/console/reports").text
    since = (datetime.now(UTC) - timedelta(days=6)).date()
    summary = client.get(f"/console/reports/summary?source=bulk&withdrawn_from={since}&compare=before").text
    rows = re.findall(r'<td class="num"[^>]*><a href="([^"]+)">([\d,]+)</a>', summary)
    for href, count in rows:
        assert "source=bulk" in href, "the rest of the filter stays"
        behind = client.get(unescape(href))
        assert f'Outcomes <span class="muted small">{count}</span>' in behind.text, (href, count)
    assert sorted(count for _, count in rows) == ["1", "1", "1", "2", "2", "3", "3", "3", "3"]
    assert {href for href, _ in rows} >= set(re.findall(r'<a href="([^"]+)" tabindex="-1"', summary)) != set()
    assert re.search(
        r"<strong>Withdrawn</strong></th>\s*<td.*>3<.*</td>\s*<td.*>2<.*</td>\s*<td[^>]*>\+1</td>", summary
    )
    assert "Two periods compared: Withdrawn 3, compared with 2" in summary
    assert client.get("/console/reports/summary?compare=other").status_code == 422
    bearer = {"Authorization": f"Bearer {secret}"}
    other = (datetime.now(UTC) - timedelta(days=11)).date()
    query = f"withdrawn_from={since}&compare_from={other}&compare_to={since - timedelta(days=1)}"
    found = client.get(f"/v1/reports/comparison?{query}", headers=bearer).json()
    assert found["differences"][0] == {"kind": "withdrawn", "code": None, "now": 3, "before": 2, "difference": 1}
    assert client.get("/v1/reports/comparison", headers=bearer).status_code == 422
    counted = client.get("/v1/reports/outcomes/count?standing=true", headers=bearer).json()
    assert counted == {"count": 6, "counted_to": 10_000, "at_least": False}
    monkeypatch.setattr(lists, "COUNTED_AT_MOST", 4)
    counted = client.get("/v1/reports/enrolments/count", headers=bearer).json()
    assert counted == {"count": 4, "counted_to": 4, "at_least": True}
    page = client.get("/console/reports").text
    assert "Download 4+ rows as a file:" in page


def test_names_and_addresses_are_for_roles_that_may_see_them(
    client: TestClient, world: World, db: Database, environment: Settings, token: MakeToken
) -> None:
    """On pages, in files, over HTTP; an id for everybody else, and no name in an address."""
    world.submit(db, [world.enrolment("anna")])
    world.run("UPDATE lms.learners SET display_name = 'Anna Ünal', email = 'anna.u@x.example'")
    decide_due(db, environment)
    for role in ("viewer", "operator", "approver", "owner"):
        secret, sees = token(role), role != "viewer"
        _sign_in(client, secret)
        bearer = {"Authorization": f"Bearer {secret}"}
        for path in ("/console/reports", "/console/reports/outcomes"):
            text = client.get(path).text
            assert "anna" in text
            assert [word in text for word in ("Anna Ünal", "anna.u@x.example")] == [sees, sees], (role, path)
            assert ("names=true" in text) == sees
            assert not [href for href in re.findall(r'href="([^"]+)"', text) if "nal" in href or "x.example" in href]
        for path, headers in (
            ("/console/reports/enrolments.csv", {}),
            ("/console/reports/outcomes.csv", {}),
            ("/v1/reports/enrolments.csv", bearer),
            ("/v1/reports/outcomes.csv", bearer),
            ("/v1/enrolments", bearer),
            ("/v1/outcomes", bearer),
        ):
            plain = client.get(path, headers=headers)
            assert "anna" in plain.text
            assert "Ünal" not in plain.text, (role, path)
            named = client.get(f"{path}?names=true", headers=headers)
            assert named.status_code == (200 if sees else 403), (role, path)
            assert [word in named.text for word in ("Anna Ünal", "anna.u@x.example")] == [sees, sees]


def test_a_report_is_scheduled_from_its_page_and_its_file_fetched_there(
    client: TestClient, world: World, db: Database, environment: Settings, token: MakeToken
) -> None:
    world.enrolments(3)
    world.run("UPDATE lms.series SET code = 'BIO-1' WHERE id = 1")
    world.run("UPDATE lms.learners SET display_name = 'Anna Ünal'")
    _sign_in(client, token("operator"))
    page = client.get("/console/reports?series=BIO-1&status=in_progress").text
    link = re.search(r'href="([^"]+)">Schedule it', page)
    assert link
    form = client.get(unescape(link[1])).text
    assert 'value="BIO-1"' in form
    assert re.search(r'name="status" value="in_progress" checked', form)
    csrf = re.search(r'name="csrf" value="([^"]+)"', form)
    assert csrf
    here, sent = "/console/reports/schedules", {"csrf": csrf[1], "report": "enrolments", "every": "weekly"}
    for wrong, told in (({"every": "hourly"}, "Every: "), ({"hour": "24"}, "Hour: "), ({"series": "none"}, "none"),
                        ({"job_id": "3"}, "outcome and job_id")):  # fmt: skip
        refused = client.post(here, data=sent | wrong)
        assert (refused.status_code, told in unescape(refused.text)) == (422, True), (wrong, refused.text)
    sent |= {"covers": "all", "series": "BIO-1", "status": "in_progress", "names": "true", "format": "csv"}
    assert client.post(here, data=sent).status_code == 303
    assert client.post(f"{here}/1/run", data={"csrf": csrf[1]}).status_code == 303
    assert ">Waits</span>" in client.get(here).text
    assert client.get("/console/reports/files/1").status_code == 409
    scheduled_files.make_due(db, environment)
    page = client.get(here).text
    assert "Series: BIO-1" in page
    assert "Status: In Progress" in page
    file = client.get("/console/reports/files/1")
    assert file.text.count("Anna Ünal") == 3
    assert "attachment" in file.headers["Content-Disposition"]
    _sign_in(client, token("viewer"))
    page = client.get(here).text
    assert "An operator can download it." in page
    assert '<form class="stack"' not in page
    assert client.get("/console/reports/files/1").status_code == 403
    _sign_in(client, token("operator"))
    csrf = re.search(r'name="csrf" value="([^"]+)"', client.get(here).text)
    assert csrf
    for act, shown in (("pause", ">Paused</span>"), ("resume", ">Pause</button>"), ("delete", ">Ended</span>")):
        assert client.post(f"{here}/1/{act}", data={"csrf": csrf[1]}).status_code == 303
        assert shown in client.get(here).text, act
    assert client.post(f"{here}/1/pause", data={"csrf": csrf[1]}).status_code == 409
    assert client.get("/console/reports/files/1").status_code == 404
