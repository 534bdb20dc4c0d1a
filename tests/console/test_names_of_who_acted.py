"""Who acted stands by name on every page, also inside sentences; how the record has them is on hover."""

import re

import pytest
from starlette.testclient import TestClient

from tests.console.test_every_page import list_addresses
from tests.support.console import MakeToken, Person
from tests.world import World
from worker.access.persons import with_names
from worker.config import Settings
from worker.database import Database


@pytest.mark.parametrize(
    ("recorded", "shown"),
    [
        ("token:olivia decided", "olivia decided"),
        ("Requested by person:Ada Lovelace#17 on the console.", "Requested by Ada Lovelace on the console."),
        ("cli:ada and a token: none", "cli:ada and a token: none"),
        ("https://x.example/token:a", "https://x.example/token:a"),
    ],
)
def test_a_sentence_has_the_name_of_who_acted(recorded: str, shown: str) -> None:
    assert with_names(recorded) == shown


def test_no_page_shows_a_token_as_the_record_has_it(
    client: TestClient, token: MakeToken, db: Database, world: World, environment: Settings
) -> None:
    addresses = list_addresses(db, world, environment)
    anna = Person(client, token("owner", name="anna"))
    for address in addresses:
        text = re.sub(r"<[^>]*>", "", anna.client.get(address).text)
        found = re.findall(r".{0,60}(?<!-)token:.{0,40}", text)  # a key of a request may have one
        assert not found, (address, found)
