"""Any argument, file or setting is accepted, or refused with its place and what to do; never a traceback."""

import itertools
import json
from datetime import datetime
from pathlib import Path

import psycopg
import pytest
from pydantic import ValidationError
from sqlalchemy.exc import OperationalError

from schemas.jobs import MAX_FILE_IDS, MAX_IDS, FileRequest, JobRequest
from tests.support.commandline import csv_file, done, program, refused, withdrawals
from tests.world import World, assert_balanced, decide_due, id_file
from worker.config import Settings, settings
from worker.database import Database
from worker.errors import IdempotencyConflictError, InvalidInputError
from worker.jobs.files.submit import submit_file

REASON = ("--reason", "not_required")


def nothing_written(world: World) -> bool:
    return not world.run("SELECT 1 FROM withdrawals.jobs") and not world.run("SELECT 1 FROM withdrawals.audit")


# Idempotency


def test_the_same_key_and_request_is_the_same_job(world: World, tmp_path: Path) -> None:
    one, two = world.enrolments(2)
    first = done("submit", one, two, *REASON, "--key", "k")
    assert done("submit", two, one, *REASON, "--key", "k")["id"] == first["id"], "the order of ids says nothing"
    assert "used before" in withdrawals("submit", one, two, *REASON, "--key", "k").err
    file = csv_file(tmp_path, f"enrolment_id\n{one}\n{two}\n")
    by_file = done("bulk", file, *REASON, "--key", "f")
    again = done("bulk", csv_file(tmp_path, f"ENROLMENT_ID\r\n{two}\r\n{one}\r\n", "b.csv"), *REASON, "--key", "f")
    assert again["id"] == by_file["id"]
    event = done("deactivate", "anna", "--key", "e")
    assert done("deactivate", "anna", "--key", "e")["job_id"] == event["job_id"]
    assert len(world.run("SELECT 1 FROM withdrawals.audit")) == 3, "a repeated request is no act"


def test_a_key_that_was_used_for_another_request_is_a_conflict(world: World, tmp_path: Path) -> None:
    one, two = world.enrolments(2)
    done("submit", one, *REASON, "--key", "k")
    others = [
        ("submit", two, *REASON),
        ("submit", one, "--reason", "learner_declined"),
        ("submit", one, *REASON, "--note", "x"),
        ("submit", "--learner", "anna", *REASON),
        ("bulk", csv_file(tmp_path, f"enrolment_id\n{two}\n"), *REASON),
        ("bulk", "--filter", "series_id=1", *REASON),
        ("deactivate", "anna"),
        ("reactivate", "anna"),
    ]
    for words in others:
        assert "key was used before, for another request" in refused(*words, "--key", "k", "--json"), words
    assert world.one("SELECT count(*) FROM withdrawals.jobs") == 1
    assert world.status(two) == "in_progress"


def test_an_event_sent_again_by_its_key_is_no_newer_event(world: World) -> None:
    """Contract: a known key answers before anything else; a late retry must not undo what came between."""
    came_back = done("reactivate", "anna", "--key", "r")
    later = done("deactivate", "anna")
    assert done("reactivate", "anna", "--key", "r") == came_back
    assert done("jobs", "show", later["job_id"])["state"] == "queued", "not superseded by the retry"


def test_a_key_belongs_to_its_organisation(world: World) -> None:
    world.organisation("Other")
    first = done("submit", 1, *REASON, "--key", "k", "--organisation", "Acme")
    second = done("submit", 1, *REASON, "--key", "k", "--organisation", "Other")
    assert first["id"] != second["id"]


def test_an_invalid_key_is_refused(world: World) -> None:
    for key in ("", " ", "k" * 256):
        assert "--key" in refused("submit", 1, *REASON, "--key", key)
    assert nothing_written(world)


# Values


