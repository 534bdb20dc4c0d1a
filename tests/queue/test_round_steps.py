"""The questions of the relay's rounds: each says yes when its step has something to do, and reads no finished rows."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from tests.queue.test_costs import Backlog, assert_bounded, reads_at_each_size
from tests.world import World
from worker.config import Settings
from worker.database import Database
from worker.queue.round_steps import RoundSteps

ALWAYS = ["compare"]
"""Steps that have something to do in each round in which they are asked about."""


def look(db: Database, steps: RoundSteps, *, seldom: bool = True) -> list[str]:
    """The steps that would be taken now."""
    steps._next_seldom = 0.0 if seldom else float("inf")
    with db.begin(autocommit=True) as connection:
        return steps.look(connection, failing=[])[1]


@pytest.fixture
def steps(db: Database, world: World, environment: Settings) -> RoundSteps:
    """After the first rounds of a relay, when there is nothing to do any more."""
    world.learner("anna")
    found = RoundSteps(db, environment)
    for _ in range(3):
        for name in look(db, found):
            found.steps[name].take()
    assert look(db, found) == ALWAYS
    assert look(db, found, seldom=False) == []
    return found


def job(state: str = "queued", *, more: str = "", chunk: str = "ready", closed: str = "NULL") -> str:
    """SQL: a job with one chunk. `more`: changes of the job."""
    return f"""
        WITH j AS (INSERT INTO withdrawals.jobs (organisation_id, reason, source, requested_by, door, idempotency_key,
            request_hash, state, accepted, effective_at, admitted_at, finished_at, correct_due)
        SELECT o, 'not_required', 'bulk', 'test:job', 'cli', gen_random_uuid()::text, '', '{state}', 1, now(),
            CASE WHEN '{state}' <> 'scheduled' THEN now() END, CASE WHEN '{state}' IN ('cancelled', 'completed')
            THEN now() END, {more or "false"}
        FROM here RETURNING id, organisation_id)
        INSERT INTO withdrawals.chunks (job_id, organisation_id, number, lane, enrolment_ids, size, state, closed_at,
            counts, token, claimed_at, lease_until)
        SELECT id, organisation_id, 0, 2, ARRAY[id], 1, '{chunk}', {closed}, '{{}}', token, at, at
        FROM j LEFT JOIN (SELECT gen_random_uuid() AS token, now() AS at) t ON '{chunk}' = 'claimed'"""


def letter(code: str, state: str = "open", closed: str = "NULL") -> str:
    return f"""INSERT INTO withdrawals.dead_letters (organisation_id, code, learner_external_id, fingerprint, state,
        closed_at, closed_by, remedy)
        SELECT o, '{code}', gen_random_uuid()::text, 'x', '{state}', {closed},
            CASE WHEN '{state}' <> 'open' THEN 'x' END, CASE WHEN '{state}' <> 'open' THEN 'keep' END FROM here"""


def run(state: str, finished: str) -> str:
    return f"""INSERT INTO withdrawals.runs (organisation_id, act, filter, actor, rate, canary, state, finished_at)
        SELECT o, 'redrive', '{{}}', 'x', 1, 1, '{state}', {finished} FROM here RETURNING id"""


def roster(state: str, planned: str) -> str:
    return f"""INSERT INTO withdrawals.rosters (organisation_id, as_of, kind, sha256, people, active, missing,
        planned_by, planned_at, state, accepted_by, accepted_at)
        SELECT o, now(), 'file', 'x', 1, 1, 'report', 'x', {planned}, '{state}',
            CASE WHEN '{state}' <> 'planned' THEN 'x' END, CASE WHEN '{state}' <> 'planned' THEN now() END FROM here"""


def schedule(next_at: str) -> str:
    return f"""INSERT INTO withdrawals.report_schedules (organisation_id, report, filter, covers, names, format, every,
        hour, next_at, created_by)
        SELECT o, 'outcomes', '{{}}', 'all', true, 'csv', 'weekly', 6, {next_at}, 'x' FROM here
        RETURNING id, organisation_id"""


LONG_AGO = "now() - interval '1000 days'"
TOMORROW = "now() + interval '1 day'"
DELIVERY = """WITH e AS (INSERT INTO withdrawals.endpoints (organisation_id, url, events, secret, created_by, paused_at,
        paused_because)
        SELECT o, 'https://example.org/', '{{job.held}}', '', 'test', {paused}, {because} FROM here
        RETURNING id, organisation_id)
    INSERT INTO withdrawals.deliveries (endpoint_id, organisation_id, type, data, state, created_at, delivered_at)
    SELECT id, organisation_id, 'test', '{{}}', '{state}', {at}, CASE WHEN '{state}' = 'delivered' THEN {at} END
    FROM e"""
HOLDER = """INSERT INTO withdrawals.tokens (organisation_id, name, role, selector, hash, created_by)
    SELECT o, 'x', 'viewer', 'x', sha256('x'), 'x' FROM here RETURNING id"""
SESSION = f"""WITH t AS ({HOLDER}) INSERT INTO withdrawals.sessions (hash, token_id, expires_at)
    SELECT sha256('s'), id, {{at}} FROM t"""

SITUATIONS = [
    ("take_over", "a claim whose lease ran out", job(chunk="claimed")),
    ("rosters", "an accepted roster", roster("accepted", "now()")),
    (
        "deactivate",
        "a deactivation that is due",
        """INSERT INTO withdrawals.persons (organisation_id, external_id, active, effective_at, deactivation_due)
        SELECT o, 'anna', false, now(), true FROM here""",
    ),
    ("admit", "a scheduled job whose time has come", job("scheduled", chunk="waiting")),
    ("close", "a chunk that came back after the cancel", job("cancelled")),
    ("learners", "a letter of a learner who may be there", letter("unknown_learner")),
    (
        "daily",
        "a day since the last redrive",
        """INSERT INTO withdrawals.organisation_settings (organisation_id, passed_at)
        SELECT o, now() - interval '25 hours' FROM here
        ON CONFLICT (organisation_id) DO UPDATE SET passed_at = excluded.passed_at""",
    ),
    ("runs", "a run under way", run("running", "NULL")),
    (
        "runs",
        "a letter in flight of a run that was stopped",
        f"""WITH r AS ({run("stopped", "now()")})
        INSERT INTO withdrawals.run_letters (run_id, dead_letter_id, fingerprint, canary, driven_at)
        SELECT id, 1, 'x', false, now() FROM r""",
    ),
    ("finish", "a chunk that was closed just now", job(chunk="done", closed="now()")),
    ("finish", "a job to correct after its cancel", job("cancelled", more="true", chunk="done", closed=LONG_AGO)),
    ("correct", "a job to correct", job("completed", more="true", chunk="done", closed=LONG_AGO)),
    (
        "feed",
        "an entry without a position",
        "INSERT INTO withdrawals.feed (organisation_id, chunk_ids, size) SELECT o, '{}', 0 FROM here",
    ),
    ("find", "a new learner", "INSERT INTO lms.learners (organisation_id, external_id) SELECT o, 'ben' FROM here"),
    ("find", "a new Series", "INSERT INTO lms.series (organisation_id, code, title) SELECT o, 'n', 'New' FROM here"),
    ("forget", "an old delivery", DELIVERY.format(paused="NULL", because="NULL", state="delivered", at=LONG_AGO)),
    ("forget", "an old failed delivery", DELIVERY.format(paused="NULL", because="NULL", state="failed", at=LONG_AGO)),
    (
        "forget",
        "an old delivery of a paused endpoint",
        DELIVERY.format(paused=LONG_AGO, because="'x'", state="due", at=LONG_AGO),
    ),
    (
        "forget",
        "an old upload",
        f"""INSERT INTO withdrawals.uploads (id, organisation_id, requested_by, created_at)
        SELECT gen_random_uuid(), o, 'x', {LONG_AGO} FROM here""",
    ),
    (
        "forget",
        "an old file of a report",
        f"""WITH s AS ({schedule(TOMORROW)}) INSERT INTO withdrawals.report_files (schedule_id, organisation_id, due_at,
            state, row_count, size, ended_at)
        SELECT id, organisation_id, {LONG_AGO}, 'ready', 1, 1, {LONG_AGO} FROM s""",
    ),
    ("forget", "an old plan of a roster", roster("planned", LONG_AGO)),
    ("sessions", "an expired session", SESSION.format(at=LONG_AGO)),
    (
        "sessions",
        "a session that was left alone",
        f"{SESSION.format(at=TOMORROW)}; UPDATE withdrawals.sessions SET last_used_at = {LONG_AGO}",
    ),
    (
        "sessions",
        "an expired link",
        f"""WITH t AS ({HOLDER}) INSERT INTO withdrawals.sign_in_links (hash, token_id, expires_at)
        SELECT sha256('l'), id, {LONG_AGO} FROM t""",
    ),
    (
        "sessions",
        "an expired logout token",
        f"INSERT INTO withdrawals.logout_tokens (issuer, jti, expires_at) VALUES ('x', 'x', {LONG_AGO})",
    ),
    ("strip", "a letter that was closed long ago", letter("not_found", "resolved", LONG_AGO)),
    (
        "notices",
        "somebody who wants to be told",
        """INSERT INTO withdrawals.notification_targets (organisation_id, kinds, address, shown, created_by)
        SELECT o, '{job_held}', 'x', 'x', 'x' FROM here""",
    ),
    ("seal", "a day that has ended", "UPDATE withdrawals.seals SET day = day - 3"),
    ("reports", "a schedule that is due", schedule("now()")),
    (
        "reports",
        "a file that is due",
        f"""WITH s AS ({schedule(TOMORROW)}) INSERT INTO withdrawals.report_files (schedule_id, organisation_id, due_at)
        SELECT id, organisation_id, now() FROM s""",
    ),
]


def make(world: World, situation: str) -> None:
    statement = situation.replace("FROM here", f"FROM (SELECT {world.organisation_id}::bigint AS o) here")
    for one in statement.split(";"):
        world.force(one)


@pytest.mark.parametrize(
    ("name", "situation"), [pytest.param(name, sql, id=f"{name}: {what}") for name, what, sql in SITUATIONS]
)
def test_a_question_says_yes_when_its_step_has_something_to_do(
    db: Database, world: World, steps: RoundSteps, name: str, situation: str
) -> None:
    make(world, situation)
    assert name in look(db, steps)


def test_every_step_has_a_situation_or_goes_by_the_clock(steps: RoundSteps) -> None:
    assert steps.steps.keys() - {name for name, _, _ in SITUATIONS} == {"compare", "overdue", "prune"}
    asks = {name for name, step in steps.steps.items() if step.ask()}
    assert asks == {name for name, _, _ in SITUATIONS}


@pytest.mark.parametrize(
    ("name", "clock"),
    [("overdue", "_housekeeping._next_overdue"), ("forget", "_housekeeping._next_past"), ("prune", "_prune._next")],
)
def test_what_goes_by_the_clock_is_taken_when_it_is_time(
    db: Database, steps: RoundSteps, monkeypatch: pytest.MonkeyPatch, name: str, clock: str
) -> None:
    monkeypatch.setattr(steps._prune, "_days", {"jobs": 365})
    owner, attribute = clock.split(".")
    setattr(getattr(steps, owner), attribute, 0.0)
    assert name in look(db, steps)


def test_a_chunk_that_committed_late_is_found_two_leases_later(
    db: Database, world: World, steps: RoundSteps, environment: Settings
) -> None:
    """It bears the time at which its transaction began; the second look finds it."""
    assert steps.leftovers._seen is not None
    seen, settled = steps.leftovers._seen
    steps.leftovers._seen = seen, settled - timedelta(seconds=10)
    since = 2 * environment.lease_seconds + 5
    make(world, job(chunk="done", closed=f"now() - interval '{since} s'"))
    assert "finish" in look(db, steps, seldom=False)


@pytest.mark.parametrize(
    ("name", "begun"),
    [
        ("finish", lambda steps: setattr(steps.leftovers._to_finish, "_next", 0.0)),
        ("close", lambda steps: setattr(steps.leftovers._to_close, "_next", 0.0)),
        ("correct", lambda steps: setattr(steps._large_jobs, "_job_id", 1)),
        ("find", lambda steps: steps._keeper._newest.clear()),
        ("seal", lambda steps: setattr(steps._sealer, "_horizon", object())),
    ],
)
def test_a_step_that_has_begun_something_is_taken_again(
    db: Database, steps: RoundSteps, name: str, begun: Callable[[RoundSteps], Any]
) -> None:
    begun(steps)
    assert name in look(db, steps)


def test_a_step_that_failed_is_taken_again(db: Database, steps: RoundSteps) -> None:
    with db.begin(autocommit=True) as connection:
        assert steps.look(connection, failing=["admit", "publish"])[1] == ["admit"]


def finished(backlog: Backlog, count: int) -> None:
    """So many rows of each kind with which nothing is to be done any more, and nothing yet."""
    world = backlog._world
    for statement in FINISHED:
        world.force(statement, count=count, o=world.organisation_id)


N = "generate_series(1, CAST(:count AS integer)) n"
FINISHED = [
    f"""WITH j AS (INSERT INTO withdrawals.jobs (organisation_id, reason, source, requested_by, door, idempotency_key,
        request_hash, state, accepted, effective_at, admitted_at, finished_at)
    SELECT :o, 'not_required', 'bulk', 'x', 'cli', gen_random_uuid()::text, '', s, 1, now(), now(), {LONG_AGO}
    FROM {N}, unnest(ARRAY['completed', 'cancelled']) s RETURNING id)
    INSERT INTO withdrawals.chunks (job_id, organisation_id, number, lane, enrolment_ids, size, state, closed_at,
        counts)
    SELECT id, :o, 0, 2, ARRAY[id], 1, 'done', {LONG_AGO}, '{{}}' FROM j""",
    f"""INSERT INTO withdrawals.persons (organisation_id, external_id, active, effective_at, deactivation_due)
    SELECT :o, gen_random_uuid()::text, false, now(), false FROM {N}""",
    f"""INSERT INTO withdrawals.dead_letters (organisation_id, code, learner_external_id, fingerprint, state, closed_at,
        closed_by, remedy)
    SELECT :o, 'unknown_learner', gen_random_uuid()::text, 'x', 'resolved', now(), 'x', 'keep' FROM {N}""",
    f"""WITH r AS (INSERT INTO withdrawals.runs (organisation_id, act, filter, actor, rate, canary, state, finished_at)
    SELECT :o, 'redrive', '{{}}', 'x', 1, 1, 'done', now() FROM {N} RETURNING id)
    INSERT INTO withdrawals.run_letters (run_id, dead_letter_id, fingerprint, canary, driven_at, result, ended_at)
    SELECT id, 1, 'x', false, now(), 'resolved', now() FROM r""",
    f"""INSERT INTO withdrawals.feed (organisation_id, chunk_ids, size, position)
    SELECT :o, '{{}}', 0, n + (SELECT coalesce(max(position), 0) FROM withdrawals.feed) FROM {N}""",
    f"""WITH e AS (INSERT INTO withdrawals.endpoints (organisation_id, url, events, secret, created_by)
        VALUES (:o, 'https://example.org/' || gen_random_uuid(), '{{job.held}}', '', 'test') RETURNING id)
    INSERT INTO withdrawals.deliveries (endpoint_id, organisation_id, type, data, state, delivered_at)
    SELECT id, :o, 'test', '{{}}', s, CASE s WHEN 'delivered' THEN now() END
    FROM e, {N}, unnest(ARRAY['delivered', 'failed']) s""",
    f"""WITH s AS (INSERT INTO withdrawals.report_schedules (organisation_id, report, filter, covers, names, format,
        every, hour, next_at, created_by, ended_at, ended_by)
    SELECT :o, 'outcomes', '{{}}', 'all', true, 'csv', 'weekly', 6, now(), 'x', now(), 'x' FROM {N} RETURNING id)
    INSERT INTO withdrawals.report_files (schedule_id, organisation_id, due_at, state, row_count, size, ended_at)
    SELECT id, :o, now(), 'ready', 1, 1, now() FROM s""",
    f"""INSERT INTO withdrawals.rosters (organisation_id, as_of, kind, sha256, people, active, missing, planned_by,
        state, accepted_by, accepted_at, done_at)
    SELECT :o, now(), 'file', 'x', 1, 1, 'report', 'x', 'done', 'x', now(), now() FROM {N}""",
    f"INSERT INTO withdrawals.uploads (id, organisation_id, requested_by) SELECT gen_random_uuid(), :o, 'x' FROM {N}",
    f"""INSERT INTO withdrawals.seals (table_name, day, after, row_count, digest, last_id, looked_at)
    SELECT 'audit', newest.day + CAST(n AS integer), newest.day + CAST(n AS integer) - 1, 0, 0, 0, now()
    FROM (SELECT max(day) AS day FROM withdrawals.seals WHERE table_name = 'audit') newest, {N} ORDER BY n""",
    f"INSERT INTO lms.learners (organisation_id, external_id) SELECT :o, gen_random_uuid()::text FROM {N}",
]


def test_the_questions_read_no_more_the_more_has_ended(db: Database, world: World, steps: RoundSteps) -> None:
    assert_bounded(reads_at_each_size(world, db, finished, lambda: look(db, steps)))
