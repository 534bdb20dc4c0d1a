"""PostgreSQL 15 to 17: the same service on each. The whole suite runs on 18, the embedded one.

Debian's packages are found by themselves; CI installs that of 15. `TEST_POSTGRES_PROGRAMS` names further directories
with `initdb`, `pg_ctl` and `postgres`, colon-separated; CONTRIBUTING.md says where to get them.
"""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy
from sqlalchemy import text

from ops.local.servers import LocalServers
from ops.migrate import head, migrate
from tests.conftest import ROLE
from tests.schema.test_upgrade import BEFORE, fill_at_the_version_before
from tests.support.clusters import Cluster, directory
from tests.support.commandline import done, withdrawals
from tests.world import decide_due
from worker.config import Settings, settings
from worker.database import Database

REQUIRED = 15
"""What `.ci/run` installs."""
CSV = """\
enrolment_id,learner_external_id,series_code,pathway_title,status,enrolled_at,progress
1,anna,FIRE,,in_progress,,
2,anna,FIRST-AID,,no_attempts,,
3,ben,FIRE,Onboarding,in_progress,,
4,cara,FIRE,,mastered,,
5,dan,FIRE,,not_signed_in,,
"""


def _find() -> dict[int, Path]:
    folders = [Path(one) for one in os.environ.get("TEST_POSTGRES_PROGRAMS", "").split(":") if one]
    found = {}
    for folder in [*folders, *Path("/usr/lib/postgresql").glob("*/bin")]:
        if (program := folder / "postgres").exists():
            said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
            found[int(said.split()[2].partition(".")[0])] = folder
    return found


@pytest.fixture(params=[15, 16, 17])
def other(request: pytest.FixtureRequest, servers: LocalServers) -> Iterator[Cluster]:
    """A server of this version, with an empty database."""
    programs = _find().get(request.param)
    if programs is None:
        if request.param == REQUIRED and os.environ.get("CI") == "true":
            pytest.fail(f"PostgreSQL {REQUIRED} is not installed")
        pytest.skip(f"PostgreSQL {request.param} is not installed: this test runs on it")
    with directory() as place, Cluster(servers, place / "c", programs=programs) as cluster:
        cluster.create()
        cluster.start()
        cluster.create_database()
        assert cluster.version() == request.param
        yield cluster


def test_everything_is_done_on_every_version(
    other: Cluster, environment: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From an empty database to an undo with clean books, and the upgrade of a filled one, without a warning."""
    monkeypatch.setenv("DATABASE_URL", other.url)
    settings.cache_clear()
    assert withdrawals("migrate").code == 0
    (tmp_path / "some.csv").write_text(CSV, encoding="utf-8")
    assert done("load", tmp_path / "some.csv", "--organisation", "Acme")["created"] == 5
    database = Database(settings(), pool_size=2)
    try:
        bulk = done("bulk", "--filter", "status=in_progress", "--filter", "status=mastered", "--reason", "not_required")
        decide_due(database, settings())
        assert done("jobs", "show", bulk["id"])["outcomes"] == {
            "withdrawn": 1, "pathway_owned": 1, "enrolment_ended": 1,
        }  # fmt: skip
        (letter,) = done("dead-letters", "list")["items"]
        assert letter["code"] == "pathway_owned"
        assert withdrawals("deactivate", "anna").code == withdrawals("deactivate", "dan").code == 0
        decide_due(database, settings())
        with database.begin() as connection:
            counted = connection.execute(text("SELECT status, count(*) FROM lms.enrolments GROUP BY 1 ORDER BY 1"))
            assert {row[0]: row[1] for row in counted} == {"in_progress": 1, "mastered": 1, "withdrawn": 3}
        undo = done("jobs", "reinstate", bulk["id"])
        decide_due(database, settings())
        assert done("jobs", "show", undo["id"])["outcomes"] == {"learner_inactive": 1}
        assert withdrawals("report", "enrolments", "-o", tmp_path / "out.csv").code == 0
        assert withdrawals("check").code == 0
        levels = {item["what"]: item["level"] for item in withdrawals("doctor", "--json").document["items"]}
        assert "wrong" not in levels.values(), levels
    finally:
        database.close()
    _upgrade_a_filled_one(other, monkeypatch)


def _upgrade_a_filled_one(other: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    other.create_database("older")
    url = sqlalchemy.make_url(other.url).set(drivername="postgresql+psycopg", database="older")
    engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)
    fill_at_the_version_before(engine)
    assert migrate(engine, role=ROLE) == head() != BEFORE
    address = url.set(drivername="postgresql").render_as_string(hide_password=False)
    monkeypatch.setenv("DATABASE_URL", address)
    settings.cache_clear()
    assert withdrawals("check").code == 0
