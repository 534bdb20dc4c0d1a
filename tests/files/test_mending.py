"""Faults come back as a file, which is mended and sent again under the same batch: nothing is done twice."""

import io
import re
from typing import Any

import openpyxl
import pytest
from starlette.testclient import TestClient

from tests.files.conftest import Send
from tests.support.workbooks import ods, xlsx
from tests.world import World, assert_balanced, decide_due
from worker.config import Settings
from worker.database import Database


def faults(client: TestClient, headers: dict[str, str], answer: Any) -> bytes:
    """The file of faults that an answer names."""
    found = client.get(answer["faults_file"], headers=headers)
    assert found.status_code == 200, found.text
    return found.content


def test_a_plan_names_every_fault_and_keeps_the_file(
    send: Send, client: TestClient, headers: dict[str, str], world: World
) -> None:
    one, two = world.enrolments(2)
    content = f"Enrolment ID;name\n{one};a\nx;b\n{two};c\n0;d\n".encode()
    planned = send("/file/plan", content).json()
    check = planned["check"]
    assert (check["format"], check["rows"], check["good"], check["fault_count"]) == ("csv", 4, 2, 2)
    assert check["columns"] == {"enrolment_id": "Enrolment ID"}
    assert [fault["line"] for fault in check["faults"]] == [3, 5]
    assert planned["plan"]["outcomes"] == {"withdrawn": 2}
    assert faults(client, headers, planned).decode("utf-8-sig").splitlines() == [
        "Enrolment ID;name;problem",
        "x;b;Line 3: Enrolment ID: 'x' is not a positive whole number",
        "0;d;Line 5: Enrolment ID: '0' is not a positive whole number",
    ]
    assert world.one("SELECT count(*) FROM withdrawals.jobs") == 0
    refused = send("/file", None, upload=planned["upload"], plan_hash=planned["plan"]["plan_hash"])
    assert refused.status_code == 422
    assert refused.json()["fault_count"] == 2
    taken = send("/file", None, upload=planned["upload"], plan_hash=planned["plan"]["plan_hash"], faults="leave_out")
    assert taken.status_code == 202, taken.text
    assert (taken.json()["accepted"], taken.json()["file_name"]) == (2, "leavers.csv")
    assert taken.json()["file"]["check"]["fault_count"] == 2


def test_good_rows_are_taken_and_the_mended_ones_follow_in_the_same_batch(
    send: Send, client: TestClient, headers: dict[str, str], world: World, db: Database, environment: Settings
) -> None:
    one, two, three = world.enrolments(3)
    first = send("/file", f"enrolment_id\n{one}\noops\n{three}\n".encode(), faults="leave_out", key="k").json()
    assert first["accepted"] == 2
    repeated = send("/file", f"enrolment_id\n{one}\noops\n{three}\n".encode(), faults="leave_out", key="k")
    assert (repeated.status_code, repeated.json()["id"]) == (200, first["id"])
    assert faults(client, headers, repeated.json()["file"]) == faults(client, headers, first["file"])
    mended = faults(client, headers, first["file"]).replace(b"oops", str(two).encode())
    second = send("/file", mended + f"{one},again\n".encode(), batch=first["id"], key="m")
    assert second.status_code == 202, second.text
    assert (second.json()["accepted"], second.json()["duplicates"]) == (1, 1)
    assert second.json()["file"]["check"]["taken_before"] == 1
    third = send("/file", mended, batch=second.json()["id"])
    assert (third.status_code, third.json()["type"]) == (409, "urn:withdrawals:problem:nothing_new")
    again = send("/file", mended + f"{one},again\n".encode(), batch=first["id"], key="m")
    assert (again.status_code, again.json()["id"]) == (200, second.json()["id"])
    decide_due(db, environment)
    assert [world.status(i) for i in (one, two, three)] == ["withdrawn"] * 3
    assert world.one("SELECT count(*) FROM withdrawals.jobs") == 2
    assert_balanced(db)


