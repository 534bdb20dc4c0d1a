"""What is kept long enough goes when that was asked for, with a record: the books prove what is left, and what went."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pyarrow.parquet as pq
import pytest
import sqlalchemy.exc
from starlette.testclient import TestClient

from schemas.jobs import FileRequest
from schemas.reinstate import ReinstateRequest
from tests.support import failpoints
from tests.support.ageing import years_pass
from tests.support.commandline import done, refused, withdrawals
from tests.support.racing import await_waiters, held
from tests.world import PATIENCE, World, assert_balanced, decide_due, eventually, id_file
from worker.access import tokens
from worker.config import Settings, settings
from worker.database import Database
from worker.errors import ConflictError, PrunedError
from worker.jobs import control
from worker.jobs.files.submit import Options, submit_file
from worker.jobs.reinstate import plan, reinstate
from worker.jobs.show import show
from worker.queue.broker import make_broker
from worker.queue.relay import Relay
from worker.reports import prune as pruning
from worker.reports.books import check
from worker.reports.prune import prune
from worker.reports.seals import Sealer
from worker.web.app import make_app

DAYS = {"jobs": 90, "receipts": 90, "rosters": 90, "audit": 365}


@pytest.fixture
def keeping(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings for commands: each kind is kept for as short as it may be."""
    for kind, number in {"JOB": 90, "RECEIPT": 90, "AUDIT": 365}.items():
        monkeypatch.setenv(f"WITHDRAWALS_{kind}_KEEP_DAYS", str(number))
    settings.cache_clear()


@pytest.fixture(autouse=True)
def _failpoints() -> Iterator[None]:
    yield
    failpoints.uninstall()


def grow_old(db: Database, world: World, days: int = 400) -> None:
    """Let so much time pass, with a relay that sealed each day."""
    years_pass(world.owner, days=days)
    sealer = Sealer(db)
    while not sealer.step():
        pass


def rows(world: World, table: str) -> int:
    return int(world.one(f"SELECT count(*) FROM withdrawals.{table}"))


def corrupt(world: World, statement: str) -> set[str]:
    """What the books name once rows were changed past every guard."""
    with world.owner.engine.connect() as connection:
        connection.exec_driver_sql("SET LOCAL session_replication_role = replica")
        connection.exec_driver_sql(statement)
        connection.commit()
    return {one.rule for one in check(world.owner).violations}


def test_what_was_kept_long_enough_goes_and_the_books_prove_the_rest(
    world: World, db: Database, environment: Settings, keeping: None, tmp_path: Path
) -> None:
    grow_old(db, world, 2)  # seals begin before what follows
    ids = world.enrolments(4)
    plain = world.submit(db, ids)
    world.event(db, "deactivated", "gone")
    world.enrolment("gone", pathway_id=world.pathway())
    decide_due(db, environment)
    undone = world.submit(db, world.enrolments(3))
    decide_due(db, environment)
    back = reinstate(db, world.requester(), undone.id, ReinstateRequest()).job
    stopped = world.submit(db, world.enrolments(2))
    control.cancel(db, organisation_id=world.organisation_id, job_id=stopped.id, actor="test:operator")
    file = submit_file(
        db, world.requester(), FileRequest(reason="not_required"), id_file(world.enrolments(2)), name="leavers.csv"
    ).submitted.job
    refused_one = world.submit(db, [999_999])
    decide_due(db, environment)
    grow_old(db, world)
    young = world.submit(db, world.enrolments(1))
    decide_due(db, environment)
    jobs = (plain, undone, back, stopped, file)
    before = [show(db, organisation_id=world.organisation_id, job_id=job.id) for job in jobs]
    lived = {table: rows(world, table) for table in ("jobs", "outcomes", "chunks", "receipts", "audit")}

    planned = {one["kind"]: one for one in done("prune", "--plan")["items"]}
    assert {kind: one["rows"] for kind, one in planned.items()} == {"jobs": 5, "receipts": 1, "rosters": 0, "audit": 8}
    assert planned["jobs"]["outcomes"] == 12
    assert planned["jobs"]["oldest"] is not None
    assert planned["jobs"]["bytes"] > 0
    assert rows(world, "outcomes") == lived["outcomes"], "a plan changes nothing"
    assert "no directory" in refused("prune", "--export", tmp_path / "nowhere")

    said = done("prune", "--export", tmp_path, "--as", "test:dba")
    assert said["pruned"] == {"jobs": 5, "receipts": 1, "rosters": 0, "audit": 8}
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(said["files"])
    written: dict[str, int] = {}
    for path in tmp_path.iterdir():
        table = path.name.partition("-")[0]
        written[table] = written.get(table, 0) + pq.read_metadata(path).num_rows
    gone = {table: lived[table] - rows(world, table) for table in ("outcomes", "chunks", "receipts", "audit")}
    assert written == gone | {"file_lines": 1}
    assert gone["outcomes"] == 12
    assert rows(world, "jobs") == lived["jobs"], "a job answers its key for ever"

    books = check(db)
    assert books.clean, books
    assert not books.warnings
    assert books.totals["pruned"] == 14
    for job, then in zip(jobs, before, strict=True):
        now = show(db, organisation_id=world.organisation_id, job_id=job.id)
        assert (now.pruned, now.accepted, now.outcomes, now.reinstated, now.state) == (
            True, then.accepted, then.outcomes, then.reinstated, then.state,
        )  # fmt: skip
    for job in (refused_one, young):
        assert not show(db, organisation_id=world.organisation_id, job_id=job.id).pruned, (
            "a letter is open, or it is new"
        )
    assert done("prune")["pruned"] == {"jobs": 0, "receipts": 0, "rosters": 0, "audit": 0}
    with pytest.raises(ConflictError, match="was pruned"):
        submit_file(
            db, world.requester(), FileRequest(reason="not_required"), id_file(ids), options=Options(batch=file.id)
        )


