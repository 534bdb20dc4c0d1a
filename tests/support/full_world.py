"""A platform and a ledger that have everything: jobs of all kinds and states, letters in all states, people, seals."""

from datetime import UTC, datetime, timedelta

from sqlalchemy import text

from schemas.dead_letters import LetterFilter
from schemas.events import PersonEvent
from schemas.jobs import FileRequest, JobRequest
from schemas.protections import ProtectionRequest
from schemas.reinstate import ReinstateRequest
from tests.support.ageing import years_pass
from tests.support.racing import leases_run_out, take
from tests.world import World, decide_due, id_file
from worker.access.persons import Actor
from worker.config import Settings
from worker.database import Database
from worker.dead_letters import remedies, runs
from worker.jobs import control
from worker.jobs.files.submit import submit_file
from worker.jobs.reinstate import reinstate
from worker.jobs.submit import Requester, submit
from worker.ledger import approvals
from worker.ledger import hr_sources as source_rows
from worker.ledger import jobs as job_rows
from worker.people import hr_sources, inbox, protections, scim_users
from worker.people.inbox import IncomingEvent
from worker.people.scim_users import UserAttributes
from worker.queue import recovery
from worker.reports.prune import prune
from worker.reports.seals import Sealer
from worker.webhooks import endpoints


def build(db: Database, owner: Database, settings: Settings) -> None:
    """Fill an empty database, with what is unfinished at the end."""
    world = World(owner)
    _ended_jobs(world, db, settings)
    _letters(world, db, settings)
    _failures(world, db, settings)
    _people(world, db, settings)
    _undone(world, db, settings)
    _pruned(world, db, settings)
    _protected(world, db, settings)
    _limited(world, db, settings)
    _seal(world, db)
    _unfinished(world, db, settings)


def _ended_jobs(world: World, db: Database, settings: Settings) -> None:
    ids = world.enrolments(5)
    world.submit(db, ids, chunk_size=2)
    decide_due(db, settings)
    world.submit(db, ids[:2])  # already withdrawn
    world.submit(db, [world.enrolment("ended", "mastered"), world.enrolment("fine")])
    submit_file(
        db,
        world.requester(),
        FileRequest(reason="enrolment_error", source="correction"),
        id_file(world.enrolments(3)),
        name="errors.csv",
    )
    other = world.organisation("Other")
    theirs = world.enrolment("eve", organisation_id=other)
    request = JobRequest(reason="not_required", enrolment_ids=[theirs])
    submit(db, Requester(other, "test:other", "api", "theirs"), request)
    world.submit(db, world.enrolments(1), effective_at=datetime.now(UTC) - timedelta(hours=1))
    decide_due(db, settings)


def _letters(world: World, db: Database, settings: Settings) -> None:
    pathway, org = world.pathway(), world.organisation_id

    def owned(learner: str) -> int:
        """The letter of an enrolment that a pathway owns."""
        enrolment_id = world.enrolment(learner, pathway_id=pathway)
        world.submit(db, [enrolment_id])
        decide_due(db, settings)
        return int(next(letter.id for letter in world.letters() if letter.enrolment_id == enrolment_id))

    def resolve(learner: str, remedy: str) -> None:
        remedies.resolve(
            db,
            organisation_id=org,
            letter_ids=[owned(learner)],
            remedy=remedy,
            actor="test:approver",
            note="asked",
            door="api",
        )
        decide_due(db, settings)

    resolve("override", "override")
    world.enrolment("cascade", pathway_id=pathway)
    resolve("cascade", "cascade")
    resolve("keep", "keep")
    remedies.discard(db, organisation_id=org, letter_ids=[owned("discard")], actor="test:operator", note="no")
    again = owned("redriven")
    world.run("UPDATE lms.enrolments SET pathway_id = NULL WHERE learner_id = :l", l=world.learner("redriven"))
    remedies.redrive(db, organisation_id=org, letter_ids=[again], actor="test:operator")
    decide_due(db, settings)
    owned("open")
    world.submit(db, [world.enrolment("odd", "on_hold"), 999_999])  # unknown status, not found
    decide_due(db, settings)
    runs.start(
        db, organisation_id=org, act="redrive", wanted=LetterFilter(code="unknown_status"), actor="test:operator"
    )


