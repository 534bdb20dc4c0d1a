"""Lines of rosters name people: they go with the receipts, once nothing needs them, and with a record."""

from datetime import timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.reports.test_retention import grow_old, rows
from tests.support.commandline import done
from tests.support.rosters import NOW, accept, csv, enrol, plan
from tests.world import World, decide_due
from worker.config import Settings, settings
from worker.database import Database
from worker.reports.books import check


def test_lines_of_rosters_go_with_a_record_once_nothing_needs_them(
    world: World, db: Database, environment: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("WITHDRAWALS_RECEIPT_KEEP_DAYS", "90")
    settings.cache_clear()
    grow_old(db, world, 2)
    enrol(world, "anna", "ben", "cleo", "dora", "emil")
    enrol(world, "fred", pathway_id=world.pathway())
    first = accept(
        db,
        world,
        plan(db, world, csv(anna="active", ben="left", cleo="active", dora="active", emil="active", fred="active")),
    )
    decide_due(db, environment)
    everybody = csv(anna="active", ben="left", cleo="left", dora="active", emil="active", fred="left")
    second = accept(db, world, plan(db, world, everybody, NOW - timedelta(hours=1), allow_shrink="A test."))
    decide_due(db, environment)
    grow_old(db, world)
    young = accept(
        db, world, plan(db, world, everybody.replace("emil;active", "emil;left"), NOW, allow_shrink="A test.")
    )
    assert first.job_id and second.job_id and young.job_id
    lines = "SELECT array_agg(external_id ORDER BY external_id) FROM withdrawals.roster_lines WHERE roster_id = :id"
    assert (world.one(lines, id=first.id), world.one(lines, id=second.id)) == (["ben"], ["ben", "cleo", "fred"])

    planned = {one["kind"]: (one["rows"], one["bytes"] > 0) for one in done("prune", "--plan")["items"]}
    assert planned == {"receipts": (0, False), "rosters": (1, True)}, "a letter of the second is open; the third is new"
    said = done("prune", "--export", tmp_path)
    assert said["pruned"] == {"receipts": 0, "rosters": 1}
    assert pq.read_table(tmp_path / said["files"][0]).column("external_id").to_pylist() == ["ben"]
    assert world.one(lines, id=first.id) is None
    assert world.one(lines, id=second.id) == ["ben", "cleo", "fred"], (
        "an attempt at the letter asks for the epoch of its person"
    )
    assert rows(world, "rosters") == 3
    assert check(db).clean
    assert done("prune")["pruned"] == {"receipts": 0, "rosters": 0}

    # Nobody comes to harm by it: the same state again asks for nothing.
    again = accept(db, world, plan(db, world, everybody, NOW + timedelta(seconds=1), allow_shrink="A test."))
    assert again.job_id is None
