"""Every command of the contract, in the order of an operator's day. Exit codes: 0 done, 1 found wrong, 2 wrong use."""

import getpass
import itertools
import json
from pathlib import Path

import pytest

from tests.support.commandline import csv_file, done, program, refused, withdrawals
from tests.world import World, assert_balanced, decide_due
from worker.config import Settings
from worker.database import Database

LOAD = """enrolment_id,learner_external_id,series_code,pathway_title,status,enrolled_at,progress
1,anna,safety,,in_progress,2026-01-01,40
2,anna,welding,Onboarding,waiting_to_start,,
3,ben,safety,,mastered,2026-01-01T08:00:00+01:00,100
4,ben,welding,,no_attempts,,
"""
JOB = {
    "id", "state", "reason", "source", "requested_by", "note", "created_at", "effective_at", "accepted", "duplicates",
    "outcomes", "in_flight", "open_dead_letters",
}  # fmt: skip
LETTER = {
    "id", "code", "state", "job_id", "job_ids", "count", "fingerprint", "message", "evidence", "remedies", "opened_at",
    "attempts", "notes",
}  # fmt: skip


class Audit:
    """What is on record of the acts of people."""

    def __init__(self, world: World) -> None:
        self._world = world

    def rows(self) -> list[tuple[str, str, int | None, str | None]]:
        found = self._world.run("SELECT actor, action, job_id, note FROM withdrawals.audit ORDER BY id")
        return [tuple(row) for row in found]


@pytest.fixture
def audit(world: World) -> Audit:
    return Audit(world)


def test_load_fills_the_platform_and_a_second_load_changes_nothing(world: World, tmp_path: Path) -> None:
    file = csv_file(tmp_path, LOAD)
    assert done("load", file, "--organisation", "New") == {"organisation": "New", "created": 4, "existing": 0}
    world.run("UPDATE lms.enrolments SET status = 'withdrawn' WHERE id = 1")
    assert done("load", file, "--organisation", "New") == {"organisation": "New", "created": 0, "existing": 4}
    assert world.status(1) == "withdrawn"
    rows = world.run("""SELECT e.id, l.external_id, s.code, p.title, e.status, e.progress FROM lms.enrolments e
        JOIN lms.learners l ON l.id = e.learner_id JOIN lms.series s ON s.id = e.series_id
        LEFT JOIN lms.pathways p ON p.id = e.pathway_id WHERE e.id IN (2, 3) ORDER BY 1""")
    assert [tuple(row) for row in rows] == [
        (2, "anna", "welding", "Onboarding", "waiting_to_start", 0),
        (3, "ben", "safety", None, "mastered", 100),
    ]
    withdrawals("load", file, "--organisation", "New")
    assert world.enrolment("later") > 4, "the platform's own numbering goes on after the loaded ids"


def test_submit_accepts_ids_and_shows_the_job_and_its_key(
    world: World, db: Database, environment: Settings, audit: Audit
) -> None:
    ids = [world.enrolment(), world.enrolment("ben", "mastered")]
    made = done("submit", *ids, ids[0], "--reason", "learner_declined", "--note", "by phone", "--as", "carla")
    assert made.keys() >= JOB
    assert (made["accepted"], made["duplicates"], made["state"]) == (2, 1, "queued")
    assert (made["source"], made["requested_by"], made["note"]) == ("admin", "carla", "by phone")
    assert made["created_at"].endswith("Z")
    decide_due(db, environment)
    shown = done("jobs", "show", made["id"])
    assert shown["state"] == "completed_with_exceptions"
    assert shown["outcomes"] == {"withdrawn": 1, "enrolment_ended": 1}
    assert made["idempotency_key"] in withdrawals("jobs", "show", made["id"]).out
    assert audit.rows() == [("carla", "job.submit", made["id"], None)]
    assert done("check")["clean"] is True


def test_submit_by_learner_takes_every_active_enrolment_of_theirs(
    world: World, db: Database, environment: Settings
) -> None:
    ids = [world.enrolment("anna"), world.enrolment("anna")]
    other = world.enrolment("ben")
    made = done("submit", "--learner", "anna", "--reason", "not_required")
    decide_due(db, environment)
    assert set(world.outcomes(made["id"])) == set(ids)
    assert world.status(other) == "in_progress"
    assert world.active("anna"), "only a deactivation makes a learner inactive"


