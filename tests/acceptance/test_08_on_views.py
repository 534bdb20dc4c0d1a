"""The same stories on a platform of another shape: schema `lms` is views over tables with other names and words."""

from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import psycopg
import pytest
import sqlalchemy

from ops.local.servers import LocalServers
from ops.migrate import migrate
from tests.acceptance import test_01_a_job, test_02_a_withdrawal, test_03_people, test_04_support, test_05_stopping
from tests.acceptance.test_06_everything_together import test_a_request_from_the_door_to_the_books as whole_story
from tests.conftest import ROLE
from tests.support.commandline import withdrawals
from tests.support.databases import Cluster, Databases
from tests.world import World
from worker.database import Database
from worker.records import Job

ROOT = Path(__file__).parents[2]
SCRIPTS = (ROOT / "ops/examples/platform-views.sql", ROOT / "tests/support/platform_writes.sql")
STORIES: tuple[ModuleType, ...] = (
    test_01_a_job, test_02_a_withdrawal, test_03_people, test_04_support, test_05_stopping,
)  # fmt: skip

refused = test_04_support.refused
"""A fixture of these stories."""
for story in STORIES:
    globals().update({name: found for name, found in vars(story).items() if name.startswith("test_")})


@pytest.fixture(scope="module")
def databases(servers: LocalServers, cluster: Cluster) -> Iterator[Databases]:
    """Clones of a migrated database over the tables of the example."""
    name = "template_views"
    cluster.run(f"CREATE DATABASE {name}")
    url = sqlalchemy.make_url(servers.database_url).set(database=name)
    with psycopg.connect(url.render_as_string(hide_password=False), autocommit=True) as connection:
        for script in SCRIPTS:
            connection.execute(script.read_text(encoding="utf-8").encode())
    engine = sqlalchemy.create_engine(url.set(drivername="postgresql+psycopg"), poolclass=sqlalchemy.NullPool)
    migrate(engine, role=ROLE)
    engine.dispose()
    found = Databases(cluster, name, prefix="views")
    yield found
    found.close()
    cluster.drop(name)  # the module may come twice: what is left of it is given to an idle process


@pytest.mark.long
def test_a_request_from_the_door_to_the_books(
    processes: None, db: Database, world: World, ended: Callable[[Job], Job]
) -> None:
    """With real processes. Small: the stories above, and the same on tables."""
    whole_story(processes, db, world, ended)


def test_the_platform_is_of_another_shape(world: World) -> None:
    world.enrolment(status="mastered")
    assert world.one("SELECT relkind::text FROM pg_class WHERE oid = 'lms.enrolments'::regclass") == "v"
    assert world.one("SELECT stage FROM campus.booking") == "passed"


def test_the_doctor_finds_the_views_as_they_must_be(world: World) -> None:
    levels = {item["what"]: item["level"] for item in withdrawals("doctor", "--json").document["items"]}
    assert levels["lms"] == levels["role"] == "ok"
    assert "rights" not in levels, "none is missing"
    world.run("DROP TRIGGER update_booking ON lms.enrolments")
    world.run("DROP TRIGGER write_rest_of_booking ON lms.enrolments")
    levels = {item["what"]: item["level"] for item in withdrawals("doctor", "--json").document["items"]}
    assert levels["lms"] == "wrong"
