"""A commit whose answer never came: nobody can tell it from one that failed, so it is repeated.

DESIGN.md §2: "After a lost connection the retry starts again at the token check: a chunk found done is success."
`Database.run` repeats the whole transaction, so each has to start from a guard that its first success has changed.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
from sqlalchemy import Connection

from schemas.events import PersonEvent
from tests.support.racing import chunks, job_state, leases_run_out, take
from tests.world import World, assert_balanced, decide_due, eventually
from worker.config import Settings
from worker.database import Database
from worker.dead_letters import remedies
from worker.jobs import control
from worker.people import events
from worker.queue import recovery
from worker.queue.apply import apply
from worker.queue.broker import make_broker
from worker.queue.relay import Relay


class LostAnswer:
    """Lets one commit reach the server and then loses the connection before its answer.

    A message of several statements is a commit, too.
    """

    def __init__(self, which: int) -> None:
        self.left = which

    def patch(self, db: Database, patch: pytest.MonkeyPatch) -> "LostAnswer":
        commit, execute = db.engine.dialect.do_commit, db.engine.dialect.do_execute

        def do_commit(connection: Any) -> None:
            commit(connection)
            self._answered(connection.driver_connection)

        def do_execute(cursor: Any, *given: Any, **named: Any) -> None:
            execute(cursor, *given, **named)
            if isinstance(cursor, psycopg.ClientCursor):
                self._answered(cursor.connection)

        patch.setattr(db.engine.dialect, "do_commit", do_commit)
        patch.setattr(db.engine.dialect, "do_execute", do_execute)
        return self

    def _answered(self, connection: Any) -> None:
        self.left -= 1
        if self.left == 0:
            connection.close()
            raise psycopg.OperationalError("consuming input failed: server closed the connection unexpectedly")


@pytest.mark.parametrize(
    "which",
    [1, 2, 3],
    ids=["of the claim", "of the decision", "of the end of the job"],
)
def test_a_commit_whose_answer_is_lost_is_done_once(
    db: Database,
    world: World,
    environment: Settings,
    monkeypatch: pytest.MonkeyPatch,
    withdrawals: Callable[[], Counter[int]],
    which: int,
) -> None:
    """Nobody can tell such a commit from one that failed; the transaction is repeated and finds what it did."""
    pathway = world.pathway()
    ids, owned = world.enrolments(3), world.enrolment(pathway_id=pathway)
    job = world.submit(db, [*ids, owned])
    with monkeypatch.context() as patch:
        lost = LostAnswer(which).patch(db, patch)
        decide_due(db, environment)
    assert lost.left <= 0
    broker = make_broker(environment.broker_url.get_secret_value())
    relay = Relay(db, broker, environment)

    def done() -> bool:
        leases_run_out(world)
        relay.sweep()
        decide_due(db, environment)
        return job_state(world, job.id) == "completed_with_exceptions"

    eventually(done, what="the job done")
    broker.close()
    broker.client.close()
    assert world.outcomes(job.id) == {**dict.fromkeys(ids, "withdrawn"), owned: "pathway_owned"}
    assert withdrawals() == dict.fromkeys(ids, 1)
    assert chunks(world, job.id, "state, counts") == [("done", {"withdrawn": 3, "pathway_owned": 1})]
    assert not world.run("SELECT FROM withdrawals.attempts"), "a claim whose answer was lost is found by its token"
    assert len(world.letters()) == 1
    assert_balanced(db)


def test_the_retry_after_a_lost_answer_finds_the_chunk_done(
    db: Database, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second run of the same transaction: a chunk found done is success, and nothing is written again."""
    ids = world.enrolments(3)
    world.submit(db, ids)
    claim = take(db)
    seen = []

    def work(connection: Connection) -> None:
        seen.append(apply(connection, claim))

    with monkeypatch.context() as patch:
        LostAnswer(1).patch(db, patch)
        db.run(work)
    assert [len(applied.decided) for applied in seen] == [1, 0]
    assert_balanced(db)


