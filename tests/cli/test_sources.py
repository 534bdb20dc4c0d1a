"""`withdrawals sources`: HR systems that may send events, and what `doctor` says about them."""

import json
from pathlib import Path

import pytest
from joserfc.jwk import ECKey

from tests.support.commandline import done, refused, withdrawals
from tests.world import World
from worker.config import Settings, settings

KEY = "5f2c9d0e8b7a4c3d1e0f9a8b7c6d5e4f"


def test_create_shows_the_secret_once_and_the_path(world: World, environment: Settings) -> None:
    made = done("sources", "create", "--name", "workday", "--kind", "standard", "--grace-hours", 24, "--as", "me")
    assert {key: made[key] for key in ("id", "name", "kind", "path", "on_deactivate", "grace_hours", "created_by")} == {
        "id": 1, "name": "workday", "kind": "standard", "path": "/hooks/hr/workday", "on_deactivate": "withdraw",
        "grace_hours": 24, "created_by": "me",
    }  # fmt: skip
    assert made["secret"].startswith("whsec_")
    (listed,) = done("sources", "list")["items"]
    assert listed == {key: value for key, value in made.items() if key != "secret"}
    (stored,) = world.run("SELECT s::text FROM withdrawals.sources s")
    assert made["secret"].removeprefix("whsec_") not in stored[0]
    acts = world.run("SELECT actor, action FROM withdrawals.audit")
    assert [tuple(row) for row in acts] == [("me", "source.create")]


def test_only_the_secret_is_printed_to_standard_output(world: World, environment: Settings) -> None:
    ran = withdrawals("sources", "create", "--name", "okta", "--kind", "okta")
    assert ran.code == 0
    assert len(ran.out.strip()) == 43
    assert "/hooks/okta/okta" in ran.err
    assert "/hooks/okta/okta" in withdrawals("sources", "list").out


def test_rotate_keeps_the_previous_secret_for_a_limited_time(world: World, environment: Settings) -> None:
    made = done("sources", "create", "--name", "workday")
    rotated = done("sources", "rotate", made["id"], "--keep-hours", 1)
    assert rotated["secret"] != made["secret"]
    assert rotated["previous_until"]
    at_once = done("sources", "rotate", made["id"], "--keep-hours", 0)
    assert at_once["previous_until"] is None
    assert world.one("SELECT previous_secret IS NULL FROM withdrawals.sources")


def test_a_secret_that_the_hr_system_made_is_read_from_a_file(
    world: World, environment: Settings, tmp_path: Path
) -> None:
    file = tmp_path / "key"
    file.write_text(KEY + "\n", encoding="utf-8")
    made = done("sources", "create", "--name", "bamboo", "--kind", "bamboohr", "--secret-file", file)
    assert made["secret"] == KEY
    file.write_text("short", encoding="utf-8")
    assert "secret" in refused("sources", "rotate", made["id"], "--secret-file", file)
    assert "secret" in refused("sources", "create", "--name", "other", "--secret-file", file)


def test_a_source_whose_hr_system_is_asked_needs_the_key_of_its_api(
    world: World, environment: Settings, tmp_path: Path
) -> None:
    key, secret = tmp_path / "api-key", tmp_path / "secret"
    key.write_text("SERVICE-USER:an-api-token\n", encoding="utf-8")
    secret.write_text("a-secret-of-hibob-alone\n", encoding="utf-8")
    given = ("sources", "create", "--name", "bob", "--kind", "hibob", "--secret-file", secret)
    assert "the service user's id and token, with a colon between" in refused(*given)
    made = done(*given, "--api-key-file", key)
    assert (made["path"], made["api_url"]) == ("/hooks/hibob/bob", None)
    sandbox = "https://api.sandbox.hibob.com/"
    changed = done("sources", "set-api", made["id"], "--api-key-file", key, "--api-url", sandbox)
    assert changed["api_url"] == "https://api.sandbox.hibob.com"
    assert "https" in refused("sources", "set-api", made["id"], "--api-key-file", key, "--api-url", "http://127.0.0.1")
    stored = world.one("SELECT s::text FROM withdrawals.sources s")
    assert "an-api-token" not in stored
    other = done("sources", "create", "--name", "workday")
    assert "nothing is asked" in refused("sources", "set-api", other["id"], "--api-key-file", key)
    assert "no live source 99" in withdrawals("sources", "set-api", 99, "--api-key-file", key).err
    acts = [row.action for row in world.run("SELECT action FROM withdrawals.audit ORDER BY id")]
    assert acts == ["source.create", "source.set_api", "source.create"]


