"""What a claim, a round of the relay and a scrape read does not grow with what waits.

Counted in rows and index entries, by the server's own statistics of the transaction: no clock, and no plan spelt out.
"""

from collections.abc import Callable
from datetime import timedelta

import pytest
from sqlalchemy import Connection, text

from schemas.catalogue import JobState, LetterCode
from schemas.dead_letters import LetterFilter
from schemas.job_filter import JobFilter
from schemas.reinstate import ReinstateFilter, ReinstateRequest
from tests.support.costs import counting
from tests.support.due import count_claims
from tests.support.racing import decide, finish, take
from tests.world import World, decide_due
from worker.config import Settings, settings
from worker.database import Database
from worker.dead_letters import desk, desk_acts, remedies
from worker.jobs import reinstate
from worker.ledger import approvals, claimed, claims, gauges, inbox_sets, job_lists, jobs, letter_counts, runs
from worker.ledger.fragments import plan_by_index
from worker.people import due
from worker.people.due import DueDeactivations
from worker.queue.leftovers import Leftovers

pytestmark = pytest.mark.counts

FEW, MANY = 400, 4000
LEASE = timedelta(seconds=30)


class Backlog:
    """Fills the ledger by SQL, as much as it is told."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.count = 0

    def grow(self, to: int, fill: Callable[["Backlog", int], None]) -> None:
        fill(self, to - self.count)
        self.count = to

    def jobs(self, count: int, *, state: str = "queued", chunk: str = "ready", deferred: bool = False) -> None:
        """So many jobs with one chunk of one id each."""
        self._world.run(
            """WITH j AS (
                INSERT INTO withdrawals.jobs (organisation_id, reason, source, requested_by, door, idempotency_key,
                    request_hash, state, accepted, effective_at, admitted_at, held_because)
                SELECT :o, 'not_required', 'bulk', 'test:backlog', 'cli', gen_random_uuid()::text, '', :state, 1, now(),
                    CASE WHEN :state IN ('queued', 'paused') THEN now() END, CASE WHEN :state = 'held' THEN 'brake' END
                FROM generate_series(1, :count) RETURNING id)
            INSERT INTO withdrawals.chunks (job_id, organisation_id, number, lane, enrolment_ids, size, state, deferred,
                run_after)
            SELECT id, :o, 0, 2, ARRAY[id], 1, :chunk, :deferred, CASE WHEN :deferred THEN now() + interval '1 day'
                ELSE now() END FROM j""",
            o=self._world.organisation_id,
            count=count,
            state=state,
            chunk=chunk,
            deferred=deferred,
        )

    def several(self, count: int) -> None:
        """Jobs with two chunks, of which none has begun."""
        self.jobs(count)
        self._world.run(
            """WITH grown AS (UPDATE withdrawals.jobs SET accepted = 2
                WHERE accepted = 1 AND requested_by = 'test:backlog' RETURNING id)
            INSERT INTO withdrawals.chunks (job_id, organisation_id, number, lane, enrolment_ids, size, state)
            SELECT id, :o, 1, 2, ARRAY[id + 1], 1, 'ready' FROM grown""",
            o=self._world.organisation_id,
        )

    def paused(self, count: int) -> None:
        """Jobs that were paused while all their chunks were due."""
        self.jobs(count)
        self._world.run("UPDATE withdrawals.jobs SET state = 'paused' WHERE requested_by = 'test:backlog'")

    def big(self, count: int) -> None:
        """One job with so many chunks more."""
        if not self.count:
            self.jobs(1)
        self._world.run(
            """INSERT INTO withdrawals.chunks (job_id, organisation_id, number, lane, enrolment_ids, size, state)
            SELECT (SELECT min(id) FROM withdrawals.jobs), :o, :first + n, 2, array_fill(n, ARRAY[1000]), 1000, 'ready'
            FROM generate_series(1, :count) n""",
            o=self._world.organisation_id,
            first=self.count,
            count=count,
        )

    def unknown_persons(self, count: int) -> None:
        """Persons whose deactivation is due and whom the platform does not know."""
        self._world.run(
            """INSERT INTO withdrawals.persons (organisation_id, external_id, active, effective_at, deactivation_due)
            SELECT :o, gen_random_uuid()::text, false, now() - interval '1 day', true
            FROM generate_series(1, :count)""",
            o=self._world.organisation_id,
            count=count,
        )

    def events(self, count: int) -> None:
        """Events in the inbox, of as many persons."""
        self._world.run(
            """INSERT INTO withdrawals.receipts (organisation_id, door, idempotency_key, request_hash, status, waiting,
                type, external_id, run_after)
            SELECT :o, 'hr:workday', gen_random_uuid()::text, '', 'accepted', true, 'user.deactivated',
                gen_random_uuid()::text, now() FROM generate_series(1, :count)""",
            o=self._world.organisation_id,
            count=count,
        )

    def claimed(self, count: int) -> None:
        """Chunks in the hands of workers."""
        self.jobs(count)
        self._world.run(
            """UPDATE withdrawals.chunks SET state = 'claimed', token = gen_random_uuid(), claimed_at = now(),
                lease_until = now() WHERE state = 'ready'"""
        )

    def deliveries(self, count: int) -> None:
        """Deliveries that are due, and as many that were given up."""
        self._world.run(
            """WITH e AS (INSERT INTO withdrawals.endpoints (organisation_id, url, events, secret, created_by)
                VALUES (:o, 'https://example.org/' || gen_random_uuid(), '{job.held}', '', 'test') RETURNING id)
            INSERT INTO withdrawals.deliveries (endpoint_id, organisation_id, type, data, state)
            SELECT e.id, :o, 'test', '{}', s FROM e, generate_series(1, :count), unnest(ARRAY['due', 'failed']) s""",
            o=self._world.organisation_id,
            count=count,
        )

    def letters(self, count: int) -> None:
        self._world.run(
            """INSERT INTO withdrawals.dead_letters (organisation_id, code, learner_external_id, fingerprint)
            SELECT :o, 'unknown_learner', gen_random_uuid()::text, 'unknown_learner' FROM generate_series(1, :count)""",
            o=self._world.organisation_id,
            count=count,
        )

    def desk(self, count: int) -> None:
        """Letters of two codes and four causes, of every age; a third is closed, and of the others half assigned."""
        self._world.run(
            """INSERT INTO withdrawals.dead_letters (organisation_id, code, learner_external_id, fingerprint, opened_at,
                state, assignee, closed_at, closed_by, remedy)
            SELECT :o, CASE WHEN n % 2 = 0 THEN 'unknown_learner' ELSE 'not_found' END,
                gen_random_uuid()::text, 'cause:' || n % 4, now() - n % 40 * interval '1 day',
                CASE WHEN n % 3 = 0 THEN 'resolved' ELSE 'open' END,
                CASE WHEN n % 3 = 1 THEN 'dora' END, CASE WHEN n % 3 = 0 THEN now() END,
                CASE WHEN n % 3 = 0 THEN 'dora' END, CASE WHEN n % 3 = 0 THEN 'keep' END
            FROM generate_series(1, :count) n""",
            o=self._world.organisation_id,
            count=count,
        )


def reads_at_each_size(
    world: World, db: Database, fill: Callable[[Backlog, int], None], act: Callable[[], object]
) -> list[int]:
    """What an act reads over a few and over ten times as many. The tables are analysed while they are small.

    It is done twice, and the second time counts: the first reader after a change meets what the change left behind.
    """
    backlog, found = Backlog(world), []
    for size in (FEW, MANY):
        backlog.grow(size, fill)
        if size == FEW:
            world.run(
                "ANALYZE withdrawals.jobs, withdrawals.chunks, withdrawals.persons, withdrawals.dead_letters, "
                "withdrawals.receipts, withdrawals.deliveries"
            )
        act()
        with counting(db) as costs:
            act()
        found.append(costs.rows_read)
    return found


def assert_bounded(reads: list[int]) -> None:
    few, many = reads
    assert many <= few * 1.5 + 100, f"{FEW} wait: {few} rows are read; {MANY} wait: {many}"


@pytest.mark.part(3)
@pytest.mark.parametrize("oldest", [False, True])
@pytest.mark.parametrize(
    "fill",
    [
        pytest.param(Backlog.jobs, id="single requests"),
        pytest.param(Backlog.big, id="a job of many chunks"),
        pytest.param(Backlog.paused, id="paused jobs"),
        pytest.param(lambda backlog, count: backlog.jobs(count, state="held", chunk="waiting"), id="held jobs"),
        pytest.param(lambda backlog, count: backlog.jobs(count, deferred=True), id="chunks to be tried later"),
    ],
)
def test_a_claim_reads_no_more_the_more_waits(
    world: World, db: Database, fill: Callable[[Backlog, int], None], oldest: bool
) -> None:
    """One job behind what waits is due in any case, and given back each time."""
    last = world.submit(db, world.enrolments(1)).id

    def act() -> None:
        with db.begin() as connection:
            claim = claims.claim(connection, budget=50, lease=LEASE, oldest=oldest)
            assert claim is not None
            assert claimed.give_back(connection, claim.chunk_ids, claim.token)

    def behind(backlog: Backlog, count: int) -> None:
        fill(backlog, count)
        world.run("UPDATE withdrawals.chunks SET number = 1000000 WHERE job_id = :id", id=last)

    assert_bounded(reads_at_each_size(world, db, behind, act))


def test_a_single_request_reads_no_more_the_more_jobs_there_are(world: World, db: Database) -> None:
    """The plan of its statements is made while there are hardly any, and kept."""
    ids = iter(world.enrolments(20))

    def act() -> None:
        world.submit(db, [next(ids)])

    for _ in range(8):
        act()
    found = []
    for size in (FEW, MANY):
        Backlog(world).jobs(size)
        act()
        with counting(db) as costs:
            act()
        found.append(costs.rows_read)
    assert_bounded(found)


def test_the_look_for_due_events_reads_no_more_the_more_waits(world: World, db: Database) -> None:
    def act() -> None:
        with db.begin() as connection:
            assert inbox_sets.list_due(connection, most=8) == [world.organisation_id]

    assert_bounded(reads_at_each_size(world, db, Backlog.events, act))


def test_the_look_for_due_events_passes_over_none_that_has_to_be_looked_up(world: World, db: Database) -> None:
    def fill(backlog: Backlog, size: int) -> None:
        backlog.events(size)
        world.run("UPDATE withdrawals.receipts SET type = 'user.changed', lookup = true WHERE waiting")

    def act() -> None:
        with db.begin() as connection:
            assert inbox_sets.list_due(connection, most=8) == []
            assert inbox_sets.take(connection, world.organisation_id, most=50)[0] == []

    assert_bounded(reads_at_each_size(world, db, fill, act))


def test_what_a_set_of_events_takes_is_bounded(world: World, db: Database) -> None:
    def act() -> None:
        with db.begin() as connection:
            inbox_sets.list_due(connection, most=8)
            assert len(inbox_sets.take(connection, world.organisation_id, most=50)[0]) == 50

    assert_bounded(reads_at_each_size(world, db, Backlog.events, act))


def test_what_the_relay_counts_before_it_publishes_is_bounded(world: World, db: Database) -> None:
    def act() -> None:
        with db.begin() as connection:
            assert count_claims(connection, most=8) == 8

    assert_bounded(reads_at_each_size(world, db, Backlog.jobs, act))


@pytest.mark.parametrize("step", ["finish", "close_cancelled"])
def test_a_round_looks_at_what_changed_and_not_at_what_waits(world: World, db: Database, step: str) -> None:
    """The first rounds go over everything, a slice a round; from then on only what has changed."""
    leftovers = Leftovers(LEASE)
    for _ in range(2):
        getattr(leftovers, step)(db)
    assert_bounded(reads_at_each_size(world, db, Backlog.jobs, lambda: getattr(leftovers, step)(db)))


@pytest.mark.parametrize("fill", [Backlog.jobs, Backlog.several], ids=["single requests", "jobs of several chunks"])
def test_the_list_of_running_jobs_reads_no_more_the_more_waits(
    world: World, db: Database, environment: Settings, fill: Callable[[Backlog, int], None]
) -> None:
    """It has the jobs of which a part is decided, also after the worker died, and the one that a worker has claimed."""
    begun, died = (world.submit(db, world.enrolments(4), chunk_size=2).id for _ in range(2))
    claimed = world.submit(db, world.enrolments(1)).id
    for job_id, ends in ((begun, True), (died, False)):
        world.run("UPDATE withdrawals.chunks SET run_after = now() + interval '1 hour' WHERE job_id <> :id", id=job_id)
        decide(db, take(db, budget=2))
        if ends:
            assert finish(db, job_id) == []
        world.run("UPDATE withdrawals.chunks SET run_after = now()")
    Leftovers(LEASE).finish(db)
    world.run(
        "UPDATE withdrawals.chunks SET state = 'claimed', token = gen_random_uuid(), claimed_at = now(), claims = 1, "
        "lease_until = now() + interval '1 hour' WHERE job_id = :id",
        id=claimed,
    )

    def act() -> None:
        with db.begin() as connection:
            found = job_lists.list_jobs(connection, world.organisation_id, JobFilter(state=JobState.RUNNING))
            assert [job.id for job in found] == [claimed, died, begun]
            assert {job.state for job in found} == {JobState.RUNNING}
            one = job_lists.list_jobs(
                connection, world.organisation_id, JobFilter(state=JobState.RUNNING), last=died, limit=1
            )
            assert [job.id for job in one] == [begun]

    assert_bounded(reads_at_each_size(world, db, fill, act))


def test_the_look_for_overdue_letters_reads_no_more_the_more_were_told(
    world: World, db: Database, environment: Settings
) -> None:
    world.run(
        """INSERT INTO withdrawals.endpoints (organisation_id, url, events, secret, created_by)
        VALUES (:o, 'https://example.org/', '{dead_letter.overdue}', '', 'test')""",
        o=world.organisation_id,
    )

    def fill(backlog: Backlog, count: int) -> None:
        backlog.desk(count)
        while desk_acts.announce_overdue(db, environment):
            pass
        world.run("UPDATE withdrawals.endpoints SET url = url")  # only then the server sees that old rows are dead

    assert_bounded(reads_at_each_size(world, db, fill, lambda: desk_acts.announce_overdue(db, environment)))


def test_the_undo_of_one_reads_no_more_the_larger_its_job_is(world: World, db: Database, environment: Settings) -> None:
    """From the plan to the end of the undo, when the brake gives the learner back, also to a limit for the Series."""
    with db.begin() as connection:
        jobs.lock_settings(connection, world.organisation_id)
        limit = {"act": "withdraw_series", "source": None, "alone_up_to": 10 * MANY}
        approvals.set_rules(connection, world.organisation_id, [limit])
    found = []
    for size in (FEW, MANY):
        ids = world.enrolments(size)
        job = world.submit(db, ids, chunk_size=FEW)
        decide_due(db, environment)
        if size == FEW:
            world.run("ANALYZE withdrawals.jobs, withdrawals.chunks, withdrawals.outcomes, lms.enrolments")
        with world.owner.begin(
            autocommit=True
        ) as connection:  # old versions of its chunks are no part of what is asked
            connection.execute(text("VACUUM withdrawals.chunks"))
        for one in ids[:2]:
            part = ReinstateFilter(enrolment_ids=[one])
            with counting(db) as costs:
                reinstate.plan(db, world.organisation_id, job.id, part)
                reinstate.reinstate(db, world.requester(), job.id, ReinstateRequest(filter=part))
                decide_due(db, environment)
        assert world.one("SELECT learners FROM withdrawals.jobs WHERE id = :id", id=job.id) == size - 2
        found.append(costs.rows_read)
    assert_bounded(found)


@pytest.mark.parametrize("failed", [0, 1])
def test_the_end_of_a_canary_holds_no_letter_against_all_the_others(world: World, db: Database, failed: int) -> None:
    """A run has just made its rows, so nothing knows yet how many there are."""

    def end(letters: int) -> int:
        run_id = world.one(
            """INSERT INTO withdrawals.runs (organisation_id, act, filter, actor, rate, canary, state)
            VALUES (:o, 'redrive', jsonb_build_object('code', CAST(:letters AS text)), 'dora', 1000, 1, 'canary')
            RETURNING id""",
            o=world.organisation_id,
            letters=letters,
        )
        world.run(
            """INSERT INTO withdrawals.run_letters (run_id, dead_letter_id, fingerprint, canary, driven_at, result,
                ended_at)
            SELECT :run, n, 'cause:' || n % 4, n <= 4, CASE WHEN n <= 4 THEN now() END,
                CASE WHEN n <= :failed THEN 'open' WHEN n <= 4 THEN 'resolved' END, CASE WHEN n <= 4 THEN now() END
            FROM generate_series(1, :letters) n""",
            run=run_id,
            letters=letters,
            failed=failed,
        )
        with counting(db) as costs, db.begin() as connection:
            assert runs.end_canary(connection, run_id)
        held = world.one("SELECT count(*) FROM withdrawals.run_letters WHERE result = 'held_back'")
        assert held >= failed * (letters // 4 - 1)
        return costs.rows_read

    few, many = end(FEW), end(MANY)
    assert many <= few * (MANY // FEW) * 1.5 + 100, (few, many)


def test_persons_who_are_unknown_for_long_are_looked_at_a_slice_a_round(
    world: World, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(due, "NEW", FEW // 4)
    monkeypatch.setattr(due, "AGAIN", FEW // 4)
    found = DueDeactivations()

    def act() -> None:
        with db.begin() as connection:
            found.list_known(connection)

    assert_bounded(reads_at_each_size(world, db, Backlog.unknown_persons, act))


@pytest.mark.part(2)
@pytest.mark.parametrize(
    ("fill", "gauge"),
    [
        (Backlog.jobs, gauges.due_chunks),
        (lambda backlog, count: backlog.jobs(count, state="held", chunk="waiting"), gauges.held_jobs),
        (Backlog.letters, gauges.open_letters),
        (Backlog.events, gauges.waiting_events),
        (Backlog.jobs, gauges.due_by_lane),
        (lambda backlog, count: backlog.jobs(count, state="held", chunk="waiting"), gauges.held_seconds),
        (Backlog.claimed, gauges.claimed_chunks),
        (Backlog.deliveries, gauges.deliveries),
    ],
    ids=["due chunks", "held jobs", "open letters", "events in the inbox", "lanes", "held since", "claims", "webhooks"],
)
def test_a_scrape_counts_up_to_a_limit(
    world: World,
    db: Database,
    monkeypatch: pytest.MonkeyPatch,
    fill: Callable[[Backlog, int], None],
    gauge: Callable[[Connection], object],
) -> None:
    monkeypatch.setattr(gauges, "GAUGED_AT_MOST", FEW // 4)

    def act() -> None:
        with db.begin() as connection:
            gauge(connection)

    assert_bounded(reads_at_each_size(world, db, fill, act))


def test_the_desk_reads_no_more_the_more_letters_are_open(
    world: World, db: Database, monkeypatch: pytest.MonkeyPatch, subtests: pytest.Subtests
) -> None:
    monkeypatch.setattr(desk, "COUNTED", FEW // 40)
    monkeypatch.setattr(letter_counts, "_SHARES", (FEW // 40,))
    org, every, of_code = world.organisation_id, LetterFilter(), LetterFilter(code=LetterCode.UNKNOWN_LEARNER)
    unassigned, of_cause = LetterFilter(assignee="none"), LetterFilter(fingerprint="cause:1")
    acts: dict[str, Callable[[], object]] = {
        "the overview": lambda: desk.overview(db, settings(), org),
        "causes": lambda: desk.groups(db, settings(), org, every),
        "causes of a code": lambda: desk.groups(db, settings(), org, of_code),
        "how many are overdue": lambda: desk.count_overdue(db, settings(), org, every),
        "how many there are": lambda: desk.find_context(db, org, every, []),
        "a page of what nobody looks after": lambda: desk.list_letters(db, settings(), org, unassigned),
        "a page of one cause": lambda: desk.list_letters(db, settings(), org, of_cause),
        "one letter": lambda: remedies.show(db, organisation_id=org, letter_id=1),
    }
    reads: dict[str, list[int]] = {name: [] for name in acts}

    def act_all() -> None:
        for name, act in acts.items():
            with counting(db) as costs:
                act()
            reads[name].append(costs.rows_read)

    reads_at_each_size(world, db, Backlog.desk, act_all)
    for name, found in reads.items():
        with subtests.test(name):
            assert_bounded([found[1], found[3]])


def test_what_a_savepoint_takes_back_is_set_again(db: Database) -> None:
    with db.begin() as connection:
        with connection.begin_nested() as savepoint:
            plan_by_index(connection)
            savepoint.rollback()
        plan_by_index(connection)
        assert connection.scalar(text("SHOW enable_seqscan")) == "off"
