"""Files are kept for a day, so that plan and confirmation send them once; whoever sent one reads it, nobody else."""

import errno
import io
import tempfile
import threading
import tracemalloc
from typing import Any
from uuid import uuid4

import pytest
from starlette.testclient import TestClient

from schemas.jobs import FileRequest
from tests.files.conftest import Send
from tests.support.workbooks import raw_xlsx, xlsx
from tests.world import World
from worker.config import Settings
from worker.database import Database
from worker.jobs.files import uploads
from worker.jobs.files.submit import plan_file
from worker.ledger import uploads as ledger
from worker.queue.broker import make_broker
from worker.queue.relay import Relay
from worker.web import sent_files


def test_a_file_is_planned_and_submitted_by_its_upload(send: Send, world: World) -> None:
    one, two = world.enrolments(2)
    planned = send("/file/plan", f"enrolment_id\n{one}\n{two}\n".encode()).json()
    assert planned["faults_file"] is None
    again = send("/file/plan", None, upload=planned["upload"], reason="learner_declined").json()
    assert again["upload"] == planned["upload"]
    made = send("/file", None, upload=planned["upload"], plan_hash=planned["plan"]["plan_hash"])
    assert made.status_code == 202, made.text
    assert made.json()["file"] == {"upload": planned["upload"], "faults_file": None, "check": again["check"]}


def test_an_upload_belongs_to_whoever_sent_it(
    send: Send, client: TestClient, headers: dict[str, str], bearer: Any, world: World
) -> None:
    planned = send("/file/plan", b"enrolment_id\nx\n").json()
    other = world.organisation("Other")
    assert client.get(planned["faults_file"], headers=headers).status_code == 200
    for who in (bearer("approver"), bearer("producer", organisation_id=other)):
        assert client.get(planned["faults_file"], headers=who).status_code == 404
        assert send("/file", None, upload=planned["upload"], who=who).status_code == 404
    assert send("/file", None, upload=str(uuid4())).status_code == 404


def test_an_upload_or_a_file_is_needed_and_not_both(send: Send, world: World) -> None:
    planned = send("/file/plan", b"enrolment_id\n1\n").json()
    assert send("/file", b"enrolment_id\n1\n", upload=planned["upload"]).status_code == 422
    assert send("/file", None).status_code == 422
    assert send("/file", None, upload="x").status_code == 422
    assert send("/file", b"enrolment_id\n1\n", faults="ignore").status_code == 422


def test_the_relay_forgets_files_after_a_day(send: Send, world: World, db: Database, environment: Settings) -> None:
    old, new = (send("/file/plan", f"enrolment_id\n{n}\nx\n".encode()).json()["upload"] for n in (1, 2))
    world.run("UPDATE withdrawals.uploads SET created_at = now() - interval '25 hours' WHERE id = :i", i=old)
    Relay(db, make_broker(environment.broker_url.get_secret_value()), environment).steps._housekeeping.forget()
    assert [str(row[0]) for row in world.run("SELECT DISTINCT upload_id FROM withdrawals.upload_parts")] == [new]
    gone = send("/file", None, upload=old)
    assert (gone.status_code, "kept for a day" in gone.json()["detail"]) == (404, True)


def test_a_known_key_whose_upload_is_gone_is_answered_once_the_file_is_sent_again(send: Send, world: World) -> None:
    """Its content cannot be compared any more: another file with the same key must not be told that it was taken."""
    one, two = world.enrolments(2)
    content = f"enrolment_id\n{one}\n".encode()
    upload = send("/file/plan", content).json()["upload"]
    made = send("/file", None, upload=upload, key="k")
    assert made.status_code == 202, made.text
    world.run("DELETE FROM withdrawals.uploads")
    gone = send("/file", None, upload=upload, key="k")
    assert (gone.status_code, "Send it again" in gone.json()["detail"]) == (404, True)
    again = send("/file", content, key="k")
    assert (again.status_code, again.json()["id"]) == (200, made.json()["id"])
    assert send("/file", f"enrolment_id\n{two}\n".encode(), key="k").status_code == 409


def test_a_requester_keeps_no_more_than_so_many_files(
    send: Send, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "_MOST", 2)
    sent = [send("/file/plan", f"enrolment_id\n{n}\n".encode()).json()["upload"] for n in (1, 2, 3)]
    kept = {str(row[0]) for row in world.run("SELECT id FROM withdrawals.uploads")}
    assert kept == set(sent[1:])


