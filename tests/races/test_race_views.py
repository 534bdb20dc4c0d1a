"""The platform's enrolments are a view whose trigger writes (ops/platform-views.md): PostgreSQL gives it the row as the
statement saw it, locks nothing and checks nothing again. So what it is to write is locked before it is looked at.
"""

from functools import partial

import pytest
from sqlalchemy.exc import IntegrityError

from tests.support.racing import DECIDE, Threads, await_waiters, held, take
from tests.world import PATIENCE, World, assert_balanced, decide_due
from worker.config import Settings
from worker.database import Database
from worker.faults import is_enrolled_meanwhile
from worker.ledger import decide as short
from worker.ledger import erased_texts

GRANT = """GRANT SELECT, UPDATE (status, withdrawn_at, withdrawal_reason, withdrawn_by) ON lms.enrolments TO {role}"""
RENAMED = (
    "ALTER TABLE lms.enrolments RENAME TO places",
    "REVOKE ALL ON lms.places FROM {role}",
    "CREATE VIEW lms.enrolments AS SELECT * FROM lms.places",
    GRANT,
)
# As a platform may have written it: what has changed since the statement's snapshot is overwritten.
TRIGGER = (
    """CREATE FUNCTION lms.update_place() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
    BEGIN
        UPDATE lms.places SET status = new.status, withdrawn_at = new.withdrawn_at,
            withdrawal_reason = new.withdrawal_reason, withdrawn_by = new.withdrawn_by WHERE id = old.id;
        RETURN new;
    END $$""",
    """CREATE TRIGGER update_place INSTEAD OF UPDATE ON lms.enrolments
    FOR EACH ROW EXECUTE FUNCTION lms.update_place()""",
)
BENEATH = (
    "ALTER VIEW lms.enrolments RENAME TO beneath",
    "CREATE VIEW lms.enrolments AS SELECT * FROM lms.beneath",
    GRANT,
)
RULE = (
    """CREATE RULE update_place AS ON UPDATE TO lms.enrolments DO INSTEAD
    UPDATE lms.places SET status = new.status WHERE id = old.id""",
)


def _make_view(world: World, settings: Settings, *parts: tuple[str, ...]) -> None:
    for part in (RENAMED, *parts):
        for statement in part:
            world.run(statement.format(role=settings.database_role))


@pytest.mark.parametrize(
    ("parts", "writes"),
    [
        ((), "view"),
        ((BENEATH,), "view"),
        ((TRIGGER,), "instead"),
        ((TRIGGER, BENEATH), "instead"),
        ((RULE,), "instead"),
    ],
    ids=["renamed", "renamed twice", "a trigger", "a trigger beneath", "a rule"],
)
def test_who_writes_is_seen_through_views(
    db: Database, world: World, environment: Settings, parts: tuple[tuple[str, ...], ...], writes: str
) -> None:
    """The short way of plain chunks is for what PostgreSQL itself locks and checks again."""
    with db.begin() as connection:
        assert short.writes_of_enrolments(connection) == "table"
    _make_view(world, environment, *parts)
    db.engine.dispose()
    with db.begin() as connection:
        assert short.writes_of_enrolments(connection) == writes


