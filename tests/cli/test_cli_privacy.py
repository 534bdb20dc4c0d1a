"""No personal data in logs, ever: ids of rows are logged; external ids, names, addresses and notes are not."""

import json
from pathlib import Path

import pytest
import structlog

from tests.support.commandline import done
from tests.support.processes import RELAY, WORKER, process
from tests.world import World, decide_due, eventually
from worker.config import Settings
from worker.database import Database
from worker.dead_letters import remedies

ADDRESS, NAME, EXTERNAL_ID, NOTE = "renee@people.example", "Renée Moreau", "emp-70077", "on sick leave since May"
PRIVATE = (ADDRESS, NAME, EXTERNAL_ID, NOTE, "Moreau", "people.example", "70077", "sick leave")


def person(world: World) -> int:
    """An enrolment of a learner with a name, an address, and an external id that says who they are."""
    enrolment = world.enrolment(EXTERNAL_ID)
    world.run("UPDATE lms.learners SET email = :e, display_name = :n", e=ADDRESS, n=NAME)
    return enrolment


def refuse_withdrawals(world: World, enrolment_id: int) -> None:
    """A trigger of the platform that quotes the learner, as people write them."""
    world.run(f"""
        CREATE FUNCTION lms.refuse() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN
            RAISE EXCEPTION 'learner {ADDRESS} ("{EXTERNAL_ID}", ''{NAME}'') is locked';
        END $$""")
    world.run(f"""
        CREATE TRIGGER refuse BEFORE UPDATE OF status ON lms.enrolments FOR EACH ROW
            WHEN (old.id = {enrolment_id}) EXECUTE FUNCTION lms.refuse()""")


@pytest.mark.long
def test_a_request_goes_its_whole_way_without_a_word_about_the_person(
    world: World, environment: Settings, tmp_path: Path
) -> None:
    """Small: tests/security/test_secrets.py looks for a person in what web, worker and relay log."""
    refused, withdrawn = person(world), person(world)
    refuse_withdrawals(world, refused)
    chatty = {
        "WITHDRAWALS_LOG_LEVEL": "debug",
        "WITHDRAWALS_LOG_FORMAT": "json",
        "WITHDRAWALS_MAX_ATTEMPTS": "1",
    }
    path = tmp_path / "log"
    with path.open("wb") as log, process(RELAY, chatty, log=log), process(WORKER, chatty, log=log):
        single = done("submit", refused, "--reason", "not_required", "--note", NOTE)["id"]
        plain = done("submit", withdrawn, "--reason", "not_required", "--note", NOTE)["id"]
        unknown = done("deactivate", f"{EXTERNAL_ID}-unknown")["job_id"]
        done("jobs", "cancel", done("submit", "--learner", EXTERNAL_ID, "--reason", "not_required",
                                    "--effective-at", "2990-01-01")["id"], "--note", NOTE)  # fmt: skip
        whole = done("deactivate", EXTERNAL_ID)["job_id"]
        eventually(lambda: world.one("SELECT count(*) FROM withdrawals.jobs WHERE finished_at IS NULL") == 0)
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    events = {line["event"] for line in lines}
    assert events >= {"chunk.decided", "attempt.failed", "job.completed_with_exceptions"}, "nothing was logged"
    named = {number for line in lines for number in [line.get("job_id"), *line.get("job_ids", ())]}
    assert {single, plain, unknown, whole} <= named
    assert world.status(withdrawn) == "withdrawn"
    for line in lines:
        assert not [word for word in PRIVATE if word in json.dumps(line, ensure_ascii=False)], line


def test_the_services_inside_a_producer_log_no_more(world: World, db: Database, environment: Settings) -> None:
    enrolment = person(world)
    world.run("UPDATE lms.enrolments SET pathway_id = :p WHERE id = :id", p=world.pathway(), id=enrolment)
    with structlog.testing.capture_logs() as entries:
        world.submit(db, [enrolment], note=NOTE)
        world.event(db, "deactivated", EXTERNAL_ID)
        decide_due(db, environment)
        remedies.discard(
            db, organisation_id=world.organisation_id, letter_ids=[world.letters()[0].id], actor=ADDRESS, note=NOTE
        )
        world.event(db, "reactivated", EXTERNAL_ID)
    assert {entry["event"] for entry in entries} >= {"job.accepted", "event.recorded", "chunk.decided"}
    said = repr(entries)
    assert not [word for word in PRIVATE if word in said], said


def test_what_an_attempt_leaves_on_record_quotes_no_person(world: World, db: Database, environment: Settings) -> None:
    enrolment = person(world)
    refuse_withdrawals(world, enrolment)
    world.submit(db, [enrolment])
    decide_due(db, environment)
    error_class, message = world.run("SELECT error_class, message FROM withdrawals.attempts")[0]
    assert error_class == "RaiseException", "the kind of error is still recorded"
    assert not [word for word in PRIVATE if word in message], message
