"""Under a DBA's rules: no superuser, no CREATEROLE, a platform of somebody else, and SQL that is read first."""

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from uuid import uuid4

import pytest
import sqlalchemy
from sqlalchemy import text

from ops import grants
from ops.local.postgres import USER, find_programs
from ops.migrate import MIGRATIONS, head, migrate
from tests.schema.test_schema import empty, everything
from tests.support.commandline import refused, withdrawals
from worker.config import Settings

__all__ = ["empty"]


@dataclass(frozen=True, slots=True)
class Site:
    """A database without anything but the platform's schema, and the logins of three parties."""

    engine: sqlalchemy.Engine
    platform: str
    owner: str
    login: str
    role: str
    database_owner: str

    def run(self, *statements: str, as_: str | None = None) -> None:
        """Run statements, as a superuser or as one of the parties."""
        with self.engine.begin() as connection:
            if as_:
                connection.exec_driver_sql(f"SET LOCAL SESSION AUTHORIZATION {as_}")
            for statement in statements:
                connection.exec_driver_sql(statement)

    def url(self, user: str) -> str:
        """`DATABASE_URL` of a login."""
        found = self.engine.url.set(drivername="postgresql", username=user)
        return found.render_as_string(hide_password=False)


@pytest.fixture
def site(empty: sqlalchemy.Engine, environment: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """The platform owns schema lms. Nobody of the service is a superuser, or may create roles or schemas."""
    mark = uuid4().hex[:8]
    names = [f"{kind}_{mark}" for kind in ("platform", "owner", "login", "service", "keeper")]
    found = Site(empty, *names)
    found.run(f"CREATE ROLE {found.platform}", f"CREATE ROLE {found.owner} LOGIN")
    database = empty.url.database
    found.run(f"CREATE ROLE {found.database_owner}", f"ALTER DATABASE {database} OWNER TO {found.database_owner}")
    found.run(f"GRANT CREATE ON DATABASE {database} TO {found.platform}")
    found.run((MIGRATIONS / "lms.sql").read_text(encoding="utf-8"), as_=found.platform)
    monkeypatch.setenv("WITHDRAWALS_DATABASE_ROLE", found.role)
    monkeypatch.setenv("DATABASE_URL", found.url(found.owner))
    yield found
    found.run(f"ALTER DATABASE {database} OWNER TO {USER}")
    for name in names:
        if _exists(found, name):
            found.run(f"DROP OWNED BY {name} CASCADE", f"DROP ROLE {name}")


def _exists(site: Site, role: str) -> bool:
    with site.engine.connect() as connection:
        return connection.scalar(text("SELECT to_regrole(:role) IS NOT NULL"), {"role": role}) is True


def parts(site: Site) -> list[list[str]]:
    """The printed script, part by part, without comments."""
    ran = withdrawals("grants", "--print", "--owner", site.owner, "--login", site.login)
    assert ran.code == 0, ran.err
    found: list[list[str]] = []
    for line in ran.out.splitlines():
        if line.startswith("-- "):
            found.append([])
        else:
            found[-1].append(line)
    return found


def test_a_service_runs_with_what_a_dba_was_given_to_run(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    superuser, database_owner, platform, owner = parts(site)
    site.run(*superuser)
    site.run(*database_owner, as_=site.database_owner)
    site.run(*platform, as_=site.platform)
    ran = withdrawals("migrate", "--no-grants")
    assert (ran.code, ran.err) == (0, "")
    site.run(*owner, as_=site.owner)
    again = withdrawals("migrate")
    assert (again.code, again.err) == (0, ""), "with grants it finds that none is missing"
    monkeypatch.setenv("DATABASE_URL", site.url(site.login))
    site.run("INSERT INTO lms.organisations (name) VALUES ('Acme')")
    submitted = withdrawals("submit", "1", "--reason", "not_required", "--json")
    assert submitted.code == 0, submitted.err
    assert withdrawals("check").code == 0
    doctor = withdrawals("doctor", "--json")
    assert doctor.code == 0, doctor.out
    levels = {item["what"]: item["level"] for item in doctor.document["items"]}
    assert levels["session"] == levels["role"] == "ok"


def test_without_a_role_and_the_right_to_create_one_nothing_is_changed(site: Site) -> None:
    site.run(f"CREATE SCHEMA withdrawals AUTHORIZATION {site.owner}")
    site.run(f"GRANT USAGE ON SCHEMA lms TO {site.owner}", f"GRANT SELECT ON lms.learners TO {site.owner}")
    assert f"no role {site.role}" in refused("migrate")
    assert everything(site.engine, "withdrawals") == []


def test_rights_that_only_the_platform_may_grant_are_printed_exactly(site: Site) -> None:
    site.run(f"CREATE ROLE {site.role}", f"CREATE SCHEMA withdrawals AUTHORIZATION {site.owner}")
    site.run(f"GRANT USAGE ON SCHEMA lms TO {site.owner}", f"GRANT SELECT ON lms.learners TO {site.owner}")
    site.run(*grants.statements(site.role, platform=True), as_=site.platform)
    site.run(f"REVOKE UPDATE (withdrawn_by) ON lms.enrolments FROM {site.role}", as_=site.platform)
    site.run(f"REVOKE SELECT ON lms.series FROM {site.role}", as_=site.platform)
    ran = withdrawals("migrate")
    assert ran.code == 1
    assert head() in ran.out, "the service's own schema is up to date"
    advice = [line.strip() for line in ran.err.splitlines() if line.startswith("  ")]
    assert advice == [
        f"GRANT SELECT ON lms.series TO {site.role};",
        f"GRANT UPDATE (withdrawn_by) ON lms.enrolments TO {site.role};",
    ]
    assert withdrawals("grants").code == 1
    site.run(*advice, as_=site.platform)
    assert withdrawals("migrate").code == 0
    assert withdrawals("grants").code == 0


def test_names_are_printed_as_identifiers_and_options_without_their_act_are_refused() -> None:
    printed = withdrawals("grants", "--print", "--owner", "wd-owner", "--login", 'a"b').out
    assert 'TO "wd-owner"' in printed
    assert '"a""b"' in printed
    for words in (("grants", "--owner", "x"), ("migrate", "--json"), ("migrate", "--plan", "--sql")):
        assert withdrawals(*words).code == 2, words


def test_the_plan_and_the_sql_change_nothing(site: Site) -> None:
    before = everything(site.engine, "lms", "withdrawals")
    planned = json.loads(withdrawals("migrate", "--plan", "--json").out)
    assert planned["revision"] is None
    assert planned["items"][0]["revision"] == "0001"
    assert planned["items"][-1]["revision"] == head()
    assert withdrawals("migrate", "--sql").code == 0
    assert everything(site.engine, "lms", "withdrawals") == before


def test_the_printed_sql_makes_what_a_migration_makes(
    site: Site, environment: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", site.url(USER))
    printed = withdrawals("migrate", "--sql").out
    psql = [str(find_programs() / "psql"), "--no-psqlrc", "--quiet", "--set", "ON_ERROR_STOP=1", site.url(USER)]
    subprocess.run(psql, input=printed, text=True, check=True, capture_output=True)
    by_hand = everything(site.engine, "withdrawals")
    assert json.loads(withdrawals("migrate", "--plan", "--json").out)["items"] == []
    site.run("DROP SCHEMA withdrawals CASCADE")
    migrate(site.engine, role=site.role)
    assert everything(site.engine, "withdrawals") == by_hand
