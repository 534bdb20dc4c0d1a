"""`withdrawals report …`: files that are whole or not there, and a summary."""

import csv
import io
import json
import stat
from pathlib import Path

import openpyxl
import pyarrow.parquet as pq
import pytest

from tests.support.commandline import done, program, refused, withdrawals
from tests.world import World, decide_due
from worker.config import Settings
from worker.database import Database
from worker.reports import formats, scheduled_files


def ids(path: Path) -> list[int]:
    """Of a report, whatever its format."""
    if path.suffix == ".parquet":
        return [int(value) for value in pq.read_table(path)["enrolment_id"].to_pylist()]
    if path.suffix == ".xlsx":
        sheet = openpyxl.load_workbook(path).worksheets[0]
        return [int(str(row[0])) for row in sheet.iter_rows(min_row=2, values_only=True)]
    return [int(row["enrolment_id"]) for row in csv.DictReader(io.StringIO(path.read_text("utf-8"), newline=""))]


def test_enrolments_are_exported_with_and_without_withdrawn(
    world: World, db: Database, environment: Settings, tmp_path: Path
) -> None:
    """Rule 8, from the command line; the format follows the file's name."""
    found = world.enrolments(3)
    world.submit(db, found[:1])
    decide_due(db, environment)
    for name in ("all.csv", "all.xlsx", "all.parquet"):
        ran = withdrawals("report", "enrolments", "-o", tmp_path / name)
        assert ran.code == 0, ran.err
        assert "3 rows" in ran.err
        assert ids(tmp_path / name) == found
    withdrawals("report", "enrolments", "--exclude-status", "withdrawn", "-o", tmp_path / "left.csv")
    assert ids(tmp_path / "left.csv") == found[1:]
    withdrawals("report", "enrolments", "--status", "withdrawn", "--format", "csv", "-o", tmp_path / "gone")
    assert len((tmp_path / "gone").read_text().splitlines()) == 2
    assert not list(tmp_path.glob(".*")), "nothing is left beside them"
    assert stat.S_IMODE((tmp_path / "all.csv").stat().st_mode) & 0o400


def test_a_series_is_named_by_its_code(world: World, tmp_path: Path) -> None:
    world.enrolments(2)
    (wanted,) = world.enrolments(1)
    code = world.one("SELECT code FROM lms.series ORDER BY id DESC LIMIT 1")
    assert withdrawals("report", "enrolments", "--series", code, "-o", tmp_path / "one.csv").code == 0
    assert ids(tmp_path / "one.csv") == [wanted]
    ran = withdrawals("report", "enrolments", "--series", "none such", "-o", tmp_path / "none.csv")
    assert (ran.code, "none such" in ran.err) == (1, True)
    assert not (tmp_path / "none.csv").exists()


def test_outcomes_of_a_job_are_exported(world: World, db: Database, environment: Settings, tmp_path: Path) -> None:
    found = [world.enrolment("a"), world.enrolment("b", "mastered")]
    job = world.submit(db, found)
    decide_due(db, environment)
    assert withdrawals("report", "outcomes", "--job", job.id, "-o", tmp_path / "o.csv").code == 0
    rows = list(csv.DictReader(io.StringIO((tmp_path / "o.csv").read_text("utf-8"), newline="")))
    assert [row["outcome"] for row in rows] == ["withdrawn", "enrolment_ended"]
    withdrawals("report", "outcomes", "--outcome", "enrolment_ended", "-o", tmp_path / "o.csv")
    assert ids(tmp_path / "o.csv") == found[1:], "an existing file is replaced"


def test_standard_output_takes_csv(world: World) -> None:
    world.enrolment("ünï")
    ran = program("report", "enrolments", "-o", "-")
    assert ran.code == 0
    assert ran.out.startswith("enrolment_id,learner_external_id,series_code,series_title,pathway_title,status,")
    assert "ünï" in ran.out


def test_half_a_file_never_has_the_name(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world.enrolment("a")
    path = tmp_path / "report.csv"
    path.write_text("of yesterday")

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(formats, "_csv", full)
    assert "No space left" in refused("report", "enrolments", "-o", path)
    assert path.read_text() == "of yesterday"
    assert list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_is_refused_by_name(world: World, tmp_path: Path) -> None:
    world.enrolment("a")
    assert "/no/such/place.csv" in refused("report", "enrolments", "-o", "/no/such/place.csv")
    assert str(tmp_path) in refused("report", "enrolments", "--format", "csv", "-o", tmp_path)
    assert ".parquet" in refused("report", "enrolments", "-o", tmp_path / "report.pdf")
    out = tmp_path / "x.csv"
    assert "reason" in refused("report", "enrolments", "--reason", "boredom", "-o", out)
    assert "withdrawn_from" in refused("report", "enrolments", "--from", "yesterday", "-o", out)
    assert "status" in refused("report", "enrolments", "--status", "", "-o", out)
    assert not out.exists()


def test_the_summary_is_one_document_or_tables(world: World, db: Database, environment: Settings) -> None:
    world.submit(db, [*world.enrolments(2), world.enrolment("m", "mastered")])
    decide_due(db, environment)
    found = done("report", "summary")
    assert [(row["reason"], row["count"]) for row in found["withdrawals"]] == [("not_required", 2)]
    assert found["refused"] == [{"cause": "enrolment_ended", "count": 1}]
    assert json.loads(json.dumps(found)) == found
    shown = withdrawals("report", "summary").out
    assert "not_required" in shown
    assert "enrolment_ended" in shown
    assert "p95" in shown
    assert done("report", "summary", "--to", "2020-01-01")["withdrawals"] == []


def test_reports_are_scheduled_counted_and_compared(
    world: World, db: Database, environment: Settings, tmp_path: Path
) -> None:
    found = world.enrolments(3)
    world.run("UPDATE lms.learners SET display_name = 'Anna Ünal'")
    world.submit(db, found[:2])
    decide_due(db, environment)
    assert withdrawals("report", "enrolments", "--count").out.strip() == "3 rows"
    assert withdrawals("report", "outcomes", "--count", "--standing", "--took", "over_1_day").out.strip() == "0 rows"
    assert withdrawals("report", "enrolments").code == 2
    withdrawals("report", "enrolments", "--names", "-o", tmp_path / "named.csv")
    assert (tmp_path / "named.csv").read_text("utf-8").count("Anna Ünal") == 3
    compared = json.loads(withdrawals("report", "compare", "--from", "2026-01-01", "--json").out)
    assert compared["differences"][0]["difference"] == 2
    assert "+2" in withdrawals("report", "compare", "--from", "2026-01-01").out
    made = done("report", "schedules", "add", "enrolments", "--every", "weekly", "--covers", "all", "--json")
    assert (made["every"], made["covers"], made["format"]) == ("weekly", "all", "csv")
    assert "enrolments" in withdrawals("report", "schedules", "list").out
    number = str(made["id"])
    for act in ("pause", "resume", "run"):
        assert withdrawals("report", "schedules", act, number).code == 0
    assert withdrawals("report", "fetch", "1", "-o", tmp_path / "kept.csv").code == 1
    scheduled_files.make_due(db, environment)
    assert done("report", "files", "--json")["items"][0]["row_count"] == 3
    assert withdrawals("report", "fetch", "1", "-o", tmp_path / "kept.csv").code == 0
    assert ids(tmp_path / "kept.csv") == found
    assert withdrawals("report", "schedules", "delete", number).code == 0
    assert withdrawals("report", "fetch", "1", "-o", "-").code == 1