WRONG_WORDS: list[tuple[tuple[object, ...], str]] = [
    (("submit", 1, "--reason", "bored"), "reason"),
    (("submit", 1), "reason"),
    (("bulk", "x.csv", "--reason", "bored"), "reason"),
    (("submit", *REASON), "give enrolment ids"),
    (("submit", 1, "--learner", "anna", *REASON), "not both"),
    (("submit", "one", *REASON), "integer"),
    (("submit", 0, *REASON), "enrolment_ids"),
    (("submit", "--", "-1"), "reason"),
    (("submit", *REASON, "--", -1), "enrolment_ids"),
    (("submit", 2**63, *REASON), "enrolment_ids"),
    (("submit", 1, *REASON, "--source", "hr"), "source"),
    (("submit", 1, *REASON, "--source", "correction"), "enrolment_error (rule 1)"),
    (("submit", 1, *REASON, "--note", "n" * 2001), "note"),
    (("submit", "--learner", "", *REASON), "learner_external_id"),
    (("submit", "--learner", "x" * 256, *REASON), "learner_external_id"),
    (("deactivate", " "), "external_id"),
    (("bulk", *REASON), "FILE.csv"),
    (("bulk", "x.csv", "--filter", "series_id=1", *REASON), "not both"),
    (("bulk", "--filter", "series_id", *REASON), "NAME=VALUE"),
    (("bulk", "--filter", "colour=red", *REASON), "colour"),
    (("bulk", "--filter", "series_id=one", *REASON), "series_id"),
    (("bulk", "--filter", "learner_ids=1,x", *REASON), "learner_ids"),
    (("bulk", "--filter", f"series_id={2**63}", *REASON), "series_id"),
    (("bulk", "--filter", "enrolled_after=2026", *REASON), "enrolled_after"),
    (("bulk", "--filter", "enrolled_after=2026-03-01", *REASON), "enrolled_after"),
    (("jobs", "show", "one"), "integer"),
    (("dead-letters", "list", "--code", "bored"), "code"),
    (("dead-letters", "list", "--limit", "0"), "limit"),
    (("no-such-command",), "no-such-command"),
]


def test_a_wrong_word_is_wrong_use_and_named(world: World, subtests: pytest.Subtests) -> None:
    for words, said in WRONG_WORDS:
        with subtests.test(" ".join(map(str, words))[:60]):
            assert said in refused(*words)
    assert nothing_written(world)


def test_an_unknown_organisation_is_named_with_those_that_exist(world: World) -> None:
    ran = withdrawals("submit", 1, *REASON, "--organisation", "Nobody")
    assert ran.code in (1, 2)
    assert "'Nobody'" in ran.err
    assert "'Acme'" in ran.err
    assert nothing_written(world)


def test_the_enrolment_of_another_organisation_is_not_found(world: World, db: Database, environment: Settings) -> None:
    theirs = world.enrolment(organisation_id=world.organisation("Other"))
    made = done("submit", theirs, theirs + 1000, *REASON, "--organisation", "Acme")
    assert made["accepted"] == 2
    decide_due(db, environment)
    assert set(world.outcomes(made["id"]).values()) == {"not_found"}
    assert world.status(theirs) == "in_progress"
    assert_balanced(db)


def test_json_takes_a_hundred_thousand_ids_and_no_more(world: World) -> None:
    ids = world.enrolments(1)
    assert done("submit", *(ids * MAX_IDS), *REASON)["duplicates"] == MAX_IDS - 1
    assert str(MAX_IDS) in refused("submit", *(ids * (MAX_IDS + 1)), *REASON)
    assert world.one("SELECT count(*) FROM withdrawals.jobs") == 1


def test_bytes_that_are_no_text_are_refused_and_not_stored(world: World) -> None:
    assert program(b"deactivate", b"anna\xff").code == 2
    for words in (
        ("deactivate", "anna\udcff"),  # as Python hands such bytes on
        ("submit", 1, *REASON, "--note", "\udcff"),
        ("submit", 1, *REASON, "--as", "\udcff"),
        ("submit", 1, *REASON, "--key", "\udcff"),
        ("submit", "--learner", "\udcff", *REASON),
        ("bulk", "\udcff.csv", *REASON),
    ):
        assert "UTF-8" in refused(*words)
    assert nothing_written(world)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("submit", 1, *REASON, "--as", "x" * 256), "--as: give at most 255"),
        (("brake", "reject", 1, "--note", "x" * 2001), "note"),
    ],
)
def test_words_that_are_too_long_to_be_kept_are_refused(world: World, words: tuple[object, ...], says: str) -> None:
    assert says in refused(*words)


def test_an_empty_list_and_a_list_of_rows_are_refused_by_the_schema() -> None:
    for ids in ([], [{"id": 1, "reason": "not_required"}], ["1"], [1.5], [True], None):
        with pytest.raises(ValidationError):
            JobRequest.model_validate({"reason": "not_required", "enrolment_ids": ids})


# Times


UNSURE = [
    "2990-01-01T10:00:00", "2990-01-01 10:00", "2990", "29900101", "5", "tomorrow", "2990-02-30", "",
    "2990-01-01T25:00:00Z", "9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00+14:00", "9999-12-31",
]  # fmt: skip


