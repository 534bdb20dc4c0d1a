"""Words as a search compares them: whatever the case, the accents and the apostrophes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.search.words import PART, is_found, keys_of, keys_of_parts, keys_of_whole, split, words_of


@pytest.mark.parametrize(
    ("wanted", "name"),
    [
        ("o'bri mar", "Maria O\u2019Brien"),
        ("OBRIEN", "Maria O'Brien"),
        ("o'brien", "Maria O Brien"),
        ("o brien", "Maria OBrien"),
        ("müller", "Jörg Muller"),
        ("muller jorg", "Jörg Müller"),
        ("mueller", "Jörg Müller"),
        ("mu\u0308ller", "Jörg Müller"),
        ("strasse", "Straße der Freude"),
        ("lodz", "Łódź"),
        ("soren aero", "Søren Ærø"),
        ("lydden", "Anna Müller-Lydden"),
        ("mullerlyd", "Anna Müller-Lydden"),
        ("emp00", "EMP-0042"),
        ("4", "EMP-42"),
        ("小明", "王小明"),
        ("明", "王小明"),
        ("한국", "대한국어"),
        ("مار", "مارية"),
        ("ma", "Maria"),
        ("mari@ex", "mari@example.org"),
    ],
)
def test_parts_of_words_find_a_name(wanted: str, name: str) -> None:
    words = words_of([name])
    assert is_found(split(wanted), words)
    assert set(keys_of_parts(1, "learner", split(wanted))) <= set(keys_of(1, "learner", words))


@pytest.mark.parametrize(("wanted", "name"), [("ar", "Maria"), ("maria peter", "Maria"), ("marai", "Maria")])
def test_other_words_do_not(wanted: str, name: str) -> None:
    assert not is_found(split(wanted), words_of([name]))


@given(st.lists(st.text(max_size=12), max_size=3), st.data())
def test_whatever_the_words_say_is_found_by_its_keys(names: list[str], data: st.DataObject) -> None:
    words = words_of(names)
    keys = set(keys_of(7, "learner", words))
    assert all(set(keys_of_whole(7, "learner", [word])) <= keys for word in words)
    for word in sorted(words):
        start = data.draw(st.integers(0, max(len(word) - PART, 0)))
        part = word[start : start + PART]
        assert is_found([part], [word])
        assert set(keys_of_parts(7, "learner", [part])) <= keys


def test_another_organisation_or_kind_shares_no_keys() -> None:
    words = words_of(["Maria O'Brien"])
    own = set(keys_of(1, "learner", words))
    assert own.isdisjoint(keys_of(2, "learner", words))
    assert own.isdisjoint(keys_of(1, "series", words))
