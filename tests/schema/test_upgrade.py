"""A database of the version before, with its data: migrated, it answers the same, balances, and goes on."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import sqlalchemy
from alembic import command
from alembic.config import Config
from pydantic import SecretStr
from sqlalchemy import text
from starlette.testclient import TestClient

from ops.local.servers import LocalServers
from ops.migrate import MIGRATIONS, head, migrate
from tests.conftest import ROLE
from tests.support.databases import Cluster
from tests.world import assert_balanced, decide_due
from worker.access import tokens
from worker.config import Settings
from worker.database import Database
from worker.queue import recovery
from worker.queue.broker import make_broker
from worker.reports.books import check
from worker.web.app import make_app

BEFORE = "0012"
DATA = Path(__file__).with_name(f"version_{BEFORE}.sql")
ANSWERS: dict[str, list[dict[str, Any]]] = json.loads(DATA.with_suffix(".json").read_text(encoding="utf-8"))
"""What the API of that version answered about those rows: by path, the fields that are not sentences."""


@pytest.fixture(scope="module")
def migrated(servers: LocalServers, cluster: Cluster) -> Iterator[str]:
    """A database that was made and filled at the version before and then migrated by this one; to be copied."""
    url = sqlalchemy.make_url(servers.database_url).set(drivername="postgresql+psycopg")
    name = f"upgraded_{uuid4().hex[:8]}"
    cluster.run(f"CREATE DATABASE {name}")
    engine = sqlalchemy.create_engine(url.set(database=name), poolclass=sqlalchemy.NullPool)
    fill_at_the_version_before(engine)
    assert migrate(engine, role=ROLE) == head() != BEFORE
    yield name
    cluster.drop(name)


@pytest.fixture
def upgraded(environment: Settings, cluster: Cluster, migrated: str) -> Iterator[Settings]:
    """Settings of such a database."""
    cluster.run(f"CREATE DATABASE {(name := migrated + '_copy')} TEMPLATE {migrated} STRATEGY file_copy")
    url = sqlalchemy.make_url(environment.database_url.get_secret_value()).set(database=name)
    address = url.render_as_string(hide_password=False)
    yield environment.model_copy(update={"database_url": SecretStr(address)})
    cluster.drop(name)


@pytest.fixture
def database(upgraded: Settings) -> Iterator[Database]:
    made = Database(upgraded, pool_size=4)
    yield made
    made.close()


@pytest.fixture
def client(database: Database, upgraded: Settings) -> Iterator[TestClient]:
    """Somebody of the organisation who may see everything."""
    made = tokens.create(database, organisation_id=1, name="reader", role="approver", actor="cli:test")
    app = make_app(database, make_broker(upgraded.broker_url.get_secret_value()), upgraded)
    with TestClient(app, headers={"Authorization": f"Bearer {made.secret}"}) as client:
        yield client


def test_the_books_of_a_migrated_database_balance_as_before(database: Database) -> None:
    books = check(database)
    assert books.clean, books
    assert books.totals == {
        "jobs": 14,
        "accepted": 48,
        "outcomes": 26,
        "unfinished": 15,
        "closed_whole": 7,
        "pruned": 0,
    }


@pytest.mark.parametrize("path", ANSWERS)
def test_the_api_answers_about_a_migrated_database_as_before(client: TestClient, path: str) -> None:
    """Every field of the answer of then is there with its value; new fields may stand beside it."""
    answer = client.get(path, params={"limit": 100})
    assert answer.status_code == 200, answer.text
    items = answer.json()["items"]
    assert [{name: item.get(name) for name in then} for item, then in zip(items, ANSWERS[path], strict=True)] == (
        ANSWERS[path]
    )


def test_every_letter_of_a_migrated_database_still_says_why_and_what_can_be_done(client: TestClient) -> None:
    for known in ANSWERS["/v1/dead-letters"]:
        letter = client.get(f"/v1/dead-letters/{known['id']}").json()
        assert letter["message"]
        assert letter["diagnosis"]["sentence"]
        assert letter["remedies"]


def test_the_work_of_a_migrated_database_goes_on_where_it_was(database: Database, upgraded: Settings) -> None:
    """One chunk is held by a worker that died with the old version; the others wait, one of them for a letter."""
    with database.begin() as connection:
        connection.execute(text("UPDATE withdrawals.chunks SET lease_until = now() WHERE state = 'claimed'"))
    assert recovery.take_over(database, upgraded) == 1
    decide_due(database, upgraded)
    with database.begin() as connection:
        rows = connection.execute(text("SELECT id, state FROM withdrawals.jobs WHERE id > 8 ORDER BY id"))
        states = {row.id: row.state for row in rows}
        letters = connection.execute(text("SELECT count(*) FROM withdrawals.dead_letters WHERE state = 'redriven'"))
        assert letters.scalar() == 0, "the attempt that was in flight came to its end"
    assert states == {
        9: "cancelled", 10: "scheduled", 11: "paused", 12: "held", 13: "completed", 14: "completed",
    }  # fmt: skip
    assert_balanced(database)


def test_tokens_of_a_migrated_database_are_known_and_a_revoked_one_stays_revoked(database: Database) -> None:
    found = {token.name: token.revoked_at is not None for token in tokens.list_tokens(database, organisation_id=1)}
    assert found == {"mia": False, "gone": True}


def fill_at_the_version_before(engine: sqlalchemy.Engine) -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        connection.exec_driver_sql((MIGRATIONS / "lms.sql").read_text(encoding="utf-8"))
        connection.exec_driver_sql("CREATE SCHEMA withdrawals")
        command.upgrade(config, BEFORE)
        connection.exec_driver_sql(DATA.read_text(encoding="utf-8").replace("%", "%%"))