def test_an_ambiguous_or_impossible_time_is_refused(world: World, subtests: pytest.Subtests) -> None:
    for when, words in itertools.product(UNSURE, [("submit", 1, *REASON), ("deactivate", "anna")]):
        with subtests.test(when, command=words[0]):
            assert "effective_at" in refused(*words, "--effective-at", when)
    assert nothing_written(world)


ENDS_OF_DAYS = [
    ("UTC", "2990-06-01", "2990-06-02T00:00:00Z"),
    ("Europe/Amsterdam", "2027-01-15", "2027-01-15T23:00:00Z"),
    ("Europe/Amsterdam", "2027-07-15", "2027-07-15T22:00:00Z"),
    ("Europe/Amsterdam", "2027-03-28", "2027-03-28T22:00:00Z"),  # a day of 23 hours
    ("Europe/Amsterdam", "2027-10-31", "2027-10-31T23:00:00Z"),  # a day of 25 hours
    ("Pacific/Kiritimati", "2027-01-01", "2027-01-01T10:00:00Z"),
    ("America/Los_Angeles", "2027-12-31", "2028-01-01T08:00:00Z"),
]


def test_a_date_alone_is_the_end_of_that_day_where_the_organisation_is(world: World, subtests: pytest.Subtests) -> None:
    for zone in {zone for zone, *_ in ENDS_OF_DAYS}:
        world.organisation(zone, zone)
    for zone, day, end in ENDS_OF_DAYS:
        with subtests.test(day, zone=zone):
            made = done("submit", 1, *REASON, "--effective-at", day, "--organisation", zone)
            assert datetime.fromisoformat(made["effective_at"]) == datetime.fromisoformat(end)
            assert made["state"] == "scheduled"


def test_a_time_with_its_offset_is_taken_and_one_that_has_passed_is_due(world: World) -> None:
    later = done("submit", 1, *REASON, "--effective-at", "2990-01-01T10:00:00+02:00")
    assert (later["effective_at"], later["state"]) == ("2990-01-01T08:00:00Z", "scheduled")
    assert done("submit", 1, *REASON, "--effective-at", "2020-01-01T10:00:00Z")["state"] == "queued"


def test_a_time_zone_that_nobody_knows_is_named(world: World) -> None:
    world.organisation("Far", "Mars/Olympus")
    said = refused("submit", 1, *REASON, "--effective-at", "2990-01-01", "--organisation", "Far")
    assert "Mars/Olympus" in said


# Files

BAD_FILES: dict[str, tuple[str | bytes, str]] = {
    "nothing": ("", "empty"),
    "a header alone": ("enrolment_id\n", "no rows"),
    "blank rows alone": ("enrolment_id\n\n  \n", "no rows"),
    "no header": ("1\n2\n", "Line 1: the header has no column `enrolment_id`"),
    "another header": ("id,name\n1,anna\n", "Line 1: the header has no column `enrolment_id`"),
    "a reason in each row": ("enrolment_id,reason\n1,not_required\n", "one bulk job has one reason"),
    "a reason in capitals": ("enrolment_id, Reason \n1,not_required\n", "one bulk job has one reason"),
    "a column twice": ("enrolment_id,enrolment_id\n1,2\n", "has the column `enrolment_id` twice"),
    "a word for a number": ("enrolment_id\n1\ntwo\n3\n", "Line 3: enrolment_id: 'two'"),
    "zero": ("enrolment_id\n0\n", "Line 2: enrolment_id: '0'"),
    "a negative number": ("enrolment_id\n-1\n", "Line 2: enrolment_id: '-1'"),
    "a number too large": (f"enrolment_id\n{2**63}\n", "Line 2: enrolment_id"),
    "a number without end": ("enrolment_id\n" + "9" * 5000 + "\n", "Line 2: enrolment_id"),
    "a decimal number": ("enrolment_id\n1.0\n", "Line 2: enrolment_id: '1.0'"),
    "digits of another script": ("enrolment_id\n\u0661\n", "Line 2: enrolment_id"),
    "an empty cell": ("enrolment_id,name\n,anna\n", "Line 2: enrolment_id: ''"),
    "a row too long": ("enrolment_id\n1\n1,2\n", "Line 3: the line has 2 columns"),
    "no delimiter that is known": ("enrolment_id%name\n1%anna\n", "Line 1: the header has no column `enrolment_id`"),
    "a quote left open": ('enrolment_id,name\n1,"anna\n2,ben\n', "Line 2: not valid CSV"),
    "text after a quote": ('enrolment_id,name\n1,"an"na\n', "Line 2"),
    "a NUL byte": (b"enrolment_id\n1\n\x002\n", "Line 3: has a NUL byte"),
    "half of UTF-16": ("enrolment_id\n1\n".encode("utf-16")[:-1], "UTF-16"),
    "no text": (b"enrolment_id,name\n1,Ren\x81\n", "Windows-1252"),
    "no text far below": (b"enrolment_id,name\n" + b"1,anna\n" * 20_000 + b"2,Ren\x81\n", "Windows-1252"),
    "a line without end": ("enrolment_id,name\n1," + "x" * 1_000_001 + "\n", "Line 2: longer than"),
    "a cell without end": ("enrolment_id,name\n1," + "x" * 200_000 + "\n", "Line 2"),
    "a bad row after many": ("enrolment_id\n" + "1\n" * 30_000 + "x\n", "Line 30002"),
}


