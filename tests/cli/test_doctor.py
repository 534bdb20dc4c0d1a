"""`withdrawals doctor` on what an operator gets wrong: the platform's tables, rights, logins, TLS, clocks, proxies."""

import importlib.util
import socket
import sys

import pytest
from pydantic import SecretStr

from ops.doctor import settings, surroundings
from ops.doctor.findings import Finding
from ops.grants import statements
from tests.support.commandline import withdrawals
from tests.world import PATIENCE, World
from worker.config import Settings
from worker.database import Database
from worker.ledger.books.guards import KEPT
from worker.telemetry import health


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
    for table in KEPT:
        world.run(f"GRANT DELETE ON withdrawals.{table} TO {role}")
    (said,) = [text for what, text in findings("wrong") if what == "role"]
    assert f"REVOKE UPDATE (progress) ON lms.enrolments FROM {role};" in said
    assert all(f"REVOKE DELETE ON withdrawals.{table} FROM {role};" in said for table in KEPT)
    revoked = {
        one.split(" ON withdrawals.")[1].split()[0] for one in statements(role, platform=False) if "REVOKE" in one
    }
    assert revoked == set(KEPT), "what a migration revokes is what is looked for"


def test_a_login_that_may_do_more_than_the_service_is_a_warning(db: Database, environment: Settings) -> None:
    with db.begin() as connection:
        (found,) = surroundings.login(connection)
    assert found.level == "warn"
    assert "superuser" in found.finding
    said = dict(findings("warn"))["embedded"]
    assert said.startswith("PostgreSQL and Redis")


def test_compilation_that_makes_requests_slow_is_a_warning(db: Database) -> None:
    with db.begin() as connection:
        assert surroundings.jit(connection) == []
        connection.exec_driver_sql("SET LOCAL jit = on")
        (found,) = surroundings.jit(connection)
    assert (found.level, "SET jit = off" in found.finding) == ("warn", True)


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


SETTINGS: dict[str, tuple[dict[str, object], dict[str, str], str, str]] = {
    "traces without an address": ({"traces": True}, {}, "warn", "set OTEL_EXPORTER_OTLP_ENDPOINT"),
    "an address without traces": (
        {}, {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://otel:4318"}, "warn", "set WITHDRAWALS_TRACES=1",
    ),
    "an address of traces without http": (
        {"traces": True}, {"OTEL_EXPORTER_OTLP_ENDPOINT": "otel:4318"}, "wrong", "must begin with http://",
    ),
    "a protocol that is not sent": (
        {"traces": True}, {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://o", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
        "warn", "(4318)",
    ),
    "a DSN that is none": ({"sentry_dsn": SecretStr("https://sentry.example/1")}, {}, "wrong", "https://KEY@host/1"),
    "a DSN without TLS": ({"sentry_dsn": SecretStr("http://key@sentry.example/1")}, {}, "warn", "use https://"),
    "one port for two": ({"health_port": 8123, "port": 8123}, {}, "wrong", "both 8123"),
    "no limit of guesses": ({"refusal_limit": 0}, {}, "warn", "WITHDRAWALS_REFUSAL_LIMIT"),
    "mails without links": (
        {"mail_url": SecretStr("mailto://smtp.example?from=a@b.example")}, {}, "warn", "WITHDRAWALS_PUBLIC_URL",
    ),
    "private webhooks": ({"webhooks_allow_private": True}, {}, "warn", "WITHDRAWALS_WEBHOOKS_ALLOW_PRIVATE"),
    "a brake that never holds": ({"brake_share": 1.0}, {}, "warn", "WITHDRAWALS_BRAKE_SHARE"),
    "a lease that is too short": ({"lease_seconds": 5.0}, {}, "warn", "WITHDRAWALS_LEASE_SECONDS"),
    "waits that never grow": ({"backoff_seconds": 7200.0}, {}, "warn", "WITHDRAWALS_BACKOFF_SECONDS"),
    "jobs that go before their events": (
        {"job_keep_days": 90, "event_keep_days": 365}, {}, "warn", "WITHDRAWALS_JOB_KEEP_DAYS",
    ),
    "a log for developers": ({"log_level": "debug"}, {}, "warn", "WITHDRAWALS_LOG_LEVEL"),
}  # fmt: skip
QUIET = {"brake_floor": 100, "port": 0}


def test_settings_that_nobody_wants_are_named_with_the_remedy(
    environment: Settings, monkeypatch: pytest.MonkeyPatch, subtests: pytest.Subtests
) -> None:
    quiet = environment.model_copy(update=QUIET)
    assert [one.level for one in settings.examine(quiet)] == ["ok"]
    for what, (given, variables, level, advice) in SETTINGS.items():
        with subtests.test(what), monkeypatch.context() as patch:
            for name, value in variables.items():
                patch.setenv(name, value)
            (found,) = settings.examine(quiet.model_copy(update=given))
            assert found.level == level
            assert advice in found.finding


def test_packages_and_ports_that_settings_need_are_looked_for(
    environment: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    quiet = environment.model_copy(update=QUIET)
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "sentry_sdk", None)
        patch.setattr(importlib.util, "find_spec", lambda _: None)
        wanted = quiet.model_copy(update={"traces": True, "sentry_dsn": SecretStr("https://key@sentry.example/1")})
        said = [one.finding for one in settings.examine(wanted) if one.level == "wrong"]
        assert ["[traces]" in said[0], "[sentry]" in said[1]] == [True, True]
    monkeypatch.setattr(settings, "_PROBE_SECONDS", PATIENCE)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        other.close()
        with health.serving(quiet.model_copy(update={"health_port": port}), alive=_well, ready=_well):
            assert settings.examine(quiet.model_copy(update={"health_port": port}))[0].level == "ok"
    monkeypatch.setattr(settings, "_PROBE_SECONDS", 0.1)  # the stranger never answers
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        taken = quiet.model_copy(update={"health_port": stranger.getsockname()[1]})
        (found,) = settings.examine(taken)
    assert (found.level, "WITHDRAWALS_HEALTH_PORT" in found.finding) == ("wrong", True)


def test_more_connections_than_the_server_has_are_found(db: Database, environment: Settings) -> None:
    def look(**given: int) -> Finding:
        with db.begin() as connection:
            (found,) = settings.connections(connection, environment.model_copy(update=given))
        return found

    assert look().level == "ok"
    assert "WITHDRAWALS_WEB_CONNECTIONS" in look(web_processes=8).finding


def _well() -> health.Report:
    return health.Report(ok=True, parts={})
