"""Reports over HTTP: who may read them, in which pages and files, and how many at once."""

import csv
import io
from collections.abc import Callable
from typing import Any

import openpyxl
import pyarrow.parquet as pq
import pytest
from starlette.testclient import TestClient

from tests.world import World, decide_due
from worker.config import Settings
from worker.database import Database
from worker.jobs import control
from worker.reports import formats
from worker.reports.formats import Format
from worker.web.api import reports

Bearer = Callable[..., dict[str, str]]
PATHS = [
    "/v1/enrolments",
    "/v1/outcomes",
    "/v1/reports/enrolments.csv",
    "/v1/reports/outcomes.csv",
    "/v1/reports/summary",
]


@pytest.mark.parametrize("path", PATHS)
def test_a_viewer_reads_reports_and_a_producer_does_not(client: TestClient, bearer: Bearer, path: str) -> None:
    assert client.get(path).status_code == 401
    assert client.get(path, headers=bearer("producer")).status_code == 403
    assert client.get(path, headers=bearer("viewer")).status_code == 200


def test_enrolments_come_in_pages_newest_first(client: TestClient, bearer: Bearer, world: World) -> None:
    ids = world.enrolments(5)
    found: list[int] = []
    cursor: str | None = None
    viewer = bearer("viewer")
    for _ in range(3):
        query: dict[str, Any] = {"limit": 2} | ({"cursor": cursor} if cursor else {})
        answer = client.get("/v1/enrolments", params=query, headers=viewer).json()
        found += [item["enrolment_id"] for item in answer["items"]]
        cursor = answer["next_cursor"]
    assert (found, cursor) == (ids[::-1], None)


def test_outcomes_come_in_pages_newest_job_first_and_hold_what_the_file_holds(
    client: TestClient, bearer: Bearer, world: World, db: Database, environment: Settings
) -> None:
    ids = world.enrolments(4)
    world.submit(db, [*ids[:3], 999_999])
    decide_due(db, environment)
    world.submit(db, ids[2:], reason="learner_declined")
    decide_due(db, environment)
    stopped = world.submit(db, ids, chunk_size=2)
    other = world.organisation("Other")
    control.cancel(db, organisation_id=world.organisation_id, job_id=stopped.id, actor="test:operator", note=None)
    viewer = bearer("viewer")

    def pages(query: str) -> list[tuple[int, int, str]]:
        found: list[tuple[int, int, str]] = []
        cursor = ""
        while cursor is not None:
            answer = client.get(f"/v1/outcomes?limit=3{query}{cursor and '&cursor=' + cursor}", headers=viewer).json()
            found += [(item["job_id"], item["enrolment_id"], item["outcome"]) for item in answer["items"]]
            cursor = answer["next_cursor"]
        return found

    def rows(query: str) -> list[tuple[int, int, str]]:
        data = client.get(f"/v1/reports/outcomes.csv?{query}", headers=viewer).text
        lines = csv.DictReader(io.StringIO(data, newline=""))
        return [(int(line["job_id"]), int(line["enrolment_id"]), line["outcome"]) for line in lines]

    for query in (
        "", "&reason=learner_declined", "&outcome=cancelled", f"&job_id={stopped.id}", "&status=in_progress",
        "&outcome=not_found&outcome=already_withdrawn", "&exclude_status=withdrawn", "&decided_from=2020-01-01",
    ):  # fmt: skip
        assert pages(query) == rows(query)[::-1]
    assert len(pages("")) == 10
    assert client.get("/v1/outcomes", headers=bearer("viewer", organisation_id=other)).json()["items"] == []
    for wrong in ("7", "-", "7-x", "7-0", "7-1-1", "\u0667-1"):
        assert client.get("/v1/outcomes", params={"cursor": wrong}, headers=viewer).status_code == 422, wrong


def test_the_same_filter_serves_the_view_and_every_file(
    client: TestClient, bearer: Bearer, world: World, db: Database, environment: Settings
) -> None:
    """Rule 8."""
    ids = world.enrolments(3)
    world.submit(db, ids[:1])
    decide_due(db, environment)
    viewer = bearer("viewer")

    def read(query: str) -> list[set[int]]:
        page = client.get(f"/v1/enrolments{query}", headers=viewer).json()["items"]
        data = {
            format_: client.get(f"/v1/reports/enrolments.{format_}{query}", headers=viewer).content
            for format_ in Format
        }
        sheet = openpyxl.load_workbook(io.BytesIO(data[Format.XLSX])).worksheets[0]
        lines = csv.DictReader(io.StringIO(data[Format.CSV].decode(), newline=""))
        return [
            {item["enrolment_id"] for item in page},
            {int(line["enrolment_id"]) for line in lines},
            {int(str(row[0])) for row in sheet.iter_rows(min_row=2, values_only=True)},
            set(pq.read_table(io.BytesIO(data[Format.PARQUET]))["enrolment_id"].to_pylist()),
        ]

    assert read("") == [set(ids)] * 4
    assert read("?exclude_status=withdrawn") == [set(ids[1:])] * 4
    assert read("?status=withdrawn&status=mastered") == [{ids[0]}] * 4
    assert read("?exclude_status=withdrawn&exclude_status=in_progress") == [set()] * 4


