"""Columns that order a list: plain links, and every page of every order goes on where the one before ended."""

import html
import re
from collections.abc import Sized
from typing import Any

import pytest
from starlette.testclient import TestClient

from schemas.dead_letters import LetterFilter
from schemas.job_filter import JobFilter
from tests.console.test_library import people
from tests.dead_letters.test_desk import made
from tests.queue.test_costs import Backlog, assert_bounded, reads_at_each_size
from tests.support.commandline import done
from tests.support.console import MakeToken, Person, ask
from tests.world import World
from worker.database import Database
from worker.ledger import desk, job_lists
from worker.web.console import desk as desk_page
from worker.web.console import jobs as jobs_page
from worker.web.console import library

LINKS = {
    "jobs": r'<th scope="row">.*?href="/console/jobs/(\d+)"',
    "dead-letters": r'aria-label="Letter (\d+)"',
    "series": r'<td class="mono"[^>]*>([^<]*)</td>',
}


def walk(person: Person, path: str, pattern: str) -> list[str]:
    """What all pages of a list show, in order."""
    found: list[str] = []
    while path:
        page = person.get(path)
        found += re.findall(pattern, page)
        following = re.search(r'rel="next" href="([^"]*)"', page)
        path = html.unescape(following[1]) if following else ""
    return found


def test_each_order_of_a_list_shows_every_row_once(
    client: TestClient, token: MakeToken, db: Database, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module, name in ((jobs_page, "ROWS"), (desk_page, "MOST"), (library, "ROWS")):
        monkeypatch.setattr(module, name, 2)
    job_ids = [ask(db, world, [one]).id for one in world.enrolments(5)]
    letters = [*made(world, 3, "poison", hours=5), *made(world, 2, "not_found", hours=900)]
    for title in "ABC":
        people(world, title, 1)
    codes = [
        row.code
        for row in world.run(
            "SELECT code FROM lms.series WHERE organisation_id = :o ORDER BY code", o=world.organisation_id
        )
    ]
    mia = Person(client, token("viewer", name="mia"))
    for name, rising in (("jobs", job_ids), ("dead-letters", letters), ("series", codes)):
        rows = [str(one) for one in rising]
        up, down = {"jobs": ("oldest", ""), "dead-letters": ("oldest", "newest"), "series": ("", "last")}[name]
        for sort, expected, said in ((up, rows, "ascending"), (down, rows[::-1], "descending")):
            address = f"/console/{name}" + (f"?sort={sort}" if sort else "")
            assert walk(mia, address, LINKS[name]) == expected, address
            assert f'aria-sort="{said}"' in mia.get(address), address
        other = re.search(r'class="sort" href="([^"]*)"', mia.get(f"/console/{name}"))
        assert other
        mia.get(html.unescape(other[1]))
        mia.get(f"/console/{name}?sort=learner", 422)
    assert sorted(walk(mia, "/console/dead-letters", LINKS["dead-letters"])) == sorted(map(str, letters))
    headers = {"Authorization": f"Bearer {token('viewer')}"}
    for name, numbers in (("jobs", job_ids), ("dead-letters", letters)):
        first = client.get(f"/v1/{name}", params={"sort": "oldest", "limit": 2}, headers=headers).json()
        then = client.get(
            f"/v1/{name}", params={"sort": "oldest", "limit": 2, "cursor": first["next_cursor"]}, headers=headers
        ).json()
        assert [one["id"] for one in first["items"] + then["items"]] == numbers[:4]
        assert client.get(f"/v1/{name}", params={"sort": "x"}, headers=headers).status_code == 422
        assert done(name, "list", "--sort", "oldest", "--limit", "1")["items"][0]["id"] == numbers[0]


@pytest.mark.parametrize("oldest_first", [True, False])
@pytest.mark.parametrize("what", ["jobs", "letters"])
def test_an_order_reads_no_more_the_more_rows_there_are(
    world: World, db: Database, what: str, oldest_first: bool
) -> None:
    def act() -> None:
        with db.begin() as connection:
            how: dict[str, Any] = {"last": None, "limit": 5, "oldest_first": oldest_first}
            if what == "jobs":
                found: Sized = job_lists.list_jobs(connection, world.organisation_id, JobFilter(), **how)
            else:
                found = desk.list_by_number(connection, world.organisation_id, LetterFilter(), **how)
            assert len(found) == 5

    assert_bounded(reads_at_each_size(world, db, Backlog.jobs if what == "jobs" else Backlog.desk, act))