def test_a_bad_file_is_refused_whole_and_says_where(world: World, tmp_path: Path, subtests: pytest.Subtests) -> None:
    for what, (content, said) in BAD_FILES.items():
        file = csv_file(tmp_path, content)
        for dry_run in ((), ("--dry-run",)):
            with subtests.test(what, dry_run=bool(dry_run)):
                complaint = refused("bulk", file, *REASON, *dry_run)
                assert said in complaint
                assert len(complaint) < 1000
    assert nothing_written(world)


GOOD_FILES = {
    "a byte order mark": b"\xef\xbb\xbfenrolment_id\n{0}\n{1}\n",
    "semicolons": b"enrolment_id;name\n{0};anna\n{1};ben\n",
    "Latin-1": "enrolment_id,name\n{0},Ren\xe9\n{1},\n".encode("latin-1"),
    "Windows' ends of lines": b"enrolment_id\r\n{0}\r\n{1}\r\n",
    "old ends of lines": b"enrolment_id\r{0}\r{1}\r",
    "no last end of line": b"enrolment_id\n{0}\n{1}",
    "blank rows between": b"enrolment_id\n{0}\n\n  \n{1}\n\n",
    "spaces and zeros": b"enrolment_id\n 00{0} \n{1}\n",
    "capitals and more columns": b"Name,ENROLMENT_ID\nanna,{0}\nben,{1}\n",
    "newlines inside quotes": b'enrolment_id,note\n{0},"one\ntwo"\n"{1}","a ""quoted"" word, and a comma"\n',
    "a long cell": b"enrolment_id,note\n{0}," + b"x" * 100_000 + b"\n{1},\n",
}


def test_a_file_as_programs_write_them_is_taken(world: World, tmp_path: Path, subtests: pytest.Subtests) -> None:
    ids = world.enrolments(2)
    for what, template in GOOD_FILES.items():
        content = template.replace(b"{0}", str(ids[0]).encode()).replace(b"{1}", str(ids[1]).encode())
        with subtests.test(what):
            made = done("bulk", csv_file(tmp_path, content), *REASON)
            assert (made["accepted"], made["duplicates"]) == (2, 0)
            assert world.one("SELECT enrolment_ids FROM withdrawals.chunks WHERE job_id = :j", j=made["id"]) == ids


def test_a_broken_row_behind_quoted_newlines_is_named_by_its_line_in_the_file(world: World, tmp_path: Path) -> None:
    content = 'enrolment_id,note\n1,"one\ntwo\nthree"\nx,\n'
    assert "Line 5: enrolment_id: 'x'" in refused("bulk", csv_file(tmp_path, content), *REASON)


def test_a_file_that_is_not_there_or_no_file_is_named(world: World, tmp_path: Path) -> None:
    assert "missing.csv" in refused("bulk", tmp_path / "missing.csv", *REASON)
    assert str(tmp_path) in refused("bulk", tmp_path, *REASON)
    assert "missing.csv" in refused("load", tmp_path / "missing.csv", "--organisation", "New")


def test_a_file_of_two_hundred_thousand_ids_is_one_job(world: World, db: Database) -> None:
    given = id_file(itertools.chain(range(1, 200_001), range(1, 11)))
    made = submit_file(db, world.requester(), FileRequest(reason="not_required"), given).submitted.job
    assert (made.accepted, made.duplicates, made.in_flight) == (200_000, 10, 200_000)
    sizes = world.run("SELECT count(*), min(size), max(size) FROM withdrawals.chunks")
    assert tuple(sizes[0]) == (200, 1000, 1000)
    assert_balanced(db)


