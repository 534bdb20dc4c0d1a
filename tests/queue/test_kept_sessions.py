"""The tests' own sessions: what one test leaves open is not found by the next."""

from tests.support.sessions import Sessions
from worker.config import Settings
from worker.database import driver


def test_a_connection_that_was_not_given_back_is_closed_at_the_end_of_its_test(
    sessions: Sessions, environment: Settings
) -> None:
    """As after a failure: collected later, it would warn in the middle of another test, which fails then."""
    with sessions.database(environment) as database:
        left = database.engine.connect()
        session = driver(left)
        with database.engine.connect() as other:
            given_back = driver(other)
    assert (session.closed, given_back.closed) == (True, False)
    left.invalidate()
