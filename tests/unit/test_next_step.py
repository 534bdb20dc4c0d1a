"""What becomes of a chunk that was not decided: the whole table of fault, count, cap and size."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.config import Settings
from worker.errors import Fault
from worker.queue.recovery import NextStep, backoff, next_step

faults = st.none() | st.sampled_from(Fault)


@given(faults, st.integers(1, 20), st.integers(1, 20))
def test_at_the_cap_several_ids_are_split_and_a_single_id_is_given_up(
    fault: Fault | None, most: int, beyond: int
) -> None:
    """DESIGN.md §2: "At any cap a chunk of several ids is split, one of a single id becomes a dead letter"."""
    tries = most + beyond - 1
    assert next_step(fault, tries=tries, most=most, splittable=True) is NextStep.SPLIT
    assert next_step(fault, tries=tries, most=most, splittable=False) is NextStep.GIVE_UP


@given(faults, st.integers(1, 19))
def test_below_the_cap_what_cannot_be_split_is_tried_again(fault: Fault | None, tries: int) -> None:
    """A person chunk is never split, nor is a single id."""
    assert next_step(fault, tries=tries, most=20, splittable=False) is NextStep.RETRY


@pytest.mark.parametrize(
    ("fault", "tries", "expected"),
    [
        (Fault.ROW, 1, NextStep.SPLIT),
        (Fault.TIMEOUT, 1, NextStep.RETRY),
        (Fault.TIMEOUT, 2, NextStep.SPLIT),
        (Fault.TRANSIENT, 1, NextStep.RETRY),
        (Fault.TRANSIENT, 5, NextStep.RETRY),
        (Fault.BUG, 1, NextStep.RETRY),
        (Fault.BUG, 5, NextStep.RETRY),
        (None, 1, NextStep.RETRY),
        (None, 5, NextStep.RETRY),
    ],
)
def test_only_an_error_of_a_row_or_a_second_timeout_splits_below_the_cap(
    fault: Fault | None, tries: int, expected: NextStep
) -> None:
    """DESIGN.md §2: "An error that belongs to a row, and from the second attempt also a … timeout, splits"."""
    assert next_step(fault, tries=tries, most=6, splittable=True) is expected


@given(st.integers(1, 200))
def test_a_backoff_lies_between_nothing_and_a_bound_that_doubles_up_to_the_longest(tries: int) -> None:
    settings = Settings()
    bound = min(settings.backoff_seconds * 2 ** (tries - 1), settings.backoff_max_seconds)
    assert 0 <= backoff(settings, tries).total_seconds() <= bound


def test_two_failures_at_once_do_not_come_back_at_once() -> None:
    settings = Settings()
    assert len({backoff(settings, 5) for _ in range(20)}) == 20
