"""A database that has everything, made once: each test here gets a copy of it."""

from contextlib import closing

import pytest
import sqlalchemy
from pydantic import SecretStr

from ops.local.servers import LocalServers
from tests.support import full_world
from tests.support.databases import Cluster, Databases
from worker.config import Settings
from worker.database import Database

NAME = "template_full_world"


@pytest.fixture(scope="session")
def template(servers: LocalServers, cluster: Cluster, template: str) -> str:
    """In place of the empty template: one with the full world."""
    cluster.run(f"CREATE DATABASE {NAME} TEMPLATE {template}")
    url = sqlalchemy.make_url(servers.database_url)
    settings = Settings().model_copy(
        update={
            "database_url": SecretStr(url.set(database=NAME).render_as_string(hide_password=False)),
            "secret_key": SecretStr("a-key-of-the-tests-alone"),
            "brake_floor": 1_000_000,
            "backoff_seconds": 3600.0,
        }
    )
    with (
        closing(Database(settings, pool_size=4)) as db,
        closing(Database(settings, pool_size=4, as_owner=True)) as owner,
    ):
        full_world.build(db, owner, settings)
    return NAME


@pytest.fixture(scope="session")
def databases(cluster: Cluster, template: str) -> Databases:
    """Copies of that template. Each is used once: to put back so many rows takes longer."""
    return Databases(cluster, template, prefix="books", again=False)