def test_who_acts_is_the_user_of_the_system_when_nobody_is_named(world: World, audit: Audit) -> None:
    done("submit", world.enrolment(), "--reason", "not_required")
    assert audit.rows()[0][0] == f"cli:{getpass.getuser()}"
    assert "--as" in refused("submit", 1, "--reason", "not_required", "--as", " ")


def test_every_act_is_recorded_with_its_actor_and_reading_is_not(
    world: World, db: Database, environment: Settings, audit: Audit, tmp_path: Path
) -> None:
    owned = [world.enrolment(f"l{n}", pathway_id=world.pathway()) for n in range(2)]
    file = csv_file(tmp_path, f"enrolment_id\n{owned[0]}\n")
    acts: list[tuple[tuple[object, ...], str]] = [
        (("submit", world.enrolment(), "--reason", "not_required"), "job.submit"),
        (("submit", "--learner", "anna", "--reason", "not_required"), "job.submit"),
        (("bulk", file, "--reason", "not_required"), "job.submit"),
        (("bulk", "--filter", "series_id=99", "--reason", "not_required"), "job.submit"),
        (("deactivate", "zoe"), "user.deactivated"),
        (("reactivate", "zoe"), "user.reactivated"),
    ]
    for number, (words, _) in enumerate(acts):
        done(*words, "--as", f"person {number}")
    decide_due(db, environment)
    letter = world.letters()[0].id
    for words in (("jobs", "list"), ("dead-letters", "list"), ("dead-letters", "show", letter), ("check",)):
        done(*words)
    done("dead-letters", "resolve", letter, "--remedy", "keep", "--note", "stays", "--as", "person 6")
    want = [(f"person {number}", action) for number, (_, action) in enumerate(acts)]
    assert [row[:2] for row in audit.rows()] == [*want, ("person 6", "dead_letter.keep")]
    assert audit.rows()[-1][3] == "stays"


def test_bulk_takes_a_file_and_counts_what_stands_there_twice(world: World, tmp_path: Path) -> None:
    ids = world.enrolments(5)
    file = csv_file(tmp_path, "enrolment_id\n" + "".join(f"{i}\n" for i in [*ids, ids[0], ids[1], ids[0]]))
    made = done("bulk", file, "--reason", "not_required")
    assert (made["accepted"], made["duplicates"], made["source"]) == (5, 3, "bulk")


def test_bulk_takes_whatever_is_piped_in(world: World) -> None:
    ids = world.enrolments(3)
    ran = program(
        "bulk", "-", "--reason", "not_required", "--json",
        stdin=("enrolment_id\r\n" + "\r\n".join(map(str, ids))).encode(),
    )  # fmt: skip
    assert ran.code == 0, ran.err
    assert json.loads(ran.out)["accepted"] == 3


def test_bulk_takes_a_series_by_its_code(world: World) -> None:
    ids = world.enrolments(3)
    world.enrolments(2)
    code = world.one("SELECT s.code FROM lms.series s JOIN lms.enrolments e ON e.series_id = s.id WHERE e.id = :i",
                     i=ids[0])  # fmt: skip
    assert done("bulk", "--series", code, "--reason", "not_required", "--dry-run")["accepted"] == 3
    assert done("bulk", "--series", code, "--filter", "status=mastered", "--reason", "not_required")["accepted"] == 0
    assert done("bulk", "--series", code, "--reason", "not_required")["accepted"] == 3
    assert withdrawals("bulk", "--series", "NONE", "--reason", "not_required").code == 1
    assert "--series" in refused("bulk", "--series", code, "--filter", "series_id=1", "--reason", "not_required")


