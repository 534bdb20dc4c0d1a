"""Tests of single functions: no server runs here, so that all of them end within seconds."""

import pytest

from worker.config import settings


@pytest.fixture(scope="session")
def servers() -> None:
    """Fail a test of this folder that asks for PostgreSQL or Redis, by whatever fixture."""
    pytest.fail("tests/unit has no servers: take `environment`, `db` or `world` out, or move the test to its subject")


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings as they are by default, with a key to seal with and addresses where nothing answers."""
    monkeypatch.setenv("DATABASE_URL", "postgresql://nobody@127.0.0.1:1/nothing")
    monkeypatch.setenv("BROKER_URL", "redis://127.0.0.1:1/0")
    monkeypatch.setenv("WITHDRAWALS_SECRET_KEY", "a-key-of-the-tests-alone")
    settings.cache_clear()
