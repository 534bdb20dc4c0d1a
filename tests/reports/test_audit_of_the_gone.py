"""A chained audit from which a person was erased, and rows were pruned: what is left is still proved."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from schemas.people import ErasureRequest
from tests.reports.test_retention import grow_old
from tests.support.commandline import withdrawals
from tests.world import World, assert_balanced, decide_due
from worker.config import Settings
from worker.database import Database
from worker.people import erasure
from worker.reports.prune import prune

PERSON = "P-7719"


def export(world: World, path: Path) -> Any:
    """What a verification of the exported audit finds."""
    assert withdrawals("audit", "export", str(path)).code == 0
    return json.loads(withdrawals("audit", "verify", str(path), "--json").out)


def test_erased_and_pruned_records_leave_an_audit_that_verifies(
    db: Database, world: World, environment: Settings, tmp_path: Path
) -> None:
    grow_old(db, world, 2)  # the chain begins before what follows
    world.event(db, "reactivated", PERSON)
    world.event(db, "reactivated", "somebody else")
    world.submit(db, world.enrolments(1), effective_at=datetime.now(UTC) + timedelta(days=900))  # its act is not pruned
    decide_due(db, environment)
    grow_old(db, world)
    request = ErasureRequest(external_id=PERSON, note="request 12")
    erasure.erase(world.owner, organisation_id=world.organisation_id, request=request, actor="dpo")
    assert_balanced(db)
    erased = export(world, tmp_path / "erased.jsonl")
    assert (erased["faults"], erased["erased"], erased["sealed_days"]) == ([], 1, 1)
    assert PERSON not in (tmp_path / "erased.jsonl").read_text()

    text = (tmp_path / "erased.jsonl").read_text().replace("somebody else", "nobody else")
    (tmp_path / "forged.jsonl").write_text(text)
    assert withdrawals("audit", "verify", str(tmp_path / "forged.jsonl")).code == 1

    assert sum(one.rows for one in prune(world.owner, {"audit": 365}, actor="test")) == 2
    assert_balanced(db)
    pruned = export(world, tmp_path / "pruned.jsonl")
    assert (pruned["faults"], pruned["pruned"]) == ([], 2)