def test_after_a_prune_an_old_event_changes_nothing_and_a_missing_row_is_found(
    world: World, db: Database, environment: Settings
) -> None:
    grow_old(db, world, 2)
    world.enrolment("gone")
    world.event(db, "deactivated", "gone")
    world.submit(db, world.enrolments(1), effective_at=datetime.now(UTC) + timedelta(days=900))
    decide_due(db, environment)
    grow_old(db, world)
    kept = world.submit(db, world.enrolments(2))
    decide_due(db, environment)
    list(prune(world.owner, DAYS, actor="test"))
    assert (rows(world, "receipts"), rows(world, "audit")) == (0, 2), "the audit of what is scheduled stays"
    when = world.one("SELECT occurred_at FROM withdrawals.person_events")
    world.event(db, "deactivated", "gone", occurred_at=when)
    decide_due(db, environment)
    assert rows(world, "jobs") == 3, "it is not newer than what is known of the person"
    assert_balanced(db)
    oldest = "(SELECT min(id) FROM withdrawals.audit)"  # other rows of its day are on record
    assert corrupt(world, f"DELETE FROM withdrawals.audit WHERE id = {oldest}") == {"audit-removed", "audit-chain"}
    assert corrupt(world, f"DELETE FROM withdrawals.outcomes WHERE job_id = {kept.id}") >= {"conservation", "counts"}