def _pruned(world: World, db: Database, settings: Settings) -> None:
    """A job of long ago, of which the record is left."""
    past = world.organisation("Past")
    ids = [world.enrolment(name, organisation_id=past) for name in ("then", "ended then")]
    world.run("UPDATE lms.enrolments SET status = 'mastered' WHERE id = :id", id=ids[1])
    submit(db, Requester(past, "test:past", "api", "past"), JobRequest(reason="not_required", enrolment_ids=ids))
    decide_due(db, settings)
    years_pass(world.owner, days=100, organisation_id=past)
    list(prune(db, {"jobs": 90}, actor="test:operator"))


def _failures(world: World, db: Database, settings: Settings) -> None:
    impatient = settings.model_copy(update={"max_attempts": 1, "max_claims": 1})
    world.submit(db, world.enrolments(1))
    recovery.record_failure(db, impatient, take(db), RuntimeError("boom"))  # retries exhausted
    world.submit(db, world.enrolments(1))
    take(db)
    leases_run_out(world)
    recovery.take_over(db, impatient)  # poison
    world.submit(db, world.enrolments(4))
    recovery.record_failure(db, impatient, take(db), RuntimeError("boom"))  # split
    decide_due(db, settings)


def _protected(world: World, db: Database, settings: Settings) -> None:
    world.enrolment("held")
    wanted = ProtectionRequest(learner_external_id="held", kind="legal_hold", reason="case 17")
    protections.protect(db, organisation_id=world.organisation_id, wanted=wanted, who=Actor("cli:ada"))
    world.event(db, "deactivated", "held")
    decide_due(db, settings)


def _people(world: World, db: Database, settings: Settings) -> None:
    for person in ("gone", "back", "leaving", "away", "waits"):
        world.enrolment(person)
    world.enrolment("gone", pathway_id=world.pathway())
    world.event(db, "deactivated", "gone")
    world.event(db, "deactivated", "unknown")
    decide_due(db, settings)
    world.event(db, "deactivated", "away")
    decide_due(db, settings)
    world.event(db, "reactivated", "away")
    world.event(db, "deactivated", "back")
    world.event(db, "reactivated", "back")  # superseded
    world.event(db, "deactivated", "leaving", effective_at=datetime.now(UTC) + timedelta(days=3))
    submit(db, world.requester(), JobRequest(reason="not_required", learner_external_id="away"))
    decide_due(db, settings)
    hr_sources.create(
        db, settings, organisation_id=world.organisation_id, name="held", kind="standard", actor="test",
        on_deactivate="hold",
    )  # fmt: skip
    with db.begin() as connection:
        (source, _), *_ = source_rows.list_live(connection)
    world.event(db, "deactivated", "waits", source="held")
    inbox.receive(db, source, IncomingEvent("unreadable", b"{}", fault="data: needed"))
    soon = PersonEvent(type="user.deactivated", external_id="soon")
    inbox.receive(db, source, IncomingEvent("in the inbox", b"{}", event=soon))  # waits for its next attempt
    world.run("UPDATE withdrawals.receipts SET run_after = now() + interval '1 hour' WHERE waiting")
    scim_users.create(
        db,
        organisation_id=world.organisation_id,
        actor="test:scim",
        wanted=UserAttributes("sam@example.com", "sam", "Sam", active=True),
    )
    user = world.one("SELECT id FROM lms.learners WHERE external_id = 'sam'")
    scim_users.delete(db, organisation_id=world.organisation_id, actor="test:scim", learner_id=user)
    decide_due(db, settings)


