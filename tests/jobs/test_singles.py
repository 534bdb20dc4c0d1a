"""Small jobs in sets: each gets the answer that it would get alone, whoever it shares its transaction with."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from schemas.catalogue import JobState
from schemas.jobs import JobRequest
from tests.support.racing import held
from tests.world import PATIENCE, World, assert_balanced, decide_due, eventually
from worker.config import Settings
from worker.database import Database
from worker.errors import IdempotencyConflictError
from worker.jobs import show, submit
from worker.jobs.singles import Single, accept_at_once, accept_in_steps, singles
from worker.one_message import Step, at_once
from worker.records import Submitted


def single(world: World, *, key: str | None = None, organisation_id: int | None = None, **request: Any) -> Single:
    requester = world.requester(key, door="api")
    if organisation_id is not None:
        requester = replace(requester, organisation_id=organisation_id)
    made = submit.single(requester, JobRequest(**{"reason": "not_required", **request}))
    assert made is not None
    return made


def accept(db: Database, *wanted: Single) -> Sequence[Submitted | Exception]:
    with db.begin(autocommit=True) as connection:
        found = accept_at_once(connection, wanted)
    with db.begin() as connection:
        others = iter(accept_in_steps(connection, [one for one, it in zip(wanted, found, strict=True) if it is None]))
    return [it if it is not None else next(others) for it in found]


def jobs(answers: Sequence[Submitted | Exception]) -> list[Submitted]:
    assert all(isinstance(answer, Submitted) for answer in answers), answers
    return [answer for answer in answers if isinstance(answer, Submitted)]


LOCK_WAITERS = """SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND wait_event_type = 'Lock'"""
REQUESTS: dict[str, dict[str, Any]] = {
    "ids": {"enrolment_ids": [3, 1, 2, 1], "note": "ä \ud83d\ude00".encode("utf-16", "surrogatepass").decode("utf-16")},
    "a learner": {"learner_external_id": "anna ", "source": "admin"},
    "later": {"enrolment_ids": [1], "effective_at": "2999-01-01T00:00:00+02:00"},
    "past": {"enrolment_ids": [2**63 - 1], "effective_at": "2020-01-01T00:00:00Z"},
}


@pytest.mark.parametrize("request_", REQUESTS.values(), ids=REQUESTS)
def test_the_answer_is_what_would_be_read_back(db: Database, world: World, request_: dict[str, Any]) -> None:
    (made,) = jobs(accept(db, single(world, **request_)))
    assert made.created
    assert made.job == show.show(db, organisation_id=world.organisation_id, job_id=made.job.id)


def test_a_set_writes_what_single_requests_write(db: Database, world: World, environment: Settings) -> None:
    ids = world.enrolments(6)
    columns = "j.state, j.learners, j.accepted, c.state, c.size, c.number, c.lane, c.enrolment_ids"
    digest = "(SELECT bit_xor(hashint8extended(i, j.id)) FROM unnest(c.enrolment_ids) i) = c.digest"
    rows = (
        f"SELECT {columns}, {digest} FROM withdrawals.jobs j JOIN withdrawals.chunks c ON c.job_id = j.id ORDER BY j.id"
    )
    made = jobs(accept(db, *(single(world, key=f"key {n}", enrolment_ids=[one]) for n, one in enumerate(ids))))
    assert [one.job.state for one in made] == [JobState.QUEUED] * 6
    assert [tuple(row) for row in world.run(rows)] == [("queued", 1, 1, "ready", 1, 0, 2, [one], True) for one in ids]
    assert world.one("SELECT sum(jobs) FROM withdrawals.brake_volume") == 6
    assert world.one("SELECT count(*) FROM withdrawals.audit WHERE action = 'job.submit'") == 6
    decide_due(db, environment)
    assert [world.status(one) for one in ids] == ["withdrawn"] * 6
    assert_balanced(db)


def test_of_a_key_in_one_set_the_first_makes_the_job(db: Database, world: World) -> None:
    first, second = world.enrolments(2)
    answers = accept(
        db,
        single(world, key="k", enrolment_ids=[first]),
        single(world, key="k", enrolment_ids=[first]),
        single(world, key="k", enrolment_ids=[second]),
        single(world, key="other", enrolment_ids=[second]),
    )
    made, again, refused, neighbour = answers
    assert isinstance(made, Submitted)
    assert isinstance(again, Submitted)
    assert isinstance(neighbour, Submitted)
    assert (made.created, again.created, again.job.id, neighbour.created) == (True, False, made.job.id, True)
    assert isinstance(refused, IdempotencyConflictError)
    assert world.one("SELECT count(*) FROM withdrawals.jobs") == 2
    later = accept(db, single(world, key="k", enrolment_ids=[second]), single(world, key="k", enrolment_ids=[first]))
    assert isinstance(later[0], IdempotencyConflictError)
    assert isinstance(later[1], Submitted)
    assert later[1].job.id == made.job.id


def test_the_same_key_a_hundred_times_at_once_is_one_job(db: Database, world: World) -> None:
    ids = world.enrolments(1)
    wanted = [single(world, key="k", enrolment_ids=ids) for _ in range(100)]
    groups = [singles(db) for _ in range(3)]  # as three processes
    with ThreadPoolExecutor(25) as pool:
        waiting = list(pool.map(lambda n: groups[n % 3].submit(wanted[n]), range(100)))
    answers = jobs([one.result(60) for one in waiting])
    for group in groups:
        group.close()
    assert len({answer.job.id for answer in answers}) == 1
    assert sum(answer.created for answer in answers) == 1
    assert world.one("SELECT count(*) FROM withdrawals.jobs") == 1


def test_an_answer_does_not_wait_for_what_another_request_of_its_group_waits_for(
    db: Database, owner: Database, world: World
) -> None:
    """One that names a person waits for its organisation; one by ids, beside it, is committed and answered."""
    db.retry_seconds = PATIENCE
    other = world.organisation("Other")
    world.run("INSERT INTO withdrawals.organisation_settings (organisation_id) VALUES (:o)", o=other)
    busy, by_ids = (single(world, enrolment_ids=[one]) for one in world.enrolments(2))
    person = single(world, learner_external_id="ben", organisation_id=other, source="admin")
    commits = singles(db)
    lock = "SELECT FROM withdrawals.organisation_settings WHERE organisation_id = :o FOR UPDATE"
    with held(owner, lock, o=other):
        with owner.begin() as connection:
            accept_in_steps(connection, [busy])
            first = commits.submit(busy)
            eventually(lambda: world.one(LOCK_WAITERS), what="the group waits for the key")
            with_person, with_ids = commits.submit(person), commits.submit(by_ids)
        (answered,) = jobs([with_ids.result(PATIENCE)])
        assert answered.created
        assert not with_person.done()
    assert jobs([with_person.result(PATIENCE)])[0].created
    assert not jobs([first.result(PATIENCE)])[0].created
    commits.close()


def test_the_brake_admits_those_of_a_set_that_fit_and_holds_the_rest(db: Database, world: World) -> None:
    """One after the other: a large one is held, a smaller one after it still fits. Organisations do not mix."""
    other = world.organisation("Other")
    ids = world.enrolments(12)
    for organisation_id in (world.organisation_id, other):
        world.run(
            """INSERT INTO withdrawals.organisation_settings (organisation_id, brake_floor, brake_share, brake_hours)
            VALUES (:o, 5, 0, 24)""",
            o=organisation_id,
        )
    theirs = world.enrolment("theirs", organisation_id=other)
    made = jobs(
        accept(
            db,
            single(world, enrolment_ids=ids[:3]),
            single(world, enrolment_ids=ids[3:7]),
            single(world, enrolment_ids=[theirs], organisation_id=other),
            single(world, enrolment_ids=ids[7:9]),
            single(world, enrolment_ids=ids[9:10]),
        )
    )
    assert [one.job.state for one in made] == ["queued", "held", "queued", "queued", "held"]
    held = made[1].job
    assert held.brake is not None
    assert (held.brake["before"], held.brake["learners"], held.brake["population"]) == (3, 4, 12)
    for one in made:
        read = show.show(db, organisation_id=one.job.organisation_id, job_id=one.job.id)
        assert one.job == replace(read, series_title=None), "a small job's Series is looked up when it is read"
    assert world.run("SELECT DISTINCT c.state FROM withdrawals.chunks c JOIN withdrawals.jobs j ON j.id = c.job_id "
                     "WHERE j.state = 'held'") == [("waiting",)]  # fmt: skip
    assert world.one("SELECT sum(jobs) FROM withdrawals.brake_volume WHERE organisation_id = :o",
                     o=world.organisation_id) == 5  # fmt: skip


def test_a_key_that_is_taken_between_look_and_insert_answers_with_its_job(db: Database, world: World) -> None:
    """Another process commits it while this one, which has looked, waits for the settings row.

    What is counted for the brake meanwhile is seen: the second of two that do not fit together is held.
    """
    world.run(
        """INSERT INTO withdrawals.organisation_settings (organisation_id, brake_floor, brake_share, brake_hours)
        VALUES (:o, 1, 0, 24)""",
        o=world.organisation_id,
    )
    one, two = world.enrolments(2)
    again, other = single(world, key="k", enrolment_ids=[one]), single(world, key="other", enrolment_ids=[two])
    with ThreadPoolExecutor(1) as pool:
        with db.begin() as connection:
            (first,) = jobs(accept_in_steps(connection, [single(world, key="k", enrolment_ids=[one])]))
            waiting = pool.submit(accept, db, again, other)
            eventually(lambda: world.one(LOCK_WAITERS), what="the other one waits for the settings row")
        second, held = jobs(waiting.result(60))
    assert (second.created, second.job.id) == (False, first.job.id)
    assert (held.created, held.job.state) == (True, "held")
    assert world.one("SELECT sum(jobs) FROM withdrawals.brake_volume") == 1


def test_what_is_sent_names_no_note_and_is_prepared_again_where_it_was_dropped(
    db: Database, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server logs the text of a statement that failed. The driver drops what is prepared after a ROLLBACK."""
    sent, execute = list[str](), db.engine.dialect.do_execute

    def do_execute(cursor: Any, statement: str, *given: Any) -> None:
        sent.append(statement)
        execute(cursor, statement, *given)

    monkeypatch.setattr(db.engine.dialect, "do_execute", do_execute)
    for one in world.enrolments(2):
        (answer,) = jobs(accept(db, single(world, enrolment_ids=[one], note="Ada Lovelace")))
        assert (answer.created, answer.job.note) == (True, "Ada Lovelace")
        with db.begin(autocommit=True) as connection:
            connection.exec_driver_sql("DEALLOCATE jobs_look")
    assert any("EXECUTE jobs_insert" in text for text in sent)
    assert not any("Lovelace" in text for text in sent)


def test_what_was_prepared_although_its_answer_was_an_error_is_not_prepared_again(db: Database) -> None:
    """As when a statement is cancelled, or its time is over, at the very end: else each later message would fail."""
    step = Step("known_already", "SELECT CAST(:n AS integer)")
    with db.begin(autocommit=True) as connection:
        connection.exec_driver_sql(step.preparation)
        assert at_once(connection, (step, {"n": 3})) == [[(3,)]]
        connection.exec_driver_sql("DEALLOCATE known_already")
