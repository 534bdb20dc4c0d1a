"""The audit as others read it: a list with filters, and a file that can be verified without the service."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from tests.reports.test_seals import act
from tests.support.ageing import days_pass
from tests.support.commandline import done, withdrawals
from tests.world import World
from worker.database import Database
from worker.reports import audit_files
from worker.reports.books import check
from worker.reports.seals import Sealer


@pytest.fixture
def export(db: Database, owner: Database, world: World, tmp_path: Path) -> Path:
    """Three finished days, one of them without an act, and acts of today; exported."""
    days_pass(owner, 2)
    world.run(
        """INSERT INTO withdrawals.audit (organisation_id, actor, action, note, detail)
        VALUES (:o, 'test', 'dead_letter.note', :note, '{"share": 1.50, "big": 12345678901234567890}')""",
        o=world.organisation_id,
        note='two\r\nlines, Übung \u2028 \\ "',
    )
    sealer = Sealer(db)
    for times, days in ((2, 1), (2, 2)):
        act(owner, times)
        days_pass(owner, days)
    other = world.organisation("Other")
    world.run("INSERT INTO withdrawals.audit (organisation_id, actor, action) VALUES (:o, 'x', 'job.submit')", o=other)
    while not sealer.step():
        pass
    world.submit(db, [world.enrolment()])
    path = tmp_path / "audit.jsonl"
    assert withdrawals("audit", "export", str(path), "--organisation", "Acme").code == 0
    return path


def lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().split("\n") if line]


def verified(path: Path, *options: str) -> Any:
    ran = withdrawals("audit", "verify", str(path), *options, "--json")
    return ran.code, ran.document


def test_an_export_is_ocsf_and_verifies_without_the_service(export: Path, world: World) -> None:
    found = lines(export)
    assert [line["class_uid"] for line in found] == [6003] * 3 + [0] + [6003] * 2 + [0] + [6003]
    submitted = found[-1]
    assert (submitted["api"]["operation"], submitted["activity_name"]) == ("job.submit", "Create")
    assert submitted["actor"] == {"user": {"name": "test:admin"}}
    assert submitted["resources"] == [{"type": "job", "uid": "1"}]
    assert submitted["type_uid"] == 600301
    code, document = verified(export)
    assert (code, document["records"], document["sealed_days"], document["faults"]) == (0, 6, 2, [])
    assert len(document["unsealed_days"]) == 1, "today"
    days = done("audit", "days", "--organisation", "Acme")["items"]
    assert document["head"] == days[-1]["hash"]
    assert verified(export, "--head", days[-1]["hash"])[0] == 0
    assert verified(export, "--head", days[0]["hash"])[0] == 1


def test_whatever_is_changed_in_an_export_is_named_by_its_line(export: Path) -> None:
    def faults(change: Callable[[list[Any]], object]) -> str:
        found = lines(export)
        change(found)
        return "; ".join(audit_files.verify(json.dumps(line, ensure_ascii=False) for line in found).faults)

    def record(found: list[Any]) -> None:
        found[1] = audit_files.event_of(found[1]["raw_data"].replace('"test"', '"somebody"'))

    assert not faults(lambda found: None)
    assert not faults(lambda found: found.__delitem__(slice(0, 4))), "a later part of the chain"
    changed_field = faults(lambda found: found[1]["actor"]["user"].update(name="somebody"))
    assert changed_field == "line 2: its fields say something else than its raw_data"
    assert faults(record).startswith("line 4: the records of")
    assert faults(lambda found: found.pop(1)).endswith("(2 of 3)")
    assert "comes after" in faults(lambda found: found.pop(3)), "a link is removed"
    assert "does not follow" in faults(lambda found: found[6]["unmapped"].update(after="2020-01-01"))
    assert "not in the order of ids" in faults(lambda found: found.insert(0, found.pop(1)))
    assert faults(lambda found: found[0].pop("raw_data")).startswith("line 1: not a line of an exported audit")
    assert "of another organisation" in faults(lambda found: found[2]["metadata"].update(tenant_uid="9"))


def test_the_books_find_a_changed_record_and_a_link_that_is_gone(export: Path, db: Database, owner: Database) -> None:
    assert check(db).clean
    with owner.begin() as connection:
        connection.execute(text("SET LOCAL session_replication_role = replica"))
        connection.execute(text("DELETE FROM withdrawals.audit_days WHERE after IS NULL AND organisation_id = 1"))
    found = [one.subject for one in check(db).violations if one.rule == "audit-chain"]
    assert any("does not follow" in one for one in found), found


def test_the_list_is_filtered_and_paged(db: Database, world: World, owner: Database) -> None:
    act(owner, 3)
    job = world.submit(db, [world.enrolment()])
    (submitted,) = done("audit", "list", "--job", job.id)["items"]
    assert (submitted["action"], submitted["actor"]) == ("job.submit", "test:admin")
    assert done("audit", "list", "--action", "job.")["items"] == [submitted]
    assert done("audit", "list", "--actor", "nobody")["items"] == []
    first = done("audit", "list", "--action", "dead_letter.note", "--limit", "2")
    rest = done("audit", "list", "--action", "dead_letter.note", "--cursor", first["next_cursor"])
    ids = [one["id"] for page in (first, rest) for one in page["items"]]
    assert ids == sorted(ids, reverse=True)
    assert len(ids) == 3