def test_a_prune_that_dies_anywhere_leaves_books_that_balance(
    world: World, db: Database, environment: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It dies at every statement and commit in turn, and the next one goes on from there."""
    monkeypatch.setattr(pruning, "MARK", 2)
    monkeypatch.setattr(pruning, "CLEAR", 2)
    grow_old(db, world, 2)
    for _ in range(8):
        world.submit(db, world.enrolments(2))
        world.event(db, "deactivated", f"person {_}")
    decide_due(db, environment)
    grow_old(db, world)
    deaths = 0
    while True:
        with failpoints.armed("*", failpoints.raises(lambda: RuntimeError("died")), nth=deaths + 1) as point:
            try:
                for _ in prune(world.owner, DAYS, actor="test", export=tmp_path):
                    pass
            except RuntimeError:
                deaths += 1
        if not point.fired.is_set():
            break
        if deaths % 3 == 0:
            assert_balanced(db)
    assert deaths > 40
    books = check(db)
    assert books.clean, books
    assert books.totals["pruned"] == 16
    assert (rows(world, "outcomes"), rows(world, "receipts"), rows(world, "audit")) == (0, 0, 0)
    assert not list(tmp_path.glob("*.part"))


def test_a_prune_and_an_undo_of_the_same_job_exclude_each_other(
    world: World, db: Database, environment: Settings
) -> None:
    first, second, third = (world.submit(db, world.enrolments(2)) for _ in range(3))
    decide_due(db, environment)
    years_pass(world.owner, days=100)
    reinstate(db, world.requester(), third.id, ReinstateRequest())
    share = "SELECT 1 FROM withdrawals.jobs WHERE id = :id FOR KEY SHARE"  # what an undo holds until it is accepted
    with held(world.owner, share, id=first.id):
        assert sum(one.rows for one in prune(db, {"jobs": 90}, actor="test")) == 1, "it waits for nobody"
    assert show(db, organisation_id=world.organisation_id, job_id=second.id).pruned

    barrier = threading.Barrier(2)
    with ThreadPoolExecutor(2) as pool, failpoints.armed("retention.mark:after", failpoints.pause(barrier)):
        pruned = pool.submit(lambda: list(prune(db, {"jobs": 90}, actor="test")))
        barrier.wait(PATIENCE)
        undo = pool.submit(reinstate, db, world.requester(), first.id, ReinstateRequest())
        await_waiters(world)
        barrier.wait(PATIENCE)
        assert pruned.result(PATIENCE)
        with pytest.raises(PrunedError, match=f"job {first.id} were pruned on .*, so it cannot be undone"):
            undo.result(PATIENCE)
    assert not show(db, organisation_id=world.organisation_id, job_id=third.id).pruned, "its undo is under way"
    decide_due(db, environment)
    assert_balanced(db)


def test_pages_and_lists_of_a_pruned_job_say_that_it_was_pruned(
    world: World, db: Database, environment: Settings
) -> None:
    job = world.submit(db, world.enrolments(3))
    decide_due(db, environment)
    token = tokens.create(db, organisation_id=world.organisation_id, name="anna", role="operator", actor="test").secret
    app = make_app(db, make_broker(environment.broker_url.get_secret_value()), environment)
    headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": "undo"}
    with TestClient(app, raise_server_exceptions=False) as client:
        path = f"/v1/jobs/{job.id}/outcomes"
        page = client.get(path, params={"limit": 2}, headers=headers).json()
        years_pass(world.owner, days=100)
        list(prune(db, {"jobs": 90}, actor="test"))
        later = client.get(path, params={"limit": 2, "cursor": page["next_cursor"]}, headers=headers)
        assert (later.status_code, later.json()["type"]) == (410, "urn:withdrawals:problem:pruned")
        assert "were pruned on" in later.json()["detail"]
        shown = client.get(f"/v1/jobs/{job.id}", headers=headers).json()
        assert (shown["pruned"], shown["outcomes"]) == (True, {"withdrawn": 3})
        for act in ("reinstate", "reinstate/plan"):
            answer = client.post(f"/v1/jobs/{job.id}/{act}", json={}, headers=headers)
            assert (answer.status_code, "cannot be undone" in answer.text) == (410, True), act
        history = client.get(f"/v1/enrolments/{page['items'][0]['enrolment_id']}/history", headers=headers).json()
        assert "No request that is kept names it. By its day, requester and reason, this service" in history["summary"]
        listed = client.get("/v1/outcomes", headers=headers)
        assert (listed.status_code, listed.json()["items"]) == (200, [])
    with pytest.raises(PrunedError):
        plan(db, world.organisation_id, job.id, None)


def test_the_relay_prunes_daily_what_the_service_may_delete(
    world: World, db: Database, environment: Settings, keeping: None
) -> None:
    grow_old(db, world, 2)
    world.event(db, "deactivated", "gone")
    world.submit(db, world.enrolments(2))
    decide_due(db, environment)
    grow_old(db, world)
    lived = rows(world, "audit")
    broker = make_broker(environment.broker_url.get_secret_value())
    Relay(db, broker, settings()).sweep()
    assert rows(world, "outcomes") == 2
    relay = Relay(db, broker, settings().model_copy(update={"prune_daily": True}))
    relay.sweep()
    eventually(lambda: rows(world, "receipts") == rows(world, "outcomes") == 0)
    broker.close()
    broker.client.close()
    assert rows(world, "audit") == lived
    assert_balanced(db)


def test_a_login_that_may_not_delete_from_the_audit_leaves_it_and_says_so(
    world: World, db: Database, environment: Settings, keeping: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    role = environment.database_role
    world.run(f"CREATE ROLE pruning_login LOGIN IN ROLE {role}")
    try:
        url = environment.database_url.get_secret_value().replace("//withdrawals@", "//pruning_login@")
        monkeypatch.setenv("DATABASE_DIRECT_URL", url)
        settings.cache_clear()
        ran = withdrawals("prune")
        assert (ran.code, "only the owner of schema withdrawals" in ran.err) == (1, True)
    finally:
        world.run("DROP ROLE pruning_login")
    for act in (
        "DELETE FROM withdrawals.audit",
        "DELETE FROM withdrawals.prunes",
        "UPDATE withdrawals.prunes SET id = 1",
    ):
        with pytest.raises(sqlalchemy.exc.ProgrammingError, match="permission denied"), db.begin() as connection:
            connection.exec_driver_sql(act)


def test_rows_without_a_record_cannot_be_deleted_not_even_by_the_owner(
    world: World, db: Database, environment: Settings
) -> None:
    world.submit(db, world.enrolments(1))
    world.event(db, "deactivated", "gone")
    decide_due(db, environment)
    for table in ("outcomes", "chunks", "audit", "receipts"):
        assert rows(world, table)
        with pytest.raises(sqlalchemy.exc.IntegrityError) as refused_it, world.owner.begin() as connection:
            connection.exec_driver_sql(f"DELETE FROM withdrawals.{table}")
        error: Any = refused_it.value.orig
        assert isinstance(error, psycopg.errors.RestrictViolation | psycopg.errors.ForeignKeyViolation)
