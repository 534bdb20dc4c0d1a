import pytest

from tests.jobs.undoing import Undo
from tests.world import World
from worker.config import Settings
from worker.database import Database


@pytest.fixture
def undo(db: Database, world: World, environment: Settings) -> Undo:
    return Undo(db, world, environment)
