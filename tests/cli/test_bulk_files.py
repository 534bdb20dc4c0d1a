"""`withdrawals bulk FILE`: every fault at once, the good rows alone, and the mended ones in the same batch."""

import io
from pathlib import Path

import openpyxl
import pytest

from tests.support.commandline import csv_file, done, refused, withdrawals
from tests.support.workbooks import xlsx
from tests.world import World, decide_due
from worker.config import Settings
from worker.database import Database

REASON = ("--reason", "not_required")


def test_all_faults_are_named_and_written_and_nothing_is_accepted(world: World, tmp_path: Path) -> None:
    (one,) = world.enrolments(1)
    file, faults = csv_file(tmp_path, f"enrolment_id;name\nx;a\n{one};b\ny;c\n"), tmp_path / "faults.csv"
    for dry in ((), ("--dry-run",)):
        said = refused("bulk", file, *REASON, "--faults", faults, *dry)
        assert "Line 2: enrolment_id: 'x'" in said
        assert "Line 4: enrolment_id: 'y'" in said
        assert len(faults.read_text(encoding="utf-8-sig").splitlines()) == 3
        faults.unlink()
    assert world.one("SELECT count(*) FROM withdrawals.jobs") == 0


def test_a_workbook_is_finished_in_two_calls(world: World, db: Database, environment: Settings, tmp_path: Path) -> None:
    one, two, three = world.enrolments(3)
    book, mend = tmp_path / "leavers.xlsx", tmp_path / "mend.xlsx"
    book.write_bytes(xlsx([["Enrolment ID"], [one], ["two"], [three]]))
    given = (book, *REASON, "--leave-out-faults", "--faults", mend)
    planned = done("bulk", *given, "--dry-run")
    assert (planned["check"]["fault_count"], planned["plan"]["outcomes"]) == (1, {"withdrawn": 2})
    first = done("bulk", *given, "--plan-hash", planned["plan"]["plan_hash"])
    assert (first["accepted"], first["file"]["check"]["faults"][0]["line"]) == (2, 3)
    sheet = openpyxl.load_workbook(io.BytesIO(mend.read_bytes())).worksheets[0]
    assert [cell.value for cell in sheet[1]] == ["Enrolment ID", "problem"]
    mend.write_bytes(xlsx([["Enrolment ID", "problem"], [two, sheet["B2"].value], [one, ""]]))
    second = done("bulk", mend, *REASON, "--batch", first["id"])
    assert (second["accepted"], second["duplicates"]) == (1, 1)
    decide_due(db, environment)
    assert [world.status(i) for i in (one, two, three)] == ["withdrawn"] * 3


def test_people_read_what_was_left_out_and_how_to_go_on(world: World, tmp_path: Path) -> None:
    (one,) = world.enrolments(1)
    said = withdrawals("bulk", csv_file(tmp_path, f"enrolment_id\nx\n{one}\n"), *REASON, "--leave-out-faults")
    job = world.one("SELECT id FROM withdrawals.jobs")
    assert said.code == 0
    assert "1 of 2 rows have a fault and are left out" in said.err
    assert f"send them with --batch {job}" in said.err


@pytest.mark.parametrize("option", [("--batch", "1"), ("--leave-out-faults",), ("--faults", "x.csv")])
def test_what_goes_with_a_file_is_refused_without_one(world: World, option: tuple[str, ...]) -> None:
    assert "go with FILE" in refused("bulk", "--filter", "series_id=1", *REASON, *option)