def test_a_file_that_is_forgotten_while_it_is_read_is_read_whole(db: Database, world: World) -> None:
    """A part that is missing would be a shorter file, and its job would leave people out."""
    content = b"enrolment_id\n" + b"1\n" * 1_500_000
    with db.begin() as connection:
        kept = uploads.keep(
            connection, world.organisation_id, requested_by="me", name=None, stream=io.BytesIO(content)
        )  # fmt: skip
    with db.begin() as connection:
        parts = ledger.read_parts(connection, kept.id, "file")
        first = next(parts)
        world.run("DELETE FROM withdrawals.uploads")
        assert len(first) < len(content)
        assert first + b"".join(parts) == content


def test_too_many_workbooks_at_once_are_told_to_come_again(
    send: Send, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also with a known key: it may be the same request, which is answered once there is a slot."""
    (one,) = world.enrolments(1)
    book = xlsx([["enrolment_id"], [one]])
    made = send("/file", book, name="leavers.xlsx", key="known")
    assert made.status_code == 202, made.text
    with monkeypatch.context() as patch:
        patch.setattr(sent_files, "_free_slots", threading.BoundedSemaphore(1))
        with sent_files._free_slots:
            for path, key in (("/file", "known"), ("/file", "new"), ("/file/plan", "new")):
                busy = send(path, book, name="leavers.xlsx", key=key)
                assert (busy.status_code, busy.json()["type"]) == (503, "urn:withdrawals:problem:too_many_files")
                assert busy.headers["Retry-After"] == "10"
            assert send("/file", f"enrolment_id\n{one}\n".encode()).status_code == 202, "CSV needs no slot"
        assert send("/file", book, name="leavers.xlsx", key="new").status_code == 202, "the slot is free again"
    again = send("/file", book, name="leavers.xlsx", key="known")
    assert (again.status_code, again.json()["id"]) == (200, made.json()["id"])


def test_a_full_disk_is_no_other_request(send: Send, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    content = f"enrolment_id\n{world.enrolments(1)[0]}\n".encode()
    assert send("/file", content, key="known").status_code == 202

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("worker.jobs.files.submit.submit_file", full)
    answer = send("/file", content, key="known")
    assert (answer.status_code, answer.json()["type"]) == (503, "urn:withdrawals:problem:no_room")


def test_a_file_that_is_none_is_not_kept(send: Send, world: World) -> None:
    for content in (b"", b"id\n1\n", b"PK\x03\x04", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", b"enrolment_id\n\0\n"):
        assert send("/file/plan", content).status_code == 422, content
    bomb = raw_xlsx('<row r="1"><c r="A1"><v>1</v></c></row><row r="1048576"><c r="XFD1048576"><v>2</v></c></row>')
    for path in ("/file", "/file/plan"):
        answer = send(path, bomb, name="leavers.xlsx")
        assert (answer.status_code, "too large" in answer.json()["detail"]) == (422, True)
    assert world.one("SELECT count(*) FROM withdrawals.uploads") == 0


def test_a_large_file_with_faults_takes_no_memory_of_its_size(db: Database, world: World) -> None:
    """Read twice, looked up, kept and given back: what is in memory are pieces of it."""
    rows, line = 8_000, f"nobody;FIRE;{'x' * 2000}\n".encode()
    with tempfile.TemporaryFile() as file, tempfile.TemporaryFile() as faults, tracemalloc_peak() as peak:
        file.write(b"user id;series;remark\n")
        for _ in range(rows):
            file.write(line)
        request = FileRequest(reason="not_required")
        found = plan_file(db, world.organisation_id, request, file, faults_to=faults)
        with db.begin() as connection:
            kept = uploads.keep(connection, world.organisation_id, requested_by="me", name="a.csv", stream=file)
        with uploads.opened(db, kept) as again:
            assert again.seek(0, 2) > rows * len(line)
        assert faults.seek(0, 2) > rows * len(line)
    assert found.check.fault_count == rows
    assert peak() < rows * len(line) / 2, f"{peak():,} bytes for a file of {rows * len(line):,}"


class tracemalloc_peak:  # noqa: N801
    """Measures the most memory that Python had while it was open."""

    def __enter__(self) -> Any:
        tracemalloc.start()
        return lambda: self.most

    def __exit__(self, *_: object) -> None:
        self.most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
