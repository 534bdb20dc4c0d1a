"""What becomes of a chunk that was not decided: the whole table of fault, budget and size."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.config import Settings
from worker.faults import Fault
from worker.queue.recovery import NextStep, Tried, backoff, next_step

SETTINGS = Settings(max_attempts=6, max_claims=4, retry_hours=24)
DAY = timedelta(hours=24)
faults = st.none() | st.sampled_from(Fault)
surroundings = st.sampled_from([Fault.TRANSIENT, Fault.TIMEOUT])
own = st.sampled_from([Fault.ROW, Fault.BUG])
anything = st.builds(
    Tried,
    attempts=st.integers(1, 1000),
    own_failures=st.integers(0, 1000),
    vanished=st.integers(0, 1000),
    time=st.timedeltas(timedelta(0), timedelta(days=30)),
)


def spent(fault: Fault | None, tried: Tried) -> bool:
    """Whether the one budget that bounds this fault is used up, by the words of decision record 0019."""
    if fault is None:
        return tried.vanished >= 4
    return tried.time >= DAY if fault in (Fault.TRANSIENT, Fault.TIMEOUT) else tried.own_failures >= 6


@given(faults, anything, st.booleans())
def test_it_is_given_up_when_its_budget_is_spent_and_it_cannot_be_split(
    fault: Fault | None, tried: Tried, splittable: bool
) -> None:
    """DESIGN.md §2: "At any cap a chunk of several ids is split, one of a single id becomes a dead letter"."""
    step = next_step(fault, tried, SETTINGS, splittable=splittable)
    assert (step is NextStep.GIVE_UP) == (spent(fault, tried) and not splittable)
    if spent(fault, tried) and splittable:
        assert step is NextStep.SPLIT


@given(faults, anything)
def test_below_its_budget_what_cannot_be_split_is_tried_again(fault: Fault | None, tried: Tried) -> None:
    """A person chunk is never split, nor is a single id."""
    if not spent(fault, tried):
        assert next_step(fault, tried, SETTINGS, splittable=False) is NextStep.RETRY


@given(surroundings, st.integers(1, 10_000), st.timedeltas(timedelta(0), DAY - timedelta(microseconds=1)))
def test_the_surroundings_are_bounded_by_time_however_many_attempts_there_were(
    fault: Fault, attempts: int, time: timedelta
) -> None:
    """An outage of a night becomes nobody's dead letter."""
    tried = Tried(attempts, own_failures=5, time=time)
    assert next_step(fault, tried, SETTINGS, splittable=False) is NextStep.RETRY


@given(own, st.integers(0, 5), st.timedeltas(timedelta(0), timedelta(days=30)))
def test_an_outage_before_does_not_use_up_the_attempts_of_a_row(fault: Fault, own: int, time: timedelta) -> None:
    tried = Tried(attempts=100 + own, own_failures=own, time=time)
    assert next_step(fault, tried, SETTINGS, splittable=False) is NextStep.RETRY


@pytest.mark.parametrize(
    ("fault", "attempts", "expected"),
    [
        (Fault.ROW, 1, NextStep.SPLIT),
        (Fault.TIMEOUT, 1, NextStep.RETRY),
        (Fault.TIMEOUT, 2, NextStep.SPLIT),
        (Fault.TRANSIENT, 1, NextStep.RETRY),
        (Fault.TRANSIENT, 500, NextStep.RETRY),
        (Fault.BUG, 1, NextStep.RETRY),
        (Fault.BUG, 5, NextStep.RETRY),
        (None, 1, NextStep.RETRY),
        (None, 3, NextStep.RETRY),
    ],
)
def test_only_an_error_of_a_row_or_a_second_timeout_splits_below_the_cap(
    fault: Fault | None, attempts: int, expected: NextStep
) -> None:
    """DESIGN.md §2: "An error that belongs to a row, and from the second attempt also a … timeout, splits"."""
    own = attempts if fault in (Fault.ROW, Fault.BUG) else 0
    tried = Tried(attempts, own_failures=own, vanished=attempts if fault is None else 0)
    assert next_step(fault, tried, SETTINGS, splittable=True) is expected


@given(st.integers(1, 100_000))
def test_a_backoff_lies_between_nothing_and_a_bound_that_doubles_up_to_the_longest(tries: int) -> None:
    settings = Settings()
    bound = min(settings.backoff_seconds * 2 ** min(tries - 1, 60), settings.backoff_max_seconds)
    assert 0 <= backoff(settings, tries).total_seconds() <= bound


def test_two_failures_at_once_do_not_come_back_at_once() -> None:
    settings = Settings()
    assert len({backoff(settings, 5) for _ in range(20)}) == 20