def test_a_file_says_what_it_is(client: TestClient, bearer: Bearer, world: World) -> None:
    world.enrolments(3)
    answer = client.get("/v1/reports/enrolments.csv", headers=bearer("viewer"))
    assert answer.headers["content-type"].startswith("text/csv; charset=utf-8")
    assert answer.headers["content-disposition"].startswith('attachment; filename="enrolments-2')
    assert int(answer.headers["content-length"]) == len(answer.content)
    assert answer.content.count(b"\r\n") == 4


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("exclude_statuses=withdrawn", "exclude_statuses"),
        ("status=", "status"),
        ("status=a%00b", "status"),
        ("series_id=x", "series_id"),
        ("series_id=99999999999999999999", "series_id"),
        ("reason=boredom", "reason"),
        ("source=hr2", "source"),
        ("withdrawn_from=yesterday", "withdrawn_from"),
        ("withdrawn_to=2026-01-01T00:00:00", "withdrawn_to"),
        ("withdrawn_from=2026-02-01&withdrawn_to=2026-01-01", "withdrawn_to"),
        ("withdrawn_from=0001-01-01", "withdrawn_from"),
        ("withdrawn_to=9999-12-31", "withdrawn_to"),
    ],
)
def test_a_filter_that_cannot_be_is_refused_by_name(client: TestClient, bearer: Bearer, query: str, field: str) -> None:
    viewer = bearer("viewer")
    for path in ("/v1/enrolments", "/v1/reports/enrolments.xlsx", "/v1/reports/summary"):
        answer = client.get(f"{path}?{query}", headers=viewer)
        assert answer.status_code == 422, (path, answer.text)
        assert field in answer.json()["detail"]


def test_what_is_no_format_is_refused(client: TestClient, bearer: Bearer) -> None:
    answer = client.get("/v1/reports/enrolments.pdf", headers=bearer("viewer"))
    assert answer.status_code == 422
    assert "csv" in answer.json()["detail"]


def test_more_exports_than_may_be_written_at_once_are_told_to_come_back(client: TestClient, bearer: Bearer) -> None:
    viewer = bearer("viewer")
    for _ in range(reports.EXPORTS_AT_ONCE):
        assert reports._free_slots.acquire(blocking=False)
    try:
        answer = client.get("/v1/reports/enrolments.csv", headers=viewer)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "10")
        assert answer.json()["type"].endswith(":too_many_exports")
        assert client.get("/v1/enrolments", headers=viewer).status_code == 200
    finally:
        for _ in range(reports.EXPORTS_AT_ONCE):
            reports._free_slots.release()
    assert client.get("/v1/reports/enrolments.csv", headers=viewer).status_code == 200


def test_an_export_that_fails_is_an_error_and_no_half_file(
    client: TestClient, bearer: Bearer, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.enrolments(3)

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(formats, "_csv", full)
    viewer = bearer("viewer")
    for _ in range(reports.EXPORTS_AT_ONCE + 1):  # none keeps its place
        answer = client.get("/v1/reports/enrolments.csv", headers=viewer)
        assert (answer.status_code, answer.json()["type"].rpartition(":")[2]) == (503, "no_room")


def test_the_summary_is_one_document(
    client: TestClient, bearer: Bearer, world: World, db: Database, environment: Settings
) -> None:
    world.submit(db, [*world.enrolments(2), 999_999])
    decide_due(db, environment)
    # However long it took here: tests/reports has a test of each band.
    world.run("UPDATE withdrawals.jobs SET created_at = finished_at, effective_at = finished_at")
    found = client.get("/v1/reports/summary", headers=bearer("viewer")).json()
    assert [(row["reason"], row["count"]) for row in found["withdrawals"]] == [("not_required", 2)]
    assert found["refused"] == [{"cause": "not_found", "count": 1}]
    took = found["seconds_to_withdrawal"]
    assert took["count"] == 2
    assert [(row["band"], row["count"]) for row in took["bands"]][:2] == [
        ("under_10_seconds", 2),
        ("under_1_minute", 0),
    ]
    assert found["open_letters"] == [{"age": "under_1_hour", "code": "not_found", "count": 1}]


def test_the_document_names_the_files_and_their_filters(client: TestClient) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    export = paths["/v1/reports/enrolments.{format}"]["get"]
    assert "text/csv" in export["responses"]["200"]["content"]
    names = {parameter["name"] for parameter in export["parameters"]}
    assert names >= {
        "status", "exclude_status", "series_id", "reason", "source", "withdrawn_from", "withdrawn_to", "format",
    }  # fmt: skip
    assert "text/event-stream" in paths["/v1/jobs/{job_id}/events"]["get"]["responses"]["200"]["content"]
