"""Ids and cursors as text: what is read, and what is refused with the name of its field."""

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.errors import InvalidInputError
from worker.ids import LARGEST, next_cursor, parse_cursor, parse_id


@given(st.integers(1, LARGEST), st.integers(0, 30), st.text(" \t", max_size=3))
def test_an_id_is_read_with_spaces_and_leading_zeros(number: int, zeros: int, space: str) -> None:
    assert parse_id(f"{space}{'0' * zeros}{number}{space}", "id") == number


@pytest.mark.parametrize(
    "given_text", ["", " ", "0", "-1", "+1", "1.0", "1e3", "x", "1 2", "²", "\uff11", str(LARGEST + 1), "9" * 400]
)
def test_what_is_not_an_id_is_refused_by_the_name_of_its_field(given_text: str) -> None:
    with pytest.raises(InvalidInputError, match=r"^series_id: "):
        parse_id(given_text, "series_id")


def test_a_page_that_is_full_has_a_next_one() -> None:
    rows = [SimpleNamespace(id=9), SimpleNamespace(id=4)]
    assert next_cursor(rows, 2) == "4"
    assert parse_cursor(next_cursor(rows, 2)) == 4
    assert next_cursor(rows, 3) is None
    assert next_cursor([], 3) is None
    assert parse_cursor(None) is None


@pytest.mark.parametrize("cursor", ["", "0", "-4", "x", " 4", "²", str(LARGEST + 1), "9" * 20])
def test_a_cursor_that_the_service_did_not_make_is_refused(cursor: str) -> None:
    with pytest.raises(InvalidInputError, match=r"^cursor: "):
        parse_cursor(cursor)
