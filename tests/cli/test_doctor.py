"""`withdrawals doctor` on what an operator gets wrong: the platform's tables, rights, logins, TLS, clocks, proxies."""

import pytest

from ops import surroundings
from ops.findings import Finding
from tests.support.commandline import withdrawals
from tests.world import World
from worker.config import Settings
from worker.database import Database


def findings(level: str) -> list[tuple[str, str]]:
    """What the doctor says at a level."""
    return [
        (item["what"], item["finding"])
        for item in withdrawals("doctor", "--json").document["items"]
        if item["level"] == level
    ]


def test_the_contract_of_the_platforms_tables_is_compared_column_by_column(world: World, environment: Settings) -> None:
    world.run("ALTER TABLE lms.enrolments DROP COLUMN due_at")
    world.run("ALTER TABLE lms.learners ALTER COLUMN display_name TYPE jsonb USING to_jsonb(display_name)")
    world.run("ALTER TABLE lms.series ALTER COLUMN title TYPE varchar(200)")
    world.run("DROP TABLE lms.resource_access")
    world.run("DROP INDEX lms.enrolments_one_active")
    said = {text for what, text in findings("wrong") if what == "lms"}
    assert said == {
        "lms.enrolments has no column due_at (timestamp with time zone)",
        "lms.learners.display_name is jsonb, needed text",
        "there is no table or view lms.resource_access: make one with the columns learner_id bigint, series_id bigint, "
        "granted_at timestamp with time zone",
    }
    assert any("no unique index" in text for what, text in findings("warn") if what == "lms")


def test_a_view_that_takes_no_writes_is_found(world: World, environment: Settings) -> None:
    world.run("ALTER TABLE lms.enrolments RENAME TO places")
    world.run("CREATE VIEW lms.enrolments AS SELECT * FROM lms.places")
    assert [what for what, _ in findings("wrong") if what == "lms"] == [], "a plain selection takes them"
    world.run("CREATE OR REPLACE VIEW lms.enrolments AS SELECT * FROM lms.places OFFSET 0")
    assert any("lms.enrolments is a view whose column status takes no writes" in text for _, text in findings("wrong"))


def test_missing_rights_are_named_with_the_sql_that_grants_them(world: World, environment: Settings) -> None:
    role = environment.database_role
    world.run(f"REVOKE UPDATE (status) ON lms.enrolments FROM {role}")
    world.run(f"REVOKE SELECT ON lms.pathways FROM {role}")
    (said,) = [text for what, text in findings("wrong") if what == "rights"]
    assert said.endswith(
        f"run: GRANT SELECT ON lms.pathways TO {role}; GRANT UPDATE (status) ON lms.enrolments TO {role};"
    )
    world.run(f"REVOKE USAGE ON SCHEMA lms FROM {role}")
    (said,) = [text for what, text in findings("wrong") if what == "rights"]
    assert f"GRANT USAGE ON SCHEMA lms TO {role};" in said


def test_rights_beyond_the_contract_are_named_with_the_sql_that_revokes_them(
    world: World, environment: Settings
) -> None:
    role = environment.database_role
    world.run(f"GRANT UPDATE (progress) ON lms.enrolments TO {role}")
    world.run(f"GRANT DELETE ON withdrawals.audit TO {role}")
    (said,) = [text for what, text in findings("wrong") if what == "role"]
    assert f"REVOKE UPDATE (progress) ON lms.enrolments FROM {role};" in said
    assert f"REVOKE DELETE ON withdrawals.audit FROM {role};" in said


def test_a_login_that_may_do_more_than_the_service_is_a_warning(db: Database, environment: Settings) -> None:
    with db.begin() as connection:
        (found,) = surroundings.login(connection)
    assert found.level == "warn"
    assert "superuser" in found.finding
    said = dict(findings("warn"))["embedded"]
    assert said.startswith("PostgreSQL and Redis")


@pytest.mark.parametrize(
    ("ahead", "level"),
    [(0.5, "ok"), (-1.9, "ok"), (2.5, "ok"), (5, "warn"), (-30, "warn"), (61, "wrong"), (-90, "wrong")],
)
def test_clocks_that_differ_are_found(ahead: float, level: str) -> None:
    found = surroundings.judge_clock(ahead, within=0.6)
    assert found.level == level
    assert ("behind" in found.finding) is (ahead < -2)


BROKERS = [
    ("redis://127.0.0.1", "ok"),
    ("redis://redis.example", "warn"),
    ("rediss://redis.example?ssl_cert_reqs=none", "warn"),
    ("rediss://redis.example", "ok"),
    ("redis+sentinel://u:p@one,two:26379/m/0", "warn"),
    ("rediss+sentinel://u:p@one,two:26379/m/0", "ok"),
    ("redis+sentinel://127.0.0.1,[::1]:26379/m", "ok"),
    ("amqp://u:p@one/w", "warn"),
    ("amqps://u:p@one/w", "ok"),
]


@pytest.mark.parametrize(("url", "level"), BROKERS)
def test_a_broker_without_encryption_is_found(url: str, level: str, environment: Settings) -> None:
    current = Settings.model_validate({"BROKER_URL": url})
    assert [found.level for found in surroundings.broker_tls(current)] == [level]


def test_proxies_are_looked_at(environment: Settings) -> None:
    def found(**given: str) -> list[Finding]:
        return surroundings.proxies(environment.model_copy(update=given))

    assert [one.level for one in found()] == ["ok"]
    assert [one.what for one in found(host="0.0.0.0")] == ["web"]  # noqa: S104 - what is warned about
    assert "one limit" in found(public_url="https://w.example")[0].finding
    assert [one.level for one in found(public_url="https://w.example", trusted_proxies="10.0.0.7/32")] == ["ok"]
    assert found(trusted_proxies="10.0.0.7/32,0.0.0.0/0")[0].level == "wrong"
