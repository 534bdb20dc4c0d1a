"""Finished days of the audit and the receipts are sealed by the relay, once nothing can be written into them."""

from sqlalchemy import text

from tests.support.ageing import TODAY, days_pass
from worker.config import Settings
from worker.database import Database
from worker.queue.broker import make_broker
from worker.queue.relay import Relay
from worker.reports.books import check
from worker.reports.seals import Sealer

SEALS = "SELECT table_name, day, row_count FROM withdrawals.seals WHERE after IS NOT NULL ORDER BY table_name, day"


def seals(owner: Database) -> list[int]:
    """Rows that each seal of the audit covers, by day."""
    with owner.begin() as connection:
        return [row.row_count for row in connection.execute(text(SEALS)) if row.table_name == "audit"]


def act(owner: Database, times: int) -> None:
    with owner.begin() as connection:
        statement = text(
            "INSERT INTO withdrawals.audit (organisation_id, actor, action) VALUES (1, 'test', 'dead_letter.note')"
        )
        for _ in range(times):
            connection.execute(statement)


def test_each_day_is_sealed_once_and_days_without_a_relay_together(db: Database, owner: Database) -> None:
    sealer = Sealer(db)
    act(owner, 3)
    assert [sealer.step(), sealer.step()] == [0, 0], "the day goes on"
    days_pass(owner, 2)
    assert [sealer.step(), sealer.step(), sealer.step(), sealer.step()] == [0, 2, 0, 0]
    assert seals(owner) == [0]  # the day of the migration is not covered
    act(owner, 5)
    days_pass(owner, 3)
    act(owner, 7)
    days_pass(owner, 2)
    assert [Sealer(db).step(), sealer.step(), sealer.step()] == [0, 0, 2]
    assert seals(owner) == [0, 12]
    books = check(db)
    assert books.clean, books
    assert not books.warnings


def test_a_day_is_not_sealed_while_a_transaction_may_still_write_into_it(db: Database, owner: Database) -> None:
    """A long upload that began before midnight writes its row of the audit, dated before midnight, in the morning."""
    days_pass(owner, 2)
    sealer = Sealer(db)
    with owner.engine.connect() as upload:
        upload.execute(text("SELECT pg_current_xact_id()"))
        assert [sealer.step() for _ in range(3)] == [0, 0, 0]
        upload.execute(
            text(
                f"""INSERT INTO withdrawals.audit (at, organisation_id, actor, action)
                VALUES (CAST({TODAY} AS timestamp) AT TIME ZONE 'UTC' - interval '1 minute', 1, 'test', 'x')"""
            )
        )
        upload.commit()
    assert sealer.step() == 2
    assert seals(owner) == [1]
    assert check(db).clean


def test_a_row_that_is_removed_later_is_missed_and_so_is_a_changed_seal(db: Database, owner: Database) -> None:
    days_pass(owner, 3)
    sealer = Sealer(db)
    act(owner, 4)
    days_pass(owner, 2)
    sealer.step()
    sealer.step()
    assert seals(owner) == [4]
    with owner.begin() as connection:
        connection.execute(text("SET LOCAL session_replication_role = replica"))
        connection.execute(text("DELETE FROM withdrawals.audit WHERE id = 2"))
    found = {one.rule: one.subject for one in check(db).violations}
    assert found.keys() == {"audit-removed", "audit-chain"}
    assert found["audit-removed"].endswith("rows 3, sealed 4")
    assert found["audit-chain"].endswith("rows 3, linked 4")
    with owner.begin() as connection:
        connection.execute(text("SET LOCAL session_replication_role = replica"))
        connection.execute(text("UPDATE withdrawals.seals SET row_count = 3 WHERE row_count = 4"))
    assert "audit-removed" in {one.rule for one in check(db).violations}, "the digest tells"


def test_the_relay_seals(db: Database, owner: Database, environment: Settings) -> None:
    broker = make_broker(environment.broker_url.get_secret_value())
    relay = Relay(db, broker, environment)
    days_pass(owner, 2)
    for _ in range(3):
        relay.sweep()
    assert seals(owner) == [0]
    broker.close()
    broker.client.close()