def test_bulk_takes_a_filter_and_freezes_what_it_finds(world: World, db: Database, environment: Settings) -> None:
    ids = world.enrolments(4)
    world.enrolments(3)
    series = world.one("SELECT series_id FROM lms.enrolments WHERE id = :id", id=ids[0])
    world.run("UPDATE lms.enrolments SET status = 'mastered' WHERE id = :id", id=ids[3])
    made = done("bulk", "--filter", f"series_id={series}", "--reason", "not_required")
    assert made["accepted"] == 3
    decide_due(db, environment)
    assert set(world.outcomes(made["id"])) == set(ids[:3])
    narrow = done(
        "bulk", "--filter", f"series_id={series}", "--filter", "status=mastered,incomplete", "--reason", "not_required"
    )
    assert narrow["accepted"] == 1
    empty = done("bulk", "--filter", "series_id=999999", "--reason", "not_required")
    assert (empty["accepted"], empty["state"]) == (0, "completed")


@pytest.mark.parametrize("how", ["file", "filter"])
def test_a_dry_run_counts_the_outcomes_and_writes_nothing(
    world: World, db: Database, environment: Settings, tmp_path: Path, how: str
) -> None:
    pathway = world.pathway()
    ids = [world.enrolment("a"), world.enrolment("b", "mastered"), world.enrolment("c", pathway_id=pathway)]
    if how == "file":
        file = csv_file(tmp_path, "enrolment_id\n" + "".join(f"{i}\n" for i in [*ids, 999_999]))
        words = ["bulk", str(file)]
    else:
        words = ["bulk", "--filter", "status=in_progress,mastered"]
    planned = done(*words, "--reason", "not_required", "--dry-run")
    assert not world.run("SELECT 1 FROM withdrawals.jobs")
    assert not world.run("SELECT 1 FROM withdrawals.audit")
    made = done(*words, "--reason", "not_required")
    decide_due(db, environment)
    shown = done("jobs", "show", made["id"])
    assert planned["outcomes"] == shown["outcomes"]
    assert planned["accepted"] == shown["accepted"]


def test_deactivate_and_reactivate_send_the_events_of_an_hr_system(
    world: World, db: Database, environment: Settings, audit: Audit
) -> None:
    first = world.enrolment("anna")
    receipt = done("deactivate", "anna", "--as", "hr-desk")
    assert receipt["status"] == "accepted"
    decide_due(db, environment)
    assert world.status(first) == "withdrawn"
    assert not world.active("anna")
    assert done("jobs", "show", receipt["job_id"])["source"] == "hr"
    second = done("reactivate", "anna", "--as", "hr-desk")
    assert (second["status"], second["job_id"]) == ("reactivated", None)
    assert world.active("anna")
    assert world.status(first) == "withdrawn", "coming back never reinstates by itself"
    assert [row[:2] for row in audit.rows()] == [("hr-desk", "user.deactivated"), ("hr-desk", "user.reactivated")]


def test_a_future_deactivation_is_scheduled_and_a_reactivation_supersedes_it(world: World) -> None:
    world.enrolment("anna")
    receipt = done("deactivate", "anna", "--effective-at", "2990-01-01")
    assert receipt["status"] == "scheduled"
    assert done("jobs", "show", receipt["job_id"])["state"] == "scheduled"
    done("reactivate", "anna")
    assert done("jobs", "show", receipt["job_id"])["state"] == "superseded"


def test_jobs_are_listed_newest_first_and_by_state(world: World) -> None:
    ids = [done("submit", world.enrolment(), "--reason", "not_required")["id"] for _ in range(3)]
    later = done("submit", world.enrolment(), "--reason", "not_required", "--effective-at", "2990-01-01")["id"]
    listed = done("jobs", "list")
    assert [job["id"] for job in listed["items"]] == [later, *reversed(ids)]
    assert listed["next_cursor"] is None
    assert [job["id"] for job in done("jobs", "list", "--state", "scheduled")["items"]] == [later]
    assert [job["id"] for job in done("jobs", "list", "--limit", "1")["items"]] == [later]
    assert str(later) in withdrawals("jobs", "list").out


def test_cancel_ends_what_is_not_decided_and_a_finished_job_cannot_be_cancelled(
    world: World, db: Database, environment: Settings, audit: Audit
) -> None:
    enrolment = world.enrolment()
    job = done("submit", enrolment, "--reason", "not_required")["id"]
    cancelled = done("jobs", "cancel", job, "--note", "wrong list", "--as", "carla")
    assert cancelled["state"] == "cancelled"
    assert ("carla", "job.cancel", job, "wrong list") in audit.rows()
    decide_due(db, environment)
    assert world.status(enrolment) == "in_progress"
    finished = done("submit", enrolment, "--reason", "not_required")["id"]
    decide_due(db, environment)
    ran = withdrawals("jobs", "cancel", finished, "--json")
    assert ran.code == 1
    assert ran.document["state"] == "completed"
    assert_balanced(db)


