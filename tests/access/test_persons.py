"""Who is known to be whom: the rule of the second person, for every pair of ways in which somebody can act."""

from itertools import product

import pytest

from worker.access.persons import Actor, member_actor, shown_name

ADA, OTHER_ADA, BOB = (member_actor(name, id_) for name, id_ in (("Ada", 1), ("Ada", 2), ("Bob", 3)))
ONE_PERSON = [
    Actor(ADA),
    Actor(member_actor("Ada King", 1)),  # since she has another name
    Actor("token:bot", made_by=ADA),
    Actor("token:other-bot", made_by=member_actor("Ada King", 1)),
]
"""Ada: two sessions, two tokens of hers."""
OTHERS = [
    Actor(OTHER_ADA),
    Actor(BOB),
    Actor("token:robot", made_by=BOB),
    Actor("token:robot", made_by="cli:root"),
    Actor("cli:root"),
]


@pytest.mark.parametrize(("one", "other"), list(product(ONE_PERSON, ONE_PERSON)))
def test_one_person_is_one_however_they_act(one: Actor, other: Actor) -> None:
    assert one.is_known_to_be(other)


@pytest.mark.parametrize(("one", "other"), list(product(ONE_PERSON, OTHERS)))
def test_two_people_are_two_also_when_they_have_one_name(one: Actor, other: Actor) -> None:
    assert not one.is_known_to_be(other)
    assert not other.is_known_to_be(one)


def test_a_token_or_a_shell_with_the_name_of_a_member_may_be_that_member() -> None:
    for name in ("token:Ada", "cli:ada", " ADA "):
        assert Actor(name).is_known_to_be(Actor(ADA))
        assert Actor(ADA).is_known_to_be(Actor(name))


def test_two_tokens_of_an_administrator_are_two_people() -> None:
    assert not Actor("token:ada", "cli:root").is_known_to_be(Actor("token:bob", "cli:root"))
    assert Actor("cli:root").is_known_to_be(Actor("token:bob", "cli:root"))


def test_pages_show_a_member_by_name_and_anybody_else_as_recorded() -> None:
    assert [shown_name(actor) for actor in (ADA, member_actor("A#7", 1), "token:ada")] == ["Ada", "A#7", "token:ada"]
