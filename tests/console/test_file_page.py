"""The page that withdraws from a file: what it says about rows with faults, and about rows that repeat another."""

import html
import io

import openpyxl
from starlette.testclient import TestClient

from tests.support.console import MakeToken, Person
from tests.support.workbooks import xlsx
from tests.world import World

HEADER = ["Email", "Series"]


def send(person: Person, rows: list[list[str]]) -> str:
    """The page that a file leads to."""
    answer = person.client.post(
        "/console/withdraw/file",
        data={"csrf": person.csrf, "reason": "not_required"},
        files={"file": ("leavers.xlsx", xlsx([HEADER, *rows]))},
    )
    assert answer.status_code == 200, answer.text
    return html.unescape(answer.text)


def test_faults_and_repeated_rows_are_shown_in_the_words_of_the_file_and_the_values_are_not_kept(
    client: TestClient, token: MakeToken, world: World
) -> None:
    operator = Person(client, token("operator"))
    for name in ("anna", "ben"):
        world.enrolment(name)
    world.run("UPDATE lms.learners SET email = external_id || '@example.org'")
    world.run("UPDATE lms.enrolments SET status = 'mastered' WHERE id = (SELECT max(id) FROM lms.enrolments)")
    code = world.one("SELECT min(code) FROM lms.series")
    world.run("UPDATE lms.enrolments SET series_id = (SELECT id FROM lms.series WHERE code = :c)", c=code)
    rows = [
        ["anna@example.org", code],
        ["gone@example.org", code],
        ["anna@example.org", code],
        ["ben@example.org", code],
    ]
    page = send(operator, [*rows, ["", code]])
    assert "Line 3: Email “gone@example.org”: no learner here has this id or email address." in page
    assert "Line 6: Email: is missing" in page
    assert "line 4 repeats line 2." in page
    assert "Withdraw 1 of 2 enrolments</button>" in page, "the other has ended"

    link = page.split('" download')[0].rsplit('href="', 1)[1]
    sheet = openpyxl.load_workbook(io.BytesIO(operator.client.get(link).content)).worksheets[0]
    assert [[cell.value for cell in row] for row in sheet.iter_rows()] == [
        [*HEADER, "problem"],
        ["gone@example.org", code, "Line 3: Email: no learner here has this id or email address."],
        [None, code, "Line 6: Email: is missing: give the learner's id or the email address."],
    ]
    assert "gone@example.org" not in str(world.run("SELECT * FROM withdrawals.audit"))
    assert world.one("SELECT count(*) FROM withdrawals.jobs") == 0


def test_the_way_to_a_file_stands_in_the_menu_for_who_may_send_one(client: TestClient, token: MakeToken) -> None:
    way = '<a href="/console/withdraw">'
    assert way in Person(client, token("operator")).get("/console")
    assert way not in Person(client, token("viewer")).get("/console")
