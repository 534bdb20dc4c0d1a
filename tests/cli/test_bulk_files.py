"""`withdrawals bulk FILE`: every fault at once, the good rows alone, and the mended ones in the same batch."""

import io
import os
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


def test_a_repeated_call_writes_its_faults_again(world: World, tmp_path: Path) -> None:
    """The first answer may be what was lost."""
    (one,) = world.enrolments(1)
    file, mend = csv_file(tmp_path, f"enrolment_id\nx\n{one}\n"), tmp_path / "mend.csv"
    given = ("bulk", file, *REASON, "--leave-out-faults", "--faults", mend, "--key", "k")
    first, written = done(*given), mend.read_bytes()
    mend.unlink()
    assert done(*given)["id"] == first["id"]
    assert mend.read_bytes() == written
    mend.unlink()
    said = refused("bulk", file, *REASON, "--leave-out-faults", "--faults", mend, "--batch", first["id"])
    assert "Line 2: enrolment_id: 'x'" in said
    assert mend.read_bytes() == written


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


def test_nothing_is_accepted_if_the_file_of_faults_cannot_be_written(world: World, tmp_path: Path) -> None:
    (one,) = world.enrolments(1)
    file = csv_file(tmp_path, f"enrolment_id\nx\n{one}\n")
    for target in (tmp_path / "missing" / "faults.csv", tmp_path):
        for how in (("--leave-out-faults",), ("--leave-out-faults", "--dry-run"), ()):
            assert f"--faults {target}: " in refused("bulk", file, *REASON, "--faults", target, *how)
    assert world.one("SELECT count(*) FROM withdrawals.jobs") == 0
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("how", ["same", "link", "input"])
def test_the_file_that_is_read_is_not_overwritten(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    (one,) = world.enrolments(1)
    content = f"enrolment_id\nx\n{one}\n"
    file = csv_file(tmp_path, content)
    target = file
    if how == "link":
        target = tmp_path / "link.csv"
        target.symlink_to(file)
    with file.open() as given:
        monkeypatch.setattr("sys.stdin", given)
        named = "-" if how == "input" else file
        said = refused("bulk", named, *REASON, "--leave-out-faults", "--faults", target)
    assert "is the file that is read" in said
    assert file.read_text() == content
    assert world.one("SELECT count(*) FROM withdrawals.jobs") == 0


def test_an_earlier_file_of_faults_stays_if_there_are_none(world: World, tmp_path: Path) -> None:
    one, two = world.enrolments(2)
    earlier = tmp_path / "faults.csv"
    earlier.write_text("earlier")
    link = tmp_path / "link.csv"
    link.symlink_to(earlier)
    done("bulk", csv_file(tmp_path, f"enrolment_id\n{one}\n"), *REASON, "--faults", link)
    assert earlier.read_text() == "earlier"
    done("bulk", csv_file(tmp_path, f"enrolment_id\nx\n{two}\n"), *REASON, "--leave-out-faults", "--faults", link)
    assert earlier.read_text(encoding="utf-8-sig").startswith("enrolment_id,problem")
    assert link.is_symlink()
    assert not list(tmp_path.glob("*.part"))


def test_faults_can_be_written_to_what_is_no_file(world: World, tmp_path: Path) -> None:
    (one,) = world.enrolments(1)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reading = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        file = csv_file(tmp_path, f"enrolment_id\nx\n{one}\n")
        done("bulk", file, *REASON, "--leave-out-faults", "--faults", pipe)
        assert b"enrolment_id,problem" in os.read(reading, 1000)
    finally:
        os.close(reading)