def test_a_publisher_of_security_events_is_given_by_its_public_keys(
    world: World, environment: Settings, tmp_path: Path
) -> None:
    file = tmp_path / "publisher.json"
    key = ECKey.generate_key("P-256", {"kid": "one"}).as_dict(private=False)
    file.write_text(json.dumps({"issuer": "i", "audience": "a", "keys": [key]}, indent=2), encoding="utf-8")
    given = ("--kind", "security-events", "--secret-file", file)
    made = done("sources", "create", "--name", "directory", *given)
    assert json.loads(made["secret"])["keys"] == [key]
    assert json.loads(done("sources", "rotate", made["id"], "--secret-file", file)["secret"]) == json.loads(
        made["secret"]
    )
    assert "publisher" in refused("sources", "create", "--name", "other", "--kind", "security-events")


def test_a_disabled_source_frees_its_name_and_cannot_be_rotated(world: World, environment: Settings) -> None:
    first = done("sources", "create", "--name", "workday")
    assert withdrawals("sources", "create", "--name", "workday").code == 1
    assert done("sources", "disable", first["id"])["disabled_at"]
    assert withdrawals("sources", "rotate", first["id"]).code == 1
    assert done("sources", "create", "--name", "workday")["id"] > first["id"]


WRONG: dict[str, list[list[str]]] = {
    "name": [["--name", ""], ["--name", "Work Day"], ["--name", "7"], ["--name", "cli"]],
    "kind": [["--name", "a", "--kind", "hibob"]],
    "on_deactivate": [["--name", "a", "--on-deactivate", "delete"]],
    "grace_hours": [["--name", "a", "--grace-hours", "-1"], ["--name", "a", "--grace-hours", "9999"]],
}


def test_a_wrong_option_is_named(world: World, environment: Settings) -> None:
    for named, several in WRONG.items():
        for words in several:
            assert named in refused("sources", "create", *words)
    assert "keep_hours" in refused("sources", "rotate", 1, "--keep-hours", "-1")
    assert done("sources", "list")["items"] == []


def test_another_organisations_source_is_answered_like_an_unknown_one(world: World, environment: Settings) -> None:
    made = done("sources", "create", "--name", "workday")
    world.organisation("Other")
    for act in ("rotate", "disable"):
        theirs = withdrawals("sources", act, made["id"], "--organisation", "Other")
        none = withdrawals("sources", act, 999, "--organisation", "Other")
        assert theirs.code == none.code == 1
        assert theirs.err.replace(str(made["id"]), "999") == none.err


def test_doctor_checks_keys_and_secrets(world: World, environment: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def findings(what: str) -> list[tuple[str, str]]:
        settings.cache_clear()
        items = withdrawals("doctor", "--json").document["items"]
        return [(item["level"], item["finding"]) for item in items if item["what"] == what]

    assert findings("secret key")[0][0] == "warn"
    monkeypatch.setenv("WITHDRAWALS_SECRET_KEY", f"{KEY},a-key-of-the-tests-alone")
    made = done("sources", "create", "--name", "workday")
    done("sources", "rotate", made["id"], "--keep-hours", 24 * 30)
    assert [level for level, _ in findings("sources")] == ["ok", "warn"]
    monkeypatch.setenv("WITHDRAWALS_SECRET_KEY", "0123456789" * 4)
    assert findings("secret key") == [("ok", "1 set; the first one encrypts")]
    assert [level for level, _ in findings("sources")] == ["ok", "wrong", "warn"]
    monkeypatch.delenv("WITHDRAWALS_SECRET_KEY")
    assert findings("secret key")[0][0] == "wrong"
    assert KEY not in repr(findings("sources"))