@pytest.mark.part(3)
@pytest.mark.parametrize(
    ("change", "want"), [("status = 'mastered'", "enrolment_ended"), ("pathway_id = :pathway", "pathway_owned")]
)
@pytest.mark.parametrize("by", DECIDE)
def test_what_changed_while_a_chunk_waited_is_not_overwritten(
    slow_db: Database,
    owner: Database,
    world: World,
    environment: Settings,
    threads: Threads,
    change: str,
    want: str,
    by: str,
) -> None:
    """The change commits while the chunk waits for the row; the trigger would write over it."""
    pathway = world.pathway()
    changed, neighbour = world.enrolment("anna"), world.enrolment("anna")
    _make_view(world, environment, TRIGGER)
    if by.startswith("person"):
        job_id = world.event(slow_db, "deactivated", "anna").job_id or 0
    else:
        job_id = world.submit(slow_db, [changed, neighbour]).id
    claim = take(slow_db)
    statement = f"UPDATE lms.places SET {change}, progress = :pathway * 0 WHERE id = :id"
    with held(owner, statement, id=changed, pathway=pathway) as hold:
        deciding = threads.go(DECIDE[by], slow_db, claim)
        await_waiters(world)
        hold.release()
        deciding.result(PATIENCE)
    is_listed = not by.startswith("person") or want != "enrolment_ended"  # a deactivation leaves out what has ended
    assert world.outcomes(job_id) == ({changed: want} if is_listed else {}) | {neighbour: "withdrawn"}
    assert world.status(changed) == ("mastered" if want == "enrolment_ended" else "in_progress")
    assert_balanced(slow_db)


def test_of_two_workers_with_one_enrolment_one_withdraws_it(
    slow_db: Database, owner: Database, world: World, environment: Settings, threads: Threads
) -> None:
    """Both wait for the row; the second finds what the first has written, whose reason stays."""
    shared = world.enrolment("anna")
    _make_view(world, environment, TRIGGER)
    jobs = [world.submit(slow_db, [shared], reason=reason).id for reason in ("not_required", "learner_declined")]
    taken = [take(slow_db, budget=1) for _ in jobs]
    with held(owner, "SELECT FROM lms.places WHERE id = :id FOR UPDATE", id=shared) as hold:
        deciding = [threads.go(DECIDE["list at once"], slow_db, claim) for claim in taken]
        await_waiters(world, 2)
        hold.release()
        for future in deciding:
            future.result(PATIENCE)
    reasons = {
        world.outcomes(job)[shared]: reason
        for job, reason in zip(jobs, ("not_required", "learner_declined"), strict=True)
    }
    assert set(reasons) == {"withdrawn", "already_withdrawn"}
    assert world.one("SELECT withdrawal_reason FROM lms.places") == reasons["withdrawn"]
    assert_balanced(slow_db)


def test_an_erasure_does_not_overwrite_an_undo(
    slow_db: Database, owner: Database, world: World, environment: Settings, threads: Threads
) -> None:
    """The undo commits while the erasure of the requester's name waits for the row."""
    enrolment_id = world.enrolment("anna")
    _make_view(world, environment, TRIGGER)
    job = world.submit(slow_db, [enrolment_id])
    decide_due(slow_db, environment)
    undo = """UPDATE lms.places SET status = 'in_progress', withdrawn_at = NULL, withdrawal_reason = NULL,
        withdrawn_by = NULL WHERE id = :id"""
    with held(owner, undo, id=enrolment_id) as hold:
        erase = partial(
            erased_texts.rename_withdrawn_by, organisation_id=world.organisation_id, job_id=job.id, name="erased"
        )
        erasing = threads.go(slow_db.run, erase)
        await_waiters(world)
        hold.release()
        erasing.result(PATIENCE)
    assert world.status(enrolment_id) == "in_progress"
    assert world.one("SELECT withdrawn_by FROM lms.places") is None


def test_the_index_that_refuses_a_second_active_enrolment_may_be_of_any_table(world: World) -> None:
    """Behind a view it is; an index of the service's own says something else."""
    world.run("CREATE TABLE public.places (id bigint PRIMARY KEY)")
    world.run("INSERT INTO public.places VALUES (1)")
    with pytest.raises(IntegrityError) as refused:
        world.run("INSERT INTO public.places VALUES (1)")
    assert is_enrolled_meanwhile(refused.value)
    settings = "INSERT INTO withdrawals.organisation_settings (organisation_id) VALUES (:o)"
    with pytest.raises(IntegrityError) as refused:
        for _ in range(2):
            world.run(settings, o=world.organisation_id)
    assert not is_enrolled_meanwhile(refused.value)