def test_dead_letters_are_listed_shown_and_decided_by_every_verb(
    world: World, db: Database, environment: Settings, audit: Audit
) -> None:
    pathway = world.pathway()
    owned = [world.enrolment(f"l{n}", pathway_id=pathway) for n in range(4)]
    job = done("submit", *owned, "--reason", "not_required")["id"]
    decide_due(db, environment)
    listed = done("dead-letters", "list", "--code", "pathway_owned", "--state", "open", "--job", job)["items"]
    assert {letter["enrolment_id"] for letter in listed} == set(owned)
    by_enrolment = {letter["enrolment_id"]: letter["id"] for letter in listed}
    shown = done("dead-letters", "show", by_enrolment[owned[0]])
    assert shown.keys() >= LETTER
    assert set(shown["remedies"]) >= {"override", "keep"}
    assert "Onboarding" in withdrawals("dead-letters", "show", by_enrolment[owned[0]]).out

    world.run("UPDATE lms.enrolments SET pathway_id = NULL WHERE id = :id", id=owned[0])
    driven = done("dead-letters", "redrive", by_enrolment[owned[0]], "--as", "carla")["items"]
    assert [letter["state"] for letter in driven] == ["redriven"]
    done(
        "dead-letters", "resolve", by_enrolment[owned[1]],
        "--remedy", "override", "--note", "agreed", "--as", "dora",
    )  # fmt: skip
    kept = done("dead-letters", "resolve", by_enrolment[owned[2]], "--remedy", "keep", "--note", "stays")["items"]
    assert [letter["state"] for letter in kept] == ["resolved"]
    gone = done("dead-letters", "discard", by_enrolment[owned[3]], "--note", "noise")["items"]
    assert [letter["state"] for letter in gone] == ["discarded"]
    decide_due(db, environment)
    assert [world.status(enrolment_id) for enrolment_id in owned] == [
        "withdrawn",
        "withdrawn",
        "in_progress",
        "in_progress",
    ]
    acts = [(actor, action) for actor, action, *_ in audit.rows()]
    assert ("carla", "dead_letter.redrive") in acts
    assert ("dora", "dead_letter.override") in acts
    assert {action for _, action in acts} >= {"dead_letter.keep", "dead_letter.discard"}
    assert done("dead-letters", "list", "--state", "open")["items"] == []
    assert_balanced(db)


def test_a_remedy_needs_a_note_and_has_to_be_one_of_the_letter(
    world: World, db: Database, environment: Settings
) -> None:
    done("submit", 999_999, "--reason", "not_required")
    decide_due(db, environment)
    letter = done("dead-letters", "list")["items"][0]["id"]
    assert "note" in refused("dead-letters", "resolve", letter, "--remedy", "keep")
    assert "remedy" in refused("dead-letters", "resolve", letter, "--remedy", "override", "--note", "x")
    assert "remedy" in refused("dead-letters", "resolve", letter, "--remedy", "nonsense", "--note", "x")
    done("dead-letters", "discard", letter)
    again = withdrawals("dead-letters", "redrive", letter)
    assert again.code == 1
    assert "discarded" in again.err


def test_a_record_that_does_not_exist_is_said_not_to_exist(world: World, subtests: pytest.Subtests) -> None:
    commands = [("jobs", "show"), ("jobs", "cancel"), ("dead-letters", "show"), ("dead-letters", "discard")]
    for words, record in itertools.product(commands, [0, 999, 2**63 - 1, 2**63, 10**30]):
        with subtests.test(" ".join(words), record=record):
            ran = withdrawals(*words, record, "--json")
            assert ran.code == 1
            assert f"there is no {'job' if words[0] == 'jobs' else 'dead letter'} {record}" in ran.err
            assert not ran.out