@pytest.fixture
def one_lost_answer(db: Database, monkeypatch: pytest.MonkeyPatch) -> Callable[[], AbstractContextManager[None]]:
    """A block in which the first commit's answer is lost."""

    @contextmanager
    def lost() -> Iterator[None]:
        with monkeypatch.context() as patch:
            answer = LostAnswer(1).patch(db, patch)
            yield
            assert answer.left < 0, "the transaction was repeated"

    return lost


Lost = Callable[[], AbstractContextManager[None]]


def test_a_submit_whose_answer_is_lost_makes_one_job(db: Database, world: World, one_lost_answer: Lost) -> None:
    """The repetition finds its own key and answers with the job that it made."""
    with one_lost_answer():
        job = world.submit(db, world.enrolments(3))
    assert world.run("SELECT id FROM withdrawals.jobs") == [(job.id,)]
    assert world.one("SELECT count(*) FROM withdrawals.audit") == 1
    assert_balanced(db)


def test_a_cancel_whose_answer_is_lost_is_one_act(db: Database, world: World, one_lost_answer: Lost) -> None:
    """The repetition finds the job cancelled."""
    job = world.submit(db, world.enrolments(3))
    with one_lost_answer():
        shown = control.cancel(db, organisation_id=world.organisation_id, job_id=job.id, actor="test:admin")
    assert shown.state == "cancelled"
    assert world.one("SELECT count(*) FROM withdrawals.audit WHERE action = 'job.cancel'") == 1
    assert_balanced(db)


def test_a_failure_whose_record_is_acknowledged_late_counts_once(
    db: Database, world: World, environment: Settings, one_lost_answer: Lost
) -> None:
    """The repetition finds the chunk handed back and blames nobody a second time."""
    job = world.submit(db, world.enrolments(1))
    claim = take(db)
    with one_lost_answer():
        recovery.record_failure(db, environment, claim, ValueError("unexpected"))
    assert chunks(world, job.id, "state, attempts, claims") == [("ready", 1, 0)]
    assert world.one("SELECT count(*) FROM withdrawals.attempts") == 1
    assert_balanced(db)


@pytest.mark.parametrize("kind", ["deactivated", "reactivated"])
def test_an_event_with_its_own_time_whose_answer_is_lost_is_followed_once(
    db: Database, world: World, one_lost_answer: Lost, kind: str
) -> None:
    """The repetition finds the job of its key, or the event itself as the newest."""
    world.learner("anna")
    with one_lost_answer():
        world.event(db, kind, "anna", occurred_at=datetime(2026, 1, 1, tzinfo=UTC))
    assert world.active("anna") is (kind == "reactivated")
    assert world.one("SELECT epoch FROM withdrawals.persons") == 1
    assert world.one("SELECT count(*) FROM withdrawals.jobs") == (kind == "deactivated")
    assert_balanced(db)


def test_a_reactivation_sent_again_does_not_undo_a_later_deactivation(db: Database, world: World) -> None:
    """SCIM sends no time. The same request with the same key is the same event, however late it is repeated."""
    world.learner("anna")
    requester, event = world.requester(door="scim"), PersonEvent(type="user.reactivated", external_id="anna")
    events.record(db, requester, "scim", event)
    world.event(db, "deactivated", "anna", source="scim")
    events.record(db, requester, "scim", event)
    assert not world.active("anna")


@pytest.mark.parametrize("act", [remedies.redrive, remedies.discard])
def test_an_act_on_a_letter_whose_answer_is_lost_is_not_reported_as_a_conflict(
    db: Database, world: World, environment: Settings, one_lost_answer: Lost, act: Callable[..., None]
) -> None:
    """Support would be told that somebody else was faster, although it was they."""
    world.submit(db, [world.enrolment(pathway_id=world.pathway())])
    decide_due(db, environment)
    (letter,) = world.letters()
    with one_lost_answer():
        act(db, organisation_id=world.organisation_id, letter_ids=[letter.id], actor="test:support")
    assert world.one("SELECT count(*) FROM withdrawals.audit WHERE dead_letter_id = :id", id=letter.id) == 1
    assert_balanced(db)
