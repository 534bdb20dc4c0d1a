import pytest

from tests.approvals.office import Office
from tests.web.conftest import bearer, client
from tests.world import World
from worker.config import Settings
from worker.database import Database

__all__ = ["bearer", "client"]


@pytest.fixture
def office(db: Database, world: World, environment: Settings) -> Office:
    return Office(db, world, environment)
