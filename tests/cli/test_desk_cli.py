"""The dead-letter desk and decision receipts on the command line."""

import pytest

from tests.support.commandline import done, refused, withdrawals
from tests.world import World, decide_due
from worker.config import Settings
from worker.database import Database


@pytest.fixture
def owned(db: Database, world: World, environment: Settings) -> list[int]:
    """Three enrolments in front of support."""
    pathway = world.pathway("Onboarding")
    ids = [world.enrolment(f"l{n}", pathway_id=pathway) for n in range(3)]
    world.submit(db, ids, note="spring cleaning")
    decide_due(db, environment)
    return ids


def test_support_groups_looks_assigns_notes_and_explains(world: World, owned: list[int]) -> None:
    (group,) = done("dead-letters", "groups")["items"]
    assert (group["count"], group["code"]) == (3, "pathway_owned")
    assert "Onboarding" in withdrawals("dead-letters", "groups", "--state", "open").out
    assert "3 open, 0 of them overdue" in withdrawals("dead-letters", "overview").out
    assert done("dead-letters", "overview")["live"] == 3
    assert done("dead-letters", "assign", "--code", "pathway_owned", "--to", "dora", "--as", "carla") == {
        "matched": 3,
        "changed": 3,
    }
    assert len(done("dead-letters", "list", "--assignee", "dora")["items"]) == 3
    assert done("dead-letters", "list", "--assignee", "none")["items"] == []
    letter = group["sample"]
    assert "1 letter unassigned" in withdrawals("dead-letters", "assign", letter, "--nobody").out
    assert "1 letter noted" in withdrawals("dead-letters", "note", letter, "--note", "asked [them]").out
    shown = withdrawals("dead-letters", "show", letter).out
    for said in (
        "was not withdrawn",
        "Onboarding",
        "spring cleaning",
        "asked [them]",
        "assigned it to dora",
        "override",
    ):
        assert said in shown
    told = withdrawals("explain", owned[0]).out
    for said in ("is in_progress", "rule", "6. ", "spring cleaning", "carla", "pathway Onboarding"):
        assert said in told
    assert done("explain", owned[0])["decisions"][0]["outcome"] == "pathway_owned"


def test_the_list_takes_every_condition_and_goes_on_where_it_ended(world: World, owned: list[int]) -> None:
    first = done("dead-letters", "list", "--limit", "2")
    rest = done("dead-letters", "list", "--limit", "2", "--cursor", first["next_cursor"])
    seen = [item["id"] for page in (first, rest) for item in page["items"]]
    assert seen == [row.id for row in world.letters()]
    assert rest["next_cursor"] is None
    world.run("UPDATE withdrawals.dead_letters SET opened_at = now() - interval '4 days' WHERE id = :id", id=seen[2])
    for words, expected in (
        (("--older-than", "3d"), [seen[2]]),
        (("--older-than", "97h"), []),
        (("--source", "bulk"), [seen[2], *seen[:2]]),
        (("--source", "hr"), []),
        (("--fingerprint", "other"), []),
        (("--changed",), []),
        (("--unchanged", "--in-time"), seen[:2]),
        (("--overdue",), [seen[2]]),
    ):
        assert [item["id"] for item in done("dead-letters", "list", *words)["items"]] == expected, words
    assert "1 overdue" in withdrawals("dead-letters", "list").out
    world.run("UPDATE lms.enrolments SET pathway_id = NULL WHERE id = :id", id=owned[1])
    assert [item["id"] for item in done("dead-letters", "list", "--changed")["items"]] == [seen[1]]
    assert done("dead-letters", "groups", "--changed")["letters"] == 1
    assert done("dead-letters", "redrive", "--changed", "--dry-run")["outcomes"] == {"withdrawn": 1}
    assert done("dead-letters", "assign", "--changed", "--to", "dora") == {"matched": 1, "changed": 1}


def test_groups_say_that_there_are_more_than_are_listed(
    world: World, owned: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ops.cli.desk.MOST_GROUPS", 1)
    world.run("UPDATE withdrawals.dead_letters SET fingerprint = 'pathway_owned:' || id")
    ran = withdrawals("dead-letters", "groups")
    assert ("3 letters with 3 causes" in ran.out, "the first 1 of 3 causes" in ran.err) == (True, True)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("assign", "--to", "dora"), "Give either ids"),
        (("assign", "1", "--all", "--to", "dora"), "Give either ids"),
        (("assign", "1", "--code", "poison", "--to", "dora"), "Give either ids"),
        (("assign", "1"), "--to"),
        (("assign", "1", "--to", "dora", "--nobody"), "--to"),
        (("assign", "1", "--to", "none"), "assignee"),
        (("note", "1"), "note"),
        (("list", "--older-than", "soon"), "older_than"),
        (("list", "--cursor", "7"), "cursor"),
    ],
)
def test_wrong_use_is_refused_by_name(world: World, words: tuple[str, ...], said: str) -> None:
    assert said in refused("dead-letters", *words)


def test_what_is_not_there_is_said_not_to_be_there(world: World) -> None:
    for words in (("explain",), ("dead-letters", "assign", "--to", "dora"), ("dead-letters", "note", "--note", "x")):
        for number in (999, 10**30):
            ran = withdrawals(*words, number)
            assert (ran.code, ran.out) == (1, ""), ran.err
            assert str(number) in ran.err
