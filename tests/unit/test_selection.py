"""The digest of a selection: a plan holds for the same enrolments, whoever names them in whatever order."""

import hashlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.jobs import JobRequest
from worker.jobs import selection


def digest(**selected: Any) -> str:
    return selection.selection_of(JobRequest(reason="not_required", **selected)).digest()


ids = st.lists(st.integers(1, 2**63 - 1), min_size=1, max_size=30)


@given(ids, st.randoms())
def test_the_same_ids_in_another_order_are_the_same_selection(given_ids: list[int], order: Any) -> None:
    other = list(given_ids)
    order.shuffle(other)
    assert digest(enrolment_ids=given_ids) == digest(enrolment_ids=other)


def test_the_same_ids_out_of_a_file_are_the_same_selection() -> None:
    """A file's ids are digested by the database while they are staged: SHA-256 of the sorted ids, comma between."""
    staged = hashlib.sha256(b"3,20,100").hexdigest()
    assert selection.digest("ids", staged) == digest(enrolment_ids=[100, 3, 20])


@given(ids, ids)
def test_other_ids_are_another_selection(one: list[int], other: list[int]) -> None:
    assert (digest(enrolment_ids=one) == digest(enrolment_ids=other)) is (sorted(one) == sorted(other))


def test_a_filter_is_the_same_however_it_is_written() -> None:
    one = digest(filter={"series_id": 7, "status": ["in_progress"], "pathway_id": None})
    assert one == digest(filter={"status": ["in_progress"], "series_id": 7})
    assert one != digest(filter={"series_id": 8, "status": ["in_progress"]})
    assert one != digest(filter={"series_id": 7})


def test_kinds_of_selection_are_never_mistaken_for_each_other() -> None:
    found = [digest(enrolment_ids=[7]), digest(learner_external_id="7"), digest(filter={"series_id": 7})]
    assert len(set(found)) == 3


@pytest.mark.parametrize(
    "more", [{"note": "why"}, {"source": "admin"}, {"effective_at": "2026-03-01"}, {"plan_hash": "x"}]
)
def test_only_what_is_selected_is_in_the_digest(more: dict[str, Any]) -> None:
    """The reason is compared by itself; the rest may differ between a plan and its job."""
    assert digest(enrolment_ids=[1], **more) == digest(enrolment_ids=[1])