@pytest.mark.parametrize("first", [[1, 2, 2, 30, 4], [1, 2, 2, 4, 30]])
def test_a_file_is_known_by_its_ids_in_whatever_order_they_come(db: Database, world: World, first: list[int]) -> None:
    """Those that come in order are hashed as they come, others by the server."""
    requester, request = world.requester(), FileRequest(reason="not_required")
    made = submit_file(db, requester, request, id_file(first)).submitted
    again = [submit_file(db, requester, request, id_file(ids)).submitted for ids in (sorted(first), first[::-1])]
    assert made.created and (made.job.accepted, made.job.duplicates) == (4, 1)
    assert [(one.created, one.job.id) for one in again] == [(False, made.job.id)] * 2
    with pytest.raises(IdempotencyConflictError):
        submit_file(db, requester, request, id_file([1, 2, 4, 30]))


def test_a_file_with_a_row_too_many_is_refused_and_nothing_is_written(
    world: World, db: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert MAX_FILE_IDS == 1_000_000
    monkeypatch.setattr("worker.jobs.files.rows.MAX_FILE_IDS", 5000)
    request = FileRequest(reason="not_required")
    with pytest.raises(InvalidInputError, match="up to 5,000 rows"):
        submit_file(db, world.requester(), request, id_file(range(1, 5002)))
    assert nothing_written(world)
    file = csv_file(tmp_path, "enrolment_id\n" + "".join(f"{n}\n" for n in range(1, 5002)))
    for dry_run in ((), ("--dry-run",)):
        assert "up to 5,000 rows" in refused("bulk", file, *REASON, *dry_run)
    assert nothing_written(world)
    assert submit_file(db, world.requester(), request, id_file(range(1, 5001))).submitted.job.accepted == 5000


LOAD_HEADER = "enrolment_id,learner_external_id,series_code,pathway_title,status,enrolled_at,progress\n"
BAD_LOADS = {
    "a column missing": ("enrolment_id,learner_external_id\n1,anna\n", "series_code"),
    "no learner": (LOAD_HEADER + "1, ,safety,,,,\n", "Line 2: learner_external_id"),
    "an id twice": (
        LOAD_HEADER + "1,anna,safety,,,,\n1,anna,welding,,,,\n",
        "enrolment_id 1 is also on line 2",
    ),
    "no time": (LOAD_HEADER + "1,anna,safety,,,yesterday,\n", "Line 2: enrolled_at"),
    "a time before all times": (LOAD_HEADER + "1,anna,safety,,,0001-01-01,\n", "Line 2: enrolled_at"),
    "a time after all times": (LOAD_HEADER + "1,anna,safety,,,9999-12-31T23:59:59-14:00,\n", "Line 2: enrolled_at"),
    "no number": (LOAD_HEADER + "1,anna,safety,,,,NaN\n", "Line 2: progress"),
    "two active enrolments in one series": (LOAD_HEADER + "1,anna,safety,,,,\n2,anna,safety,,,,\n", "two active"),
    "rows missing": (LOAD_HEADER, "no rows"),
}


def test_a_bad_load_is_refused_whole_and_says_where(world: World, tmp_path: Path, subtests: pytest.Subtests) -> None:
    for what, (content, said) in BAD_LOADS.items():
        with subtests.test(what):
            assert said in refused("load", csv_file(tmp_path, content), "--organisation", "New")
    assert not world.run("SELECT 1 FROM lms.organisations WHERE name = 'New'")


def test_a_load_never_takes_over_the_enrolment_of_another_organisation(world: World, tmp_path: Path) -> None:
    theirs = world.enrolment()
    content = f"{LOAD_HEADER}{theirs},anna,safety,,,,\n"
    assert "another organisation" in refused("load", csv_file(tmp_path, content), "--organisation", "New")


# Settings and servers


WRONG_SETTINGS = [
    ("WITHDRAWALS_COLOUR", "red", "WITHDRAWALS_COLOUR: unknown setting"),
    ("WITHDRAWALS_PORT", "http", "WITHDRAWALS_PORT"),
    ("WITHDRAWALS_PORT", "70000", "WITHDRAWALS_PORT"),
    ("WITHDRAWALS_THREADS", "0", "WITHDRAWALS_THREADS"),
    ("WITHDRAWALS_LEASE_SECONDS", "nan", "WITHDRAWALS_LEASE_SECONDS"),
    ("WITHDRAWALS_LOG_FORMAT", "xml", "WITHDRAWALS_LOG_FORMAT"),
    ("WITHDRAWALS_DATABASE_ROLE", "x; DROP TABLE y", "WITHDRAWALS_DATABASE_ROLE"),
    ("DATABASE_URL", "mysql://localhost/x", "DATABASE_URL"),
    ("DATABASE_URL", "hunter2", "DATABASE_URL"),
]


def test_a_wrong_setting_is_named_and_its_value_kept_out_of_sight(
    environment: Settings, monkeypatch: pytest.MonkeyPatch, subtests: pytest.Subtests
) -> None:
    for variable, value, said in WRONG_SETTINGS:
        with subtests.test(variable, value=value), monkeypatch.context() as patched:
            patched.setenv(variable, value)
            complaint = refused("check")
            assert said in complaint
            assert "hunter2" not in complaint


def test_every_wrong_setting_is_named_at_once(environment: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WITHDRAWALS_COLOUR", "red")
    monkeypatch.setenv("WITHDRAWALS_PORT", "http")
    ran = withdrawals("worker")
    assert ran.code == 2
    assert "WITHDRAWALS_COLOUR" in ran.err
    assert "WITHDRAWALS_PORT" in ran.err


def test_a_database_that_cannot_be_reached_is_a_message(environment: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://me:hunter2@127.0.0.1:1/x")
    for words in (
        ("check",),
        ("submit", 1, *REASON),
        ("jobs", "list"),
        ("migrate",),
        ("load", "x", "--organisation", "y"),
    ):
        ran = withdrawals(*words)
        assert ran.code == 1
        assert "DATABASE_URL" in ran.err
        assert "hunter2" not in ran.err


def test_a_database_that_was_never_migrated_says_how(environment: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    url = environment.database_url.get_secret_value()
    name = url.split("?")[0].rsplit("/", 1)[1]
    monkeypatch.setenv("DATABASE_URL", url.replace(f"/{name}", "/postgres"))
    assert "withdrawals migrate" in refused("jobs", "list")


def test_help_is_given_without_any_server(environment: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://127.0.0.1:1/x")
    for words in ((), ("jobs",), ("dead-letters", "resolve"), ("bulk",)):
        ran = withdrawals(*words, "--help")
        assert ran.code == 0
        assert "Usage" in ran.out


def test_json_keeps_names_as_they_are(world: World) -> None:
    done("submit", "--learner", "renée", *REASON, "--note", "für Zoë")
    ran = program("jobs", "list", "--json", environment={"PYTHONIOENCODING": "utf-8"})
    assert json.loads(ran.out)["items"][0]["note"] == "für Zoë"


def test_a_database_that_refuses_is_a_message_and_never_a_traceback(
    environment: Settings, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A login without rights on the platform's tables cannot migrate, and the message says so."""
    login = f"stranger_{environment.database_url.get_secret_value().rsplit('_', 1)[-1].split('?')[0]}"
    world.run(f"CREATE ROLE {login} LOGIN")
    monkeypatch.setenv(
        "DATABASE_URL", environment.database_url.get_secret_value().replace("//withdrawals@", f"//{login}@")
    )
    settings.cache_clear()
    ran = withdrawals("migrate")
    assert ran.code == 1
    assert "InsufficientPrivilege" in ran.err
    assert "Traceback" not in ran.err
    world.run(f"DROP ROLE {login}")


@pytest.mark.parametrize("command", ["submit", "bulk", "deactivate"])
def test_a_request_whose_answer_is_lost_names_the_key_that_repeats_it(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """The caller cannot repeat a request under a key that was never shown."""
    enrolment_id = world.enrolment("anna")
    words: dict[str, tuple[object, ...]] = {
        "submit": ("submit", enrolment_id, *REASON),
        "bulk": ("bulk", csv_file(tmp_path, f"enrolment_id\n{enrolment_id}\n"), *REASON),
        "deactivate": ("deactivate", "anna"),
    }

    def cut_off(*_: object, **__: object) -> None:
        raise OperationalError("COMMIT", {}, psycopg.OperationalError("the connection is lost"))

    with monkeypatch.context() as patch:
        for name in ("jobs.submit", "bulk_files.submit_file"):
            patch.setattr(f"ops.cli.{name}", cut_off)
        patch.setattr("worker.people.events.record", cut_off)
        lost = withdrawals(*words[command])
    assert lost.code == 1
    key = lost.err.split("--key ")[1].split()[0]
    assert done(*words[command], "--key", key)["idempotency_key"] == key
