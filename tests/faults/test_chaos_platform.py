"""The platform and its load: whatever it does meanwhile to its rows, each request is done once or is with support."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from tests.support.chaos import Chaos
from tests.support.load import DEADLINE, FULL, SIZE, Load, Verdict, service
from tests.support.platform import Platform, watched_platform
from tests.world import World, decide_due, eventually
from worker.config import Settings
from worker.database import Database
from worker.ledger import claims

pytestmark = pytest.mark.timeout(900)

PATIENT = {"WITHDRAWALS_MAX_ATTEMPTS": "100", "WITHDRAWALS_BACKOFF_MAX_SECONDS": "1"}
"""For rows that the platform holds again and again: they are not to blame."""


@pytest.mark.scenario("platform-acts")
def test_a_platform_that_changes_and_deletes_rows_gets_what_the_rules_give(
    world: World, producers: Database, chaos: Chaos
) -> None:
    watched_platform(world)
    load = Load.over(world, producers, random=chaos.random)
    platform = Platform(load, chaos.random)
    with service(PATIENT):
        with platform.at_work(), load.submitted_meanwhile():
            pass
        eventually(load.finished, within=DEADLINE, what="all jobs finished")
        chaos.conclude(platform.verdict())
    assert len(platform.acts) == 7, platform.acts
    found = {row[0] for row in world.run("SELECT DISTINCT outcome FROM withdrawals.outcomes")}
    assert {"not_found", "unknown_status", "pathway_owned", "enrolment_ended", "withdrawn"} <= found


@pytest.mark.scenario("poison-rows")
def test_rows_that_the_platform_refuses_go_to_support_and_stop_no_other(load: Load, chaos: Chaos) -> None:
    refused = chaos.random.sample(load.active, max(len(load.active) // 100, 4))
    load.refused = refused
    by_trigger, by_constraint = refused[::2], refused[1::2]
    load.world.run(f"""
        CREATE FUNCTION lms.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF new.id IN ({_listed(by_trigger)}) THEN RAISE EXCEPTION 'not this one'; END IF;
            RETURN new;
        END $$;
        CREATE TRIGGER refuse AFTER UPDATE OF status ON lms.enrolments
            FOR EACH ROW EXECUTE FUNCTION lms.refuse();
        ALTER TABLE lms.enrolments ADD CHECK (status <> 'withdrawn' OR id NOT IN ({_listed(by_constraint)}))""")
    with service():
        with load.submitted_meanwhile():
            pass
        chaos.conclude(load.verdict())


@pytest.mark.scenario("storms")
def test_storms_of_requests_and_events_during_a_bulk_job_are_each_done_once(load: Load, chaos: Chaos) -> None:
    """Every person's newest event decides, in whatever order the events arrive."""
    world = load.world
    people = {
        f"person-{number}": [world.enrolment(f"person-{number}") for _ in range(3)] for number in range(SIZE // 20)
    }
    load.others = {enrolment_id for ids in people.values() for enrolment_id in ids}
    newest: dict[str, str] = {}
    events = []
    for name in people:
        for number in range(chaos.random.randint(1, 4)):
            newest[name] = chaos.random.choice(["deactivated", "reactivated", "deactivation_cancelled"])
            events.append((name, newest[name], datetime.now(UTC) - timedelta(hours=5 - number)))
    chaos.random.shuffle(events)
    with service():
        with ThreadPoolExecutor(4) as senders, load.submitted_meanwhile():
            list(senders.map(lambda one: world.event(load.db, one[1], one[0], occurred_at=one[2]), events))
        verdict = load.verdict()
    verdict.accepted += len(events)
    for name, kind in newest.items():
        verdict.wrong += world.active(name) is (kind == "deactivated")
        if kind == "deactivated":
            verdict.lost += sum(world.status(enrolment_id) != "withdrawn" for enrolment_id in people[name])
    chaos.conclude(verdict)


@pytest.mark.scenario("old-snapshot", small=True)
def test_an_open_transaction_costs_a_claim_a_page_for_each_chunk_that_passed(
    world: World, db: Database, owner: Database, environment: Settings, chaos: Chaos
) -> None:
    """It keeps every dead row. What a claim reads may grow by the chunks that pass, never by the rows in them."""
    rows, singles = (100_000, 2_000) if FULL else (10_000, 200)
    size = rows // 100
    ids = world.enrolments(rows + singles + 40)
    with owner.engine.connect() as old:
        old.execute(text("SET idle_in_transaction_session_timeout = 0"))
        old.commit()
        old.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
        old.execute(text("SELECT count(*) FROM withdrawals.chunks"))
        before = _pages_read_by_a_claim(db, world, ids[-40:-20])
        world.submit(db, ids[:rows], chunk_size=size)
        world.submit(db, ids[rows : rows + singles], chunk_size=1)
        decide_due(db, environment)
        after = _pages_read_by_a_claim(db, world, ids[-20:])
        old.rollback()
    passed = rows // size + singles
    assert after < before + 3 * passed + 300, f"pages read by a claim: {before}, after {passed} chunks {after}"
    kept = world.one("SELECT pg_relation_size('withdrawals.chunks') / 8192")
    assert kept < passed + 100, f"{kept} pages of chunks, dead rows included"
    decide_due(db, environment)
    verdict = Verdict(accepted=len(ids))
    outcomes = world.run(
        "SELECT enrolment_id, count(*) AS n FROM withdrawals.outcomes WHERE outcome = 'withdrawn' GROUP BY 1"
    )
    verdict.lost = len(ids) - len(outcomes)
    verdict.double = sum(row.n - 1 for row in outcomes)
    verdict.check_books(db)
    chaos.conclude(verdict)


_PAGES = """SELECT coalesce(sum(pg_stat_get_xact_blocks_fetched(c.oid)), 0) FROM pg_class c
    WHERE c.relnamespace IN ('withdrawals'::regnamespace, 'pg_toast'::regnamespace)"""


def _pages_read_by_a_claim(db: Database, world: World, ids: list[int]) -> int:
    """The pages of the service's tables and indexes that a claim reads when these ids wait, a chunk each."""
    world.submit(db, ids, chunk_size=1)
    with db.engine.connect() as connection:
        before = connection.scalar(text(_PAGES))
        claim = claims.claim(connection, budget=1000, lease=timedelta(seconds=30))
        read = connection.scalar(text(_PAGES))
        connection.rollback()
    assert claim is not None
    assert len(claim.chunk_ids) >= len(ids)
    return int(read or 0) - int(before or 0)


def _listed(ids: list[int]) -> str:
    return ", ".join(map(str, ids))
