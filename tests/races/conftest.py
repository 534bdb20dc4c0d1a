"""What the race tests share."""

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.racing import Threads
from tests.support.sessions import Sessions, have_patience
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
    """The settings of workers beside `slow_db`."""
    return have_patience(environment)


@pytest.fixture
def slow_db(sessions: Sessions, patient: Settings) -> Iterator[Database]:
    """The service's connections with patience, so that a transaction can be stopped and looked at."""
    with sessions.database(patient, pool_size=16) as database:
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
