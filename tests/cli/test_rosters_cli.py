"""Rosters and silent sources on the command line and over HTTP: the same rules, the same records."""

import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from tests.support.commandline import done, refused, withdrawals
from tests.support.rosters import MORNING, NOW, csv, enrol
from tests.support.web import event, signed
from tests.support.workbooks import xlsx
from tests.world import World, assert_balanced, decide_due, eventually
from worker.access import tokens
from worker.config import Settings
from worker.database import Database
from worker.ledger import rosters as ledger
from worker.people import roster_steps, rosters
from worker.queue.broker import make_broker
from worker.web.app import make_app


@pytest.fixture
def client(db: Database, environment: Settings) -> Iterator[TestClient]:
    app = make_app(db, make_broker(environment.broker_url.get_secret_value()), environment)
    with TestClient(app, raise_server_exceptions=False) as made:
        yield made


@pytest.fixture
def bearer(db: Database, world: World) -> Callable[[str], dict[str, str]]:
    def make(role: str) -> dict[str, str]:
        made = tokens.create(db, organisation_id=world.organisation_id, name=role, role=role, actor="test:root")
        return {"Authorization": f"Bearer {made.secret}"}

    return make


def test_a_roster_is_planned_confirmed_and_read_over_both_doors(
    client: TestClient,
    bearer: Callable[[str], dict[str, str]],
    db: Database,
    world: World,
    environment: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ids = enrol(world, "anna", "ben", "carla")
    roster = tmp_path / "all.csv"
    roster.write_text(csv(anna="active", ben="left"), encoding="utf-8")

    # The command line plans, HTTP shows the same.
    planned = done("reconcile", str(roster), "--as-of", MORNING.isoformat())
    assert (planned["state"], planned["findings"]) == ("planned", {"inactive": 1, "missing": 1})
    assert "To apply it: withdrawals reconcile --confirm" in withdrawals("rosters", "show", str(planned["id"])).out
    operator, approver = bearer("operator"), bearer("approver")
    shown = client.get(f"/v1/rosters/{planned['id']}", headers=operator).json()
    assert shown["plan"]["outcomes"] == planned["plan"]["outcomes"] == {"withdrawn": 2}
    lines = client.get(f"/v1/rosters/{planned['id']}/lines", headers=operator).content.decode("utf-8-sig").splitlines()
    assert [line.split(",")[:4] for line in lines[1:]] == [
        ["2", "anna", "true", ""], ["3", "ben", "false", "inactive"], ["", "carla", "false", "missing"],
    ]  # fmt: skip
    assert "give FILE" in refused("reconcile")
    assert "--as-of" in refused("reconcile", str(roster))

    # HTTP confirms; repeating it changes nothing. What was planned as reports withdraws nobody who is missing.
    reported = client.post(
        "/v1/rosters",
        headers=operator,
        data={"as_of": MORNING.isoformat(), "missing": "report"},
        files={"file": ("all.xlsx", xlsx([["Employee number", "Enabled"], ["anna", "yes"], ["ben", "no"]]))},
    )
    assert (reported.status_code, reported.json()["findings"]) == (201, {"inactive": 1, "missing": 1})
    path = f"/v1/rosters/{reported.json()['id']}/confirm"
    assert client.post(path, headers=bearer("viewer")).status_code == 403
    assert client.post(path, headers=operator).status_code == 202
    roster_steps.apply_accepted(db, within=60)
    decide_due(db, environment)
    again = client.post(path, headers=operator).json()
    assert (again["state"], again["job_id"] is None) == ("done", False)
    assert {person for person, one in ids.items() if world.status(one) == "withdrawn"} == {"ben"}

    # The other plan is older now. A roster that shrank needs an approver, with a reason.
    assert "Send a newer one" in withdrawals("reconcile", "--confirm", str(planned["id"])).err
    small = {"as_of": NOW.isoformat(), "allow_shrink": "We sold a branch."}
    file = {"file": ("all.csv", csv(anna="active"))}
    assert client.post("/v1/rosters", headers=operator, data=small, files=file).status_code == 403
    assert client.post("/v1/rosters", headers=approver, data=small, files=file).status_code == 201
    listed = client.get("/v1/rosters", headers=operator).json()["items"]
    assert [one["state"] for one in listed] == ["planned", "done", "planned"]
    assert done("rosters", "list")["items"] == listed
    # A day later nobody has confirmed: its lines are forgotten.
    world.run("UPDATE withdrawals.rosters SET planned_at = now() - interval '25 hours'")
    undecided = "SELECT count(*) FROM withdrawals.roster_lines WHERE result IS NULL"
    lines = world.one(undecided)
    monkeypatch.setattr(ledger, "SLICE", 1)
    monkeypatch.setattr(rosters, "_SLICES", 1)
    assert (rosters.expire(db), world.one(undecided)) == (0, lines - 1), "a slice in each transaction"
    assert "planned more than a day ago" in withdrawals("reconcile", "--confirm", str(planned["id"])).err
    monkeypatch.setattr(rosters, "_SLICES", 99)
    assert (rosters.expire(db), rosters.expire(db), world.one(undecided)) == (2, 0, 0)
    assert "planned more than a day ago" in withdrawals("reconcile", "--confirm", str(planned["id"])).err
    assert_balanced(db)


def test_a_hostile_roster_is_refused_by_line(
    client: TestClient, bearer: Callable[[str], dict[str, str]], world: World, tmp_path: Path
) -> None:
    """A line that is left out would be a person who is missing: nothing of the file is taken."""
    enrol(world, "anna")
    hostile = b'Employee ID,Status\nanna,active\n"ben,active\n=cmd()|x,active\n' + b"x" * 300 + b",active\neva,maybe\n"
    headers, data = bearer("operator"), {"as_of": MORNING.isoformat()}
    answer = client.post("/v1/rosters", headers=headers, data=data, files={"file": ("all.csv", hostile)})
    assert answer.status_code == 422
    assert [one["line"] for one in answer.json()["faults"]] == [3, 5, 6]
    assert "anna" not in answer.text
    faults = client.get(answer.json()["faults_file"], headers=headers).content.decode("utf-8-sig").splitlines()
    assert len(faults) == 4
    assert faults[-1].endswith("active: is neither active nor inactive. Use true or false.")
    bad, mend = tmp_path / "bad.csv", tmp_path / "mend.csv"
    bad.write_bytes(hostile)
    told = withdrawals("reconcile", str(bad), "--as-of", MORNING.isoformat(), "--faults", str(mend))
    assert (told.code, "Line 5: learner_external_id: is longer than 255" in told.err) == (2, True)
    assert len(mend.read_text("utf-8-sig").splitlines()) == 4
    for content in (b"PK\x03\x04 no archive", b"\0" * 64, b"," * 20_000 + b"\n"):
        sent = client.post("/v1/rosters", headers=headers, data=data, files={"file": ("all.xlsx", content)})
        assert sent.status_code == 422, sent.text
    assert world.run("SELECT FROM withdrawals.rosters") == []


def test_a_source_that_is_silent_for_too_long_is_told(
    client: TestClient, bearer: Callable[[str], dict[str, str]], world: World
) -> None:
    secret = done("sources", "create", "--name", "workday")["secret"]
    assert "no live source 'payroll'" in withdrawals("sources", "silence", "payroll", "--hours", "5").err
    assert done("sources", "silence", "workday", "--hours", "24")["is_silent"] is False
    owner = bearer("owner")
    limit = client.put("/v1/sources/roster/silence", headers=owner, json={"hours": 192})
    assert (limit.status_code, limit.json()["heard_at"]) == (200, None)
    assert client.put("/v1/sources/roster/silence", headers=bearer("operator"), json={"hours": 1}).status_code == 403

    def silent() -> tuple[set[str], bool]:
        items = client.get("/v1/sources/heard", headers=owner).json()["items"]
        assert done("sources", "heard")["items"] == items
        shown = client.get("/metrics").text
        found = {one["source"] for one in items if one["is_silent"]}
        return found, f"withdrawals_silent_sources {len(found)}.0" in shown

    assert silent() == (set(), True)
    world.run("UPDATE withdrawals.sources SET created_at = now() - interval '30 hours'")
    world.run("UPDATE withdrawals.silence_limits SET set_at = now() - interval '200 hours'")
    assert silent() == ({"workday", "roster"}, True)
    body = json.dumps(event()).encode()
    assert client.post("/hooks/hr/workday", content=body, headers=signed(secret, body)).status_code == 202
    eventually(lambda: world.one("SELECT last_event_at FROM withdrawals.sources"), what="the source was heard")
    done("sources", "silence", "roster", "--hours", "0")
    assert silent() == (set(), True)


def test_a_month_is_attested_and_a_changed_file_is_told(
    client: TestClient,
    bearer: Callable[[str], dict[str, str]],
    db: Database,
    world: World,
    environment: Settings,
    tmp_path: Path,
) -> None:
    enrol(world, "anna", "ben")
    enrol(world, "ben", pathway_id=world.pathway())
    world.event(db, "deactivated", "ben")
    world.event(db, "deactivated", "anna", effective_at=NOW + timedelta(days=400))
    decide_due(db, environment)
    month = str(world.one("SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM')"))
    path = tmp_path / "attestation.jsonl"
    assert withdrawals("report", "attestation", "--month", month, "-o", str(path)).code == 0
    counts = {"left": 1, "withdrawn": 1, "open_enrolments": 1, "open_letters": 1}
    assert done("report", "verify-attestation", str(path))["counts"] == counts
    sent = client.get("/v1/reports/attestation.jsonl", headers=bearer("viewer"), params={"month": month})
    assert sent.text.splitlines()[1] == path.read_text("utf-8").splitlines()[1]
    assert '"learner_external_id": "ben"' in sent.text
    assert client.get("/v1/reports/attestation.jsonl?month=2026-13", headers=bearer("owner")).status_code == 422
    assert "has not begun" in refused("report", "attestation", "--month", "2990-01", "-o", str(path))

    whole = path.read_text("utf-8")
    for changed in (
        whole.replace('"open_enrolments": 1, "open_letters": 1}\n', '"open_enrolments": 0, "open_letters": 0}\n', 1),
        "".join(line for number, line in enumerate(whole.splitlines(keepends=True)) if number != 1),
        whole.rpartition("{")[0],
        whole + whole,
    ):
        path.write_text(changed, "utf-8")
        refused("report", "verify-attestation", str(path))
