"""Another organisation's rows are neither waited for nor locked, whatever ids a request names.

Here a transaction holds every row of the other organisation. Who waits for one of them ends at the lock timeout.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from typing import Any

import pytest

from schemas.dead_letters import LetterFilter
from schemas.jobs import JobRequest
from schemas.reinstate import ReinstateFilter, ReinstateRequest
from tests.jobs.undoing import Undo
from tests.support.racing import await_waiters, held, hold_enrolments
from tests.support.web import make_source
from tests.world import PATIENCE, World, assert_balanced, decide_due
from worker.access import tokens
from worker.config import Settings
from worker.database import Database
from worker.dead_letters import desk_acts, remedies, runs
from worker.errors import NotFoundError
from worker.jobs import control, reinstate, submit
from worker.jobs.singles import Single, singles
from worker.jobs.submit import Requester
from worker.people import hr_sources, scim_users

WHO: dict[str, Any] = {"actor": "test:admin"}


@contextmanager
def all_held(world: World, organisation_id: int) -> Iterator[None]:
    """Hold every row that belongs to an organisation, in every table."""
    tables = world.run(
        """SELECT format('%I.%I', c.table_schema, c.table_name) FROM information_schema.columns c
        JOIN information_schema.tables t USING (table_schema, table_name)
        WHERE c.column_name = 'organisation_id' AND t.table_type = 'BASE TABLE'
            AND table_schema IN ('lms', 'withdrawals')"""
    )
    assert len(tables) > 10
    with held(world.owner, "SELECT 1 FROM lms.organisations WHERE id = :o FOR UPDATE", o=organisation_id) as hold:
        for (table,) in tables:
            hold.run(f"SELECT 1 FROM {table} WHERE organisation_id = :o FOR UPDATE", o=organisation_id)
        yield


@pytest.mark.parametrize("ours", ["an enrolment", "a person"])
def test_a_single_request_does_not_wait_for_an_organisation_that_shares_its_group(
    db: Database, owner: Database, world: World, ours: str
) -> None:
    """Their settings are locked for long, and they go on asking; ours is answered, by the message or in steps.

    A process has one thread for the requests of all organisations, which must not wait for one of them.
    """
    db.retry_seconds = PATIENCE
    other = OtherWorld(owner)
    lock = "INSERT INTO withdrawals.organisation_settings (organisation_id) VALUES (:o)"
    theirs = [single(other, [other.enrolment("theirs")]) for _ in range(4)]
    own = {
        "an enrolment": single(world, [world.enrolment("anna")]),
        "a person": single(world, learner_external_id="anna", source="admin"),
    }[ours]
    commits = singles(db)
    with held(owner, lock, o=other.organisation_id) as hold:
        waiting = [commits.submit(one) for one in theirs[:2]]
        await_waiters(world)
        waiting += [commits.submit(one) for one in theirs[2:]]
        made = commits.submit(own).result(PATIENCE)
        assert made.created
        assert not any(one.done() for one in waiting)
        hold.release()
        assert all(one.result(PATIENCE).created for one in waiting)
    commits.close()
    assert_balanced(db)


def single(world: World, ids: list[int] | None = None, **request: Any) -> Single:
    """A small request, as the door has it."""
    asked = JobRequest(**{"reason": "not_required", "enrolment_ids": ids, **request})
    made = submit.single(world.requester(door="api"), asked)
    assert made is not None
    return made


class OtherWorld(World):
    """The same platform, seen by another organisation."""

    def __init__(self, owner: Database) -> None:
        self.owner = owner
        self.organisation_id = self.organisation("Other")


@pytest.fixture
def theirs(db: Database, environment: Settings, owner: Database) -> World:
    """Another organisation with a learner of the same external id, a job with work left, letters, a run, a source."""
    other = OtherWorld(owner)
    owned = other.enrolment("anna", pathway_id=other.pathway())
    other.event(db, "deactivated", "anna")
    other.submit(db, [owned, other.enrolment("ben")])
    decide_due(db, environment)
    runs.start(db, organisation_id=other.organisation_id, act="discard", wanted=LetterFilter(), note="n", **WHO)
    make_source(db, environment, other.organisation_id, "workday")
    tokens.create(db, organisation_id=other.organisation_id, name="t", role="viewer", **WHO)
    other.submit(db, [other.enrolment("cleo")], effective_at="2999-01-01")
    return other


def test_a_job_that_names_a_held_enrolment_of_another_organisation_is_decided(
    db: Database, environment: Settings, world: World, theirs: World, owner: Database
) -> None:
    their_id, our_id = theirs.enrolment("dora"), world.enrolment("anna")
    job = world.submit(db, [their_id, our_id])
    with hold_enrolments(owner, their_id):
        decide_due(db, environment)
        assert world.outcomes(job.id) == {their_id: "not_found", our_id: "withdrawn"}
    assert_balanced(db)


def test_no_work_of_an_organisation_waits_for_a_row_of_another(
    db: Database, environment: Settings, world: World, theirs: World
) -> None:
    """A bulk job, a person, an undo, a redrive: with their ids among ours, or with the same external id."""
    their_ids = [row[0] for row in world.run("SELECT id FROM lms.enrolments ORDER BY id")]
    owned = world.enrolment("anna", pathway_id=world.pathway())
    free, persons = world.enrolment("ben"), world.enrolment("cleo")
    undo, us = Undo(db, world, environment), world.organisation_id
    letters = "SELECT id FROM withdrawals.dead_letters WHERE organisation_id = :o"
    with all_held(world, theirs.organisation_id):
        job = undo.withdraw([*their_ids, owned, free])
        not_found = dict.fromkeys(their_ids, "not_found")
        assert world.outcomes(job.id) == {**not_found, owned: "pathway_owned", free: "withdrawn"}
        world.event(db, "deactivated", "cleo")
        decide_due(db, environment)
        assert world.status(persons) == "withdrawn"
        back = undo.back(job.id)
        assert world.outcomes(back.id) == {free: "reinstated"}
        remedies.redrive(db, organisation_id=us, letter_ids=[row[0] for row in world.run(letters, o=us)], **WHO)
        decide_due(db, environment)
        world.event(db, "deactivated", "anna")
        world.event(db, "reactivated", "anna")
        decide_due(db, environment)
    assert_balanced(db)


def test_an_undo_does_not_wait_for_an_enrolment_that_moved_to_another_organisation(
    db: Database, environment: Settings, world: World, theirs: World
) -> None:
    moved = world.enrolment("moved")
    undo = Undo(db, world, environment)
    job = undo.withdraw([moved])
    back = undo.accept(job.id)
    for table, which in (("learners", "external_id = 'moved'"), ("enrolments", f"id = {moved}")):
        world.run(f"UPDATE lms.{table} SET organisation_id = :o WHERE {which}", o=theirs.organisation_id)
    with all_held(world, theirs.organisation_id):
        decide_due(db, environment)
        assert world.outcomes(back.id) == {moved: "changed_since"}
    assert world.status(moved) == "withdrawn"


def by_id(db: Database, settings: Settings, us: int, found: dict[str, int]) -> dict[str, Callable[[], object]]:
    """Each act of ours on an id that is the other organisation's."""
    letter, learner = [found["dead_letters"]], found["learners"]
    ours: dict[str, Any] = {"organisation_id": us, **WHO}
    job: dict[str, Any] = {**ours, "job_id": found["jobs"]}
    requester = Requester(us, "test:admin", "cli", "k")
    off = scim_users.UserAttributes("a@example.org", "anna", None, active=False)
    return {
        "redrive": lambda: remedies.redrive(db, letter_ids=letter, **ours),
        "discard": lambda: remedies.discard(db, letter_ids=letter, note="n", **ours),
        "resolve": lambda: remedies.resolve(db, letter_ids=letter, remedy="keep", note="n", **ours),
        "assign": lambda: desk_acts.assign(db, letter_ids=letter, assignee="me", **ours),
        "note": lambda: desk_acts.note(db, letter_ids=letter, note="n", **ours),
        "pause": lambda: control.pause(db, **job),
        "resume": lambda: control.resume(db, **job),
        "cancel": lambda: control.cancel(db, **job),
        "release": lambda: control.release(db, **job),
        "move": lambda: control.move(db, **job, effective_at=date(2998, 1, 1)),
        "undo": lambda: reinstate.reinstate(db, requester, found["jobs"], ReinstateRequest(), chunk_size=10),
        "undo a part": lambda: reinstate.plan(
            db, us, found["jobs"], ReinstateFilter(enrolment_ids=[found["enrolments"]])
        ),
        "stop a run": lambda: runs.stop(db, run_id=found["runs"], **ours),
        "rotate": lambda: hr_sources.rotate(db, settings, source_id=found["sources"], **ours),
        "disable": lambda: hr_sources.disable(db, source_id=found["sources"], **ours),
        "revoke": lambda: tokens.revoke(db, token_id=found["tokens"], **ours),
        "SCIM change": lambda: scim_users.change(db, learner_id=learner, wanted=lambda _: off, **ours),
        "SCIM delete": lambda: scim_users.delete(db, learner_id=learner, **ours),
    }


def test_an_act_on_an_id_of_another_organisation_is_refused_without_waiting(
    db: Database, environment: Settings, world: World, theirs: World
) -> None:
    tables = ("dead_letters", "jobs", "runs", "sources", "tokens")
    found = {table: world.one(f"SELECT max(id) FROM withdrawals.{table}") for table in tables}
    found |= {table: world.one(f"SELECT max(id) FROM lms.{table}") for table in ("learners", "enrolments")}
    with all_held(world, theirs.organisation_id):
        for name, act in by_id(db, environment, world.organisation_id, found).items():
            with pytest.raises(NotFoundError):
                act()
                pytest.fail(name)
