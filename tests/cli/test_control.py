"""Plan, pause, resume, move, release and the brake on the command line."""

from pathlib import Path

from tests.support.commandline import csv_file, done, refused, withdrawals
from tests.world import World, assert_balanced, decide_due
from worker.config import Settings
from worker.database import Database


def test_a_plan_is_printed_and_applied_and_refused_once_it_drifts(
    world: World, db: Database, environment: Settings, tmp_path: Path
) -> None:
    ids = [*world.enrolments(3), world.enrolment(pathway_id=world.pathway("Onboarding"))]
    file = csv_file(tmp_path, "enrolment_id\n" + "".join(f"{one}\n" for one in ids))
    words = ("bulk", file, "--reason", "not_required")
    ran = withdrawals(*words, "--dry-run")
    assert ran.code == 0
    assert "of Onboarding" in ran.out
    planned = done(*words, "--dry-run")
    assert planned["outcomes"] == {"withdrawn": 3, "pathway_owned": 1}
    assert planned.keys() >= {"plan_hash", "expires_at", "accepted", "duplicates", "samples", "learners", "brake"}
    assert "plan_hash" in refused(*words, "--plan-hash", "stale")
    world.run("UPDATE lms.enrolments SET status = 'mastered' WHERE id = :id", id=ids[0])
    ran = withdrawals(*words, "--plan-hash", planned["plan_hash"])
    assert ran.code == 1
    assert "no longer those of the plan" in ran.err
    planned = done(*words, "--dry-run")
    made = done(*words, "--plan-hash", planned["plan_hash"])
    assert done("jobs", "plan", made["id"])["outcomes"] == planned["outcomes"]
    decide_due(db, environment)
    assert done("jobs", "show", made["id"])["outcomes"] == planned["outcomes"]


def test_a_job_is_paused_resumed_and_moved(world: World, db: Database, environment: Settings) -> None:
    made = done("submit", *world.enrolments(2), "--reason", "not_required")
    assert done("jobs", "pause", made["id"], "--note", "month's end", "--as", "olga")["state"] == "paused"
    decide_due(db, environment)
    assert done("jobs", "resume", made["id"])["state"] == "queued"
    decide_due(db, environment)
    for words in (("jobs", "pause", made["id"]), ("dead-letters", "resolve", 1, "--remedy", "keep")):
        assert "note: String should have at most 2000" in refused(*words, "--note", "x" * 2001), "as over HTTP"
    ran = withdrawals("jobs", "pause", made["id"])
    assert (ran.code, "has ended" in ran.err) == (1, True)
    later = done("submit", *world.enrolments(1), "--reason", "not_required", "--effective-at", "2990-01-01")
    moved = done("jobs", "move", later["id"], "--effective-at", "2991-01-01")
    assert (moved["state"], moved["effective_at"]) == ("scheduled", "2991-01-02T00:00:00Z")
    assert "effective_at" in refused("jobs", "move", later["id"], "--effective-at", "soon")
    assert done("jobs", "move", later["id"], "--effective-at", "2020-01-01")["state"] == "queued"
    assert withdrawals("jobs", "move", 999, "--effective-at", "2020-01-01").code == 1


def two_people_set(*limits: str) -> None:
    """Ada proposes limits, and Bea approves them."""
    proposal = done("brake", "propose", *limits, "--note", "why", "--as", "ada")
    assert done("brake", "approve", proposal["id"], "--as", "bea")["state"] == "approved"


def test_limits_are_proposed_and_decided_on_by_two_people(world: World) -> None:
    first = done("brake", "set", "--floor", "3", "--note", "why", "--as", "ada")
    assert (first["state"], first["floor"], first["share"], first["note"]) == ("pending", 3, None, "why")
    assert done("brake", "show")["proposal"] == first
    own = withdrawals("brake", "approve", first["id"], "--as", "cli:Ada")
    assert (own.code, "not a second person" in own.err) == (1, True)
    assert "--note" in refused("brake", "reject", first["id"], "--as", "bea")
    assert done("brake", "reject", first["id"], "--note", "no", "--as", "bea")["state"] == "rejected"
    second = done("brake", "propose", "--hours", "48", "--note", "why", "--as", "ada")
    assert done("brake", "withdraw", second["id"], "--as", "ada")["state"] == "withdrawn"
    assert done("brake", "show")["own"] == []
    listed = done("brake", "proposals")["items"]
    assert [(one["id"], one["state"]) for one in listed] == [(second["id"], "withdrawn"), (first["id"], "rejected")]
    assert "default share" in withdrawals("brake", "proposals").out
    assert withdrawals("brake", "approve", 999).code == 1


def test_what_the_brake_holds_is_released_by_somebody_else(
    world: World, db: Database, environment: Settings, tmp_path: Path
) -> None:
    two_people_set("--floor", "1", "--share", "0.1")
    limits = done("brake", "show")
    assert (limits["floor"], limits["own"], limits["proposal"]) == (1, ["floor", "share"], None)
    ids = world.enrolments(20)
    held = [done("submit", *ids[first : first + 3], "--reason", "not_required", "--as", "carla") for first in (0, 3, 6)]
    assert {one["held_because"] for one in held} == {"brake"}
    ran = withdrawals("jobs", "show", held[0]["id"])
    assert (ran.code, "Held by the brake" in ran.out) == (0, True), ran
    file = csv_file(tmp_path, "enrolment_id\n" + "".join(f"{one}\n" for one in ids[2:5]))
    planned = ("bulk", file, "--reason", "not_required", "--dry-run")
    waits = done(*planned)["waiting"]
    assert [(one["job_id"], one["enrolments"]) for one in waits] == [(held[1]["id"], 2), (held[0]["id"], 1)]
    assert [[such["enrolment_id"] for such in one["samples"]] for one in waits] == [ids[3:5], ids[2:3]]
    said = withdrawals(*planned).out.replace("\n", " ")
    assert f"also wait in job {held[1]['id']}, which is held" in said
    assert f"  for example {ids[3]} (" in said
    own = withdrawals("jobs", "release", held[0]["id"], "--as", "carla")
    assert (own.code, "carla is not a second person" in own.err) == (1, True)
    assert done("jobs", "release", held[0]["id"], "--as", "dora")["state"] == "queued"
    by_filter = (
        "jobs",
        "release",
        "--filter",
        "held_because=brake",
        "--filter",
        f"ids={held[1]['id']},{held[2]['id']}",
    )
    ran = withdrawals(*by_filter, "--as", "carla", "--json")
    assert (ran.code, ran.document) == (1, {"released": 0, "own": 2})
    assert done(*by_filter, "--as", "dora") == {"released": 2, "own": 0}
    shown = withdrawals("brake", "show")
    assert (shown.code, "past 2 work is held" in shown.out) == (0, True)
    assert done("brake", "show")["volume"] == 9
    decide_due(db, environment)
    assert {done("jobs", "show", one["id"])["state"] for one in held} == {"completed"}
    assert_balanced(db)


def test_wrong_options_are_explained(world: World) -> None:
    assert "not both" in refused("jobs", "release")
    assert "not both" in refused("jobs", "release", 1, "--filter", "source=hr")
    assert "held_because" in refused("jobs", "release", "--filter", "mood=bad")
    assert "held_because" in refused("jobs", "release", "--filter", "held_because=mood")
    assert "positive whole number" in refused("jobs", "release", "--filter", "ids=1,x")
    assert "share" in refused("brake", "set", "--share", "2")
    assert "floor" in refused("brake", "set", "--floor", "-1")
