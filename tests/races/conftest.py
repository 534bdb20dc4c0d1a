"""What the race tests share."""

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.racing import Threads
from tests.support.sessions import Sessions
from tests.world import World
from worker.config import Settings
from worker.database import Database


@pytest.fixture
def threads() -> Iterator[Threads]:
    """Threads to run beside the test."""
    with ThreadPoolExecutor(16) as pool:
        yield Threads(pool)


@pytest.fixture
def patient(environment: Settings) -> Settings:
    """A lease of ten minutes: who waits for a lock waits a minute, however slowly the test goes on meanwhile."""
    return environment.model_copy(update={"lease_seconds": 600.0})


@pytest.fixture
def slow_db(sessions: Sessions, patient: Settings) -> Iterator[Database]:
    """The service's connections with patience, so that a transaction can be stopped and looked at."""
    with sessions.database(patient, pool_size=16) as database:
        yield database


@pytest.fixture
def quick_db(sessions: Sessions, environment: Settings) -> Iterator[Database]:
    """The service's connections with a lease of 3 s: who waits for a lock gives up long before `slow_db` does."""
    with sessions.database(environment.model_copy(update={"lease_seconds": 3.0}), pool_size=4) as database:
        yield database


@pytest.fixture
def withdrawals(world: World) -> Callable[[], Counter[int]]:
    """How often each enrolment has become withdrawn, as the platform itself saw it."""
    world.run("CREATE TABLE public.seen_withdrawn (enrolment_id bigint NOT NULL)")
    world.run(
        """CREATE FUNCTION public.see_withdrawn() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
        BEGIN INSERT INTO public.seen_withdrawn VALUES (new.id); RETURN NULL; END $$"""
    )
    world.run(
        """CREATE TRIGGER see_withdrawn AFTER UPDATE ON lms.enrolments FOR EACH ROW
        WHEN (new.status = 'withdrawn') EXECUTE FUNCTION public.see_withdrawn()"""
    )
    return lambda: Counter(row[0] for row in world.run("SELECT enrolment_id FROM public.seen_withdrawn"))