def test_who_was_withdrawn_by_a_batch_and_enrolled_again_is_left_alone_by_it(
    send: Send, world: World, db: Database, environment: Settings
) -> None:
    """The row names a learner and a Series, so that looked up anew it would mean the new enrolment."""
    anna = world.enrolment("anna")
    code = world.one("SELECT code FROM lms.series")
    content = f"user id,series\nanna,{code}\nnobody,{code}\n".encode()
    first = send("/file", content, faults="leave_out").json()
    decide_due(db, environment)
    world.run(
        """INSERT INTO lms.enrolments (organisation_id, learner_id, series_id, status)
        SELECT organisation_id, learner_id, series_id, 'in_progress' FROM lms.enrolments WHERE id = :e""",
        e=anna,
    )
    world.run("INSERT INTO lms.learners (organisation_id, external_id) VALUES (:o, 'nobody')", o=world.organisation_id)
    planned = send("/file/plan", content, batch=first["id"]).json()
    assert (planned["check"]["taken_before"], planned["plan"]) == (1, None)
    again = send("/file", content, batch=first["id"], faults="leave_out")
    assert (again.status_code, again.json()["fault_count"]) == (422, 1), "anna is taken, and nobody has a fault"
    assert world.one("SELECT count(*) FROM lms.enrolments WHERE status = 'in_progress'") == 1


def test_when_only_faults_are_new_they_are_named(send: Send, world: World) -> None:
    (one,) = world.enrolments(1)
    content = f"enrolment_id\n{one}\noops\n".encode()
    first = send("/file", content, faults="leave_out").json()
    again = send("/file", content, faults="leave_out", batch=first["id"])
    assert (again.status_code, again.json()["type"]) == (422, "urn:withdrawals:problem:invalid")
    assert "Line 3: enrolment_id: 'oops'" in again.json()["detail"]
    none = send("/file", f"enrolment_id\n{one}\n".encode(), faults="leave_out", batch=first["id"])
    assert (none.status_code, none.json()["type"]) == (409, "urn:withdrawals:problem:nothing_new")


@pytest.mark.parametrize("make", [xlsx, ods])
def test_a_workbook_comes_back_as_a_workbook_of_text(
    make: Any, send: Send, client: TestClient, headers: dict[str, str], world: World
) -> None:
    """As CSV, a spreadsheet would read the external id `0012` as a number, and the mended row would be wrong again."""
    world.learner("0012")
    content = make([["user id", "series"], ["0012", "=cmd"], ["0013", "X"]])
    planned = send("/file/plan", content, name="leavers.xlsx").json()
    book = openpyxl.load_workbook(io.BytesIO(faults(client, headers, planned)))
    rows = [[cell.value for cell in row] for row in book.worksheets[0].iter_rows()]
    assert [row[:2] for row in rows] == [["user id", "series"], ["0012", "=cmd"], ["0013", "X"]]
    assert {cell.data_type for row in book.worksheets[0].iter_rows() for cell in row} == {"s"}
    assert "no Series" in str(rows[1][2])


def test_a_batch_has_one_reason_and_none_of_its_jobs_is_cancelled(
    send: Send, world: World, client: TestClient, bearer: Any
) -> None:
    one, two = world.enrolments(2)
    first = send("/file", f"enrolment_id\n{one}\n".encode()).json()["id"]
    more = f"enrolment_id\n{two}\n".encode()
    assert "rule 5" in send("/file", more, batch=first, reason="learner_declined").json()["detail"]
    listed = client.post("/v1/jobs", headers={**bearer("producer"), "Idempotency-Key": "l"},
                         json={"reason": "not_required", "enrolment_ids": [two]}).json()["id"]  # fmt: skip
    for unknown in (listed, 10**18):
        assert send("/file", more, batch=unknown).status_code == 404
    assert send("/file", more, batch="x").status_code == 422
    assert send("/file", more, batch=first, who=bearer("producer")).status_code == 404, "another producer's job"
    client.post(f"/v1/jobs/{first}/cancel", headers=bearer("operator"))
    answer = send("/file", more, batch=first)
    assert (answer.status_code, f"job {first} was cancelled" in answer.json()["detail"]) == (409, True)


def test_a_file_without_a_good_row_is_refused_also_when_faults_may_be_left_out(send: Send, world: World) -> None:
    answer = send("/file", b"enrolment_id\nx\ny\n", faults="leave_out")
    assert (answer.status_code, answer.json()["fault_count"]) == (422, 2)
    assert world.one("SELECT count(*) FROM withdrawals.jobs") == 0
    planned = send("/file/plan", b"enrolment_id\nx\ny\n")
    assert (planned.status_code, planned.json()["plan"]) == (200, None)


def test_no_learner_stands_in_logs_or_addresses(
    send: Send, client: TestClient, headers: dict[str, str], world: World, capfd: pytest.CaptureFixture[str]
) -> None:
    content = b"email,series\nanna.smith@example.org,FIRE\n"
    planned = send("/file/plan", content).json()
    refused = send("/file", content)
    assert refused.status_code == 422
    faults(client, headers, planned)
    said = "".join(capfd.readouterr()) + planned["faults_file"] + refused.text
    assert not re.search("anna|smith|example.org", said)