def _undone(world: World, db: Database, settings: Settings) -> None:
    ids = world.enrolments(3)
    job = world.submit(db, ids)
    decide_due(db, settings)
    world.run("UPDATE lms.enrolments SET withdrawal_reason = 'changed' WHERE false")
    request = ReinstateRequest.model_validate({"filter": {"enrolment_ids": ids[:2]}})
    reinstate(db, world.requester(), job.id, request)
    decide_due(db, settings)
    endpoints.create(
        db, settings.model_copy(update={"webhooks_allow_private": True}), organisation_id=world.organisation_id,
        url="http://127.0.0.1:9/", events=["job.completed"], actor="test",
    )  # fmt: skip
    world.submit(db, ids[:1])  # withdrawn again, after it was reinstated
    decide_due(db, settings)


def _limited(world: World, db: Database, settings: Settings) -> None:
    """A job of an organisation that limits what is withdrawn from each Series; one of it was taken back."""
    limited = world.organisation("Limited")
    with db.begin() as connection:
        job_rows.lock_settings(connection, limited)
        approvals.set_rules(connection, limited, [{"act": "withdraw_series", "source": None, "alone_up_to": 9}])
    ids = [world.enrolment(name, organisation_id=limited) for name in ("first", "second", "third")]
    job = submit(
        db, Requester(limited, "test:them", "api", "them"), JobRequest(reason="not_required", enrolment_ids=ids)
    )
    decide_due(db, settings)
    request = ReinstateRequest.model_validate({"filter": {"enrolment_ids": ids[:1]}})
    reinstate(db, Requester(limited, "test:them", "api", "back"), job.job.id, request)
    decide_due(db, settings)


def _seal(world: World, db: Database) -> None:
    """As if all of this had happened two and three days ago, and the relay had sealed those days."""
    with world.owner.begin() as connection:
        for statement in (
            "SET LOCAL session_replication_role = replica",
            "UPDATE withdrawals.seals SET day = day - 5, last_id = 0, looked_at = looked_at - interval '5 days'",
            "UPDATE withdrawals.audit SET at = at - interval '1 day' * (2 + id % 2)",
            "UPDATE withdrawals.receipts SET received_at = received_at - interval '1 day' * (2 + id % 2)",
        ):
            connection.execute(text(statement))
    sealer = Sealer(db)
    sealer.step()
    sealer.step()


def _unfinished(world: World, db: Database, settings: Settings) -> None:
    org = world.organisation_id
    world.submit(db, world.enrolments(2), effective_at=datetime.now(UTC) + timedelta(days=1))  # scheduled
    paused = world.submit(db, world.enrolments(4), chunk_size=2)
    control.pause(db, organisation_id=org, job_id=paused.id, actor="test:operator")
    cancelled = world.submit(db, world.enrolments(4), chunk_size=2)
    decide_due(db, settings.model_copy(update={"chunk_size": 2}))
    del cancelled
    dropped = world.submit(db, world.enrolments(3), chunk_size=1)
    take(db, budget=1)
    control.cancel(db, organisation_id=org, job_id=dropped.id, actor="test:operator")
    held = next(
        row.id for row in world.run("SELECT id FROM withdrawals.jobs WHERE state = 'held' ORDER BY id")
    )  # by its source's policy
    world.enrolment("two")
    world.event(db, "deactivated", "two", source="held")
    control.release(db, organisation_id=org, job_id=held, actor="test:approver")
    decide_due(db, settings)
    world.submit(db, world.enrolments(1))
    recovery.record_failure(db, settings, take(db), TimeoutError("later"))  # waits for its next attempt
    world.submit(db, world.enrolments(2))
    take(db)  # claimed
    world.submit(db, world.enrolments(3), chunk_size=2)  # queued
    letter = next(letter.id for letter in world.letters() if letter.code == "not_found")
    remedies.redrive(db, organisation_id=org, letter_ids=[letter], actor="test:operator")
