"""Races of `tests/races` once more, with PgBouncer in transaction mode between the service and PostgreSQL.

Chosen are those that a session lost between two transactions, or one shared with somebody else, would spoil.
"""

from collections import Counter
from collections.abc import Callable

import pytest

from tests.races.test_race_coming_back import (
    test_a_reactivation_committed_while_the_deactivation_waits_wins,
    test_coming_back_and_being_applied_at_the_same_moment_end_in_one_of_two_ways,
)
from tests.races.test_race_everything import (
    test_everything_at_once_loses_nothing_and_does_nothing_twice as everything_at_once,
)
from tests.races.test_race_finishing import (
    test_two_workers_that_both_commit_before_either_finishes_end_the_job_once,
    test_two_workers_that_decide_the_last_two_chunks_at_once_end_the_job,
)
from tests.races.test_race_keys import (
    test_an_event_finds_its_key_taken_by_a_job_that_commits_meanwhile,
)
from tests.races.test_race_same_enrolment import (
    test_a_deactivation_and_a_list_at_the_same_row_withdraw_once,
    test_many_workers_on_overlapping_jobs_withdraw_each_enrolment_once,
    test_of_two_workers_that_decide_one_enrolment_at_once_exactly_one_withdraws_it,
)
from tests.races.test_race_stopping_jobs import (
    test_a_cancel_does_not_wait_for_a_chunk_that_is_being_decided,
    test_two_concurrent_cancels_have_one_effect,
)
from tests.support.racing import Threads
from tests.world import World
from worker.config import Settings
from worker.database import Database

__all__ = [
    "test_a_cancel_does_not_wait_for_a_chunk_that_is_being_decided",
    "test_a_deactivation_and_a_list_at_the_same_row_withdraw_once",
    "test_a_reactivation_committed_while_the_deactivation_waits_wins",
    "test_an_event_finds_its_key_taken_by_a_job_that_commits_meanwhile",
    "test_coming_back_and_being_applied_at_the_same_moment_end_in_one_of_two_ways",
    "test_many_workers_on_overlapping_jobs_withdraw_each_enrolment_once",
    "test_of_two_workers_that_decide_one_enrolment_at_once_exactly_one_withdraws_it",
    "test_two_concurrent_cancels_have_one_effect",
    "test_two_workers_that_both_commit_before_either_finishes_end_the_job_once",
    "test_two_workers_that_decide_the_last_two_chunks_at_once_end_the_job",
]


@pytest.mark.long
def test_everything_at_once_loses_nothing_through_the_pooler(
    slow_db: Database, world: World, patient: Settings, threads: Threads, withdrawals: Callable[[], Counter[int]]
) -> None:
    """With one seed. Small: the races above, and the same without a pooler in tests/races."""
    everything_at_once(slow_db, world, patient, threads, withdrawals, 1)