def test_another_organisations_job_looks_like_one_that_does_not_exist(world: World) -> None:
    job = done("submit", world.enrolment(), "--reason", "not_required")["id"]
    world.organisation("Other")
    ran = withdrawals("jobs", "show", job, "--organisation", "Other")
    assert (ran.code, ran.err.strip()) == (1, f"error: there is no job {job} in this organisation")
    assert withdrawals("jobs", "show", job, "--organisation", "Acme").code == 0
    ambiguous = refused("jobs", "show", job)
    assert "'Acme'" in ambiguous
    assert "'Other'" in ambiguous


def test_check_finds_books_that_do_not_balance_and_says_which(
    world: World, db: Database, environment: Settings
) -> None:
    job = done("submit", *world.enrolments(3), "--reason", "not_required")["id"]
    decide_due(db, environment)
    assert withdrawals("check").code == 0
    world.force("DELETE FROM withdrawals.outcomes WHERE enrolment_id = (SELECT min(id) FROM lms.enrolments)")
    ran = withdrawals("check")
    assert ran.code == 1
    assert f"job {job}: accepted 3, accounted for 2" in ran.out
    broken = withdrawals("check", "--json")
    assert broken.code == 1
    assert broken.document["clean"] is False
    assert broken.document["violations"]


def test_config_lists_every_setting_and_shows_no_secret(environment: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://me:hunter2@nowhere.example/x")
    monkeypatch.setenv("BROKER_URL", "redis://:hunter3@nowhere.example")
    monkeypatch.setenv("WITHDRAWALS_SECRET_KEY", "hunter4")
    shown = withdrawals("config", "--json")
    assert shown.code == 0, "needs no server"
    variables = {item["variable"]: item for item in shown.document["items"]}
    assert variables.keys() >= {"DATABASE_URL", "BROKER_URL", "WITHDRAWALS_SECRET_KEY", "WITHDRAWALS_PORT"}
    assert variables["WITHDRAWALS_PORT"]["default"] == "8000"
    assert all(item["meaning"] for item in variables.values())
    assert "hunter" not in shown.out + withdrawals("config").out


def test_doctor_says_what_is_well_and_what_only_needs_starting(environment: Settings) -> None:
    ran = withdrawals("doctor", "--json")
    assert ran.code == 0
    findings = {(item["what"], item["level"]) for item in ran.document["items"]}
    assert findings >= {("database", "ok"), ("schema", "ok"), ("role", "ok"), ("broker", "ok"), ("relay", "warn")}


def test_doctor_finds_what_is_wrong(world: World, environment: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    world.run(f"GRANT INSERT ON lms.resource_access TO {environment.database_role}")
    monkeypatch.setenv("BROKER_URL", "redis://127.0.0.1:1")
    ran = withdrawals("doctor", "--json")
    assert ran.code == 1
    wrong = {item["what"]: item["finding"] for item in ran.document["items"] if item["level"] == "wrong"}
    assert wrong.keys() == {"role", "broker"}
    assert "access" in wrong["role"]


def test_doctor_goes_on_when_the_database_cannot_be_reached(
    environment: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://me:hunter2@127.0.0.1:1/x")
    ran = withdrawals("doctor", "--json")
    assert ran.code == 1
    levels = {item["what"]: item["level"] for item in ran.document["items"]}
    assert levels["database"] == "wrong"
    assert levels["broker"] == "ok"
    assert "hunter2" not in ran.out + ran.err


def test_migrate_run_again_changes_nothing(environment: Settings) -> None:
    first, second = withdrawals("migrate"), withdrawals("migrate")
    assert (first.code, second.code) == (0, 0)
    assert first.out == second.out
    assert "revision" in first.out


def test_a_list_that_goes_on_says_where(db: Database, world: World) -> None:
    """Lists use cursor pages: `next_cursor` of one page is `--cursor` of the next, and null on the last."""
    made = [world.submit(db, [enrolment_id]).id for enrolment_id in world.enrolments(3)]
    first = done("jobs", "list", "--limit", 2, "--json")
    assert [job["id"] for job in first["items"]] == made[:0:-1]
    second = done("jobs", "list", "--limit", 2, "--cursor", first["next_cursor"], "--json")
    assert [job["id"] for job in second["items"]] == made[:1]
    assert second["next_cursor"] is None
