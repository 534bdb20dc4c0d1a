"""The page that withdraws from a file: what it says about rows with faults, and about rows that repeat another."""

import html
import io
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import httpx2
import openpyxl
import pytest
from playwright.sync_api import expect
from starlette.testclient import TestClient

from tests.support.console import MakeToken, Person, SignIn
from tests.support.workbooks import xlsx
from tests.world import World

HEADER = ["Email", "Series"]
LEARNER = ["learner", "series_code"]


def send(person: Person, rows: list[list[str]], *, first: str = "Email") -> str:
    """The page that a file leads to."""
    return html.unescape(read_plan(person, file=("leavers.xlsx", xlsx([[first, "Series"], *rows]))).text)


def read_plan(person: Person, *, file: tuple[str, bytes] | None = None, **fields: Any) -> httpx2.Response:
    """The plan to which a file, or the corrections of one, lead. It has an address of its own."""
    sent = {"csrf": person.csrf, "reason": "not_required", **fields}
    answer = person.client.post(
        "/console/withdraw/file", data=sent, files={"file": file} if file else None, follow_redirects=True
    )
    assert answer.status_code == 200, answer.text
    assert [one.status_code for one in answer.history] == [303]
    return answer


def correct(person: Person, rows: list[list[str]], **corrections: Any) -> str:
    """The page after a file of learners and Series was sent and its rows with a fault were corrected."""
    page = read_plan(person, file=("leavers.xlsx", xlsx([["Learner", "Series"], *rows]))).text
    upload = re.findall(r'name="upload" value="([^"]*)"', page)[0]
    return html.unescape(read_plan(person, upload=upload, **corrections).text)


def confirm(
    person: Person, page: str, *, note: str = "", typed: Mapping[int, str] | None = None, ticked: Sequence[int] = ()
) -> httpx2.Response:
    """Confirm the plan of a page, as a browser sends its form. `typed`: into the first cell of a line."""
    form = next(part for part in page.split("<form") if 'name="plan_hash"' in part).split("</form>")[0]
    fields = defaultdict[str, list[str]](list)
    for name, value in re.findall(r'<input (?:type="hidden" )?name="(\w+)" value="([^"]*)"', form):
        fields[name].append(html.unescape(value))
    for line, said in (typed or {}).items():
        fields["cell"][fields["line"].index(str(line))] = said
    sent = {**fields, "note": note, "act": "withdraw", "leave_out": [str(line) for line in ticked]}
    return person.client.post("/console/withdraw/file", data=sent, follow_redirects=False)


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
    page = send(operator, [*rows, ["", code.lower()], ["ben@example.org", f"{code}0"]])
    said = re.findall(r'id="fault-(\d+)">([^<]*)<', page)
    assert said == [
        ("3", "Email: no learner here has this id or email address."),
        ("6", "Email: is missing: give the learner's id or the email address."),
        ("7", f"Series: this organisation has no Series with this code. Did you mean {code}?"),
    ]
    assert f'name="cell" value="{code}0"' in page
    assert "line 4 repeats line 2." in page
    assert "Withdraw 1 of 2 enrolments</button>" in page, "the other has ended"

    link = re.findall('href="([^"]*/faults)" download', page)[0]
    sheet = openpyxl.load_workbook(io.BytesIO(operator.client.get(link).content)).worksheets[0]
    assert [[cell.value for cell in row] for row in sheet.iter_rows()] == [
        [*HEADER, "problem"],
        ["gone@example.org", code, "Line 3: Email: no learner here has this id or email address."],
        [None, code.lower(), "Line 6: Email: is missing: give the learner's id or the email address."],
        ["ben@example.org", f"{code}0", f"Line 7: Series: {said[2][1].removeprefix('Series: ')}"],
    ]
    assert "gone@example.org" not in str(world.run("SELECT * FROM withdrawals.audit"))
    assert world.one("SELECT count(*) FROM withdrawals.jobs") == 0


def test_the_way_to_a_file_stands_in_the_menu_for_who_may_send_one(client: TestClient, token: MakeToken) -> None:
    way = '<a href="/console/withdraw">'
    assert way in Person(client, token("operator")).get("/console")
    assert way not in Person(client, token("viewer")).get("/console")


def test_rows_with_a_fault_are_corrected_on_the_page_and_an_emptied_one_is_left_out(
    client: TestClient, token: MakeToken, world: World
) -> None:
    """A Series code in other capital letters is no fault."""
    operator = Person(client, token("operator"))
    anna, ben = world.enrolment("anna"), world.enrolment("ben")
    world.run("UPDATE lms.series SET code = 'Fire-' || id")
    codes = dict(world.run("SELECT e.id, s.code FROM lms.enrolments e JOIN lms.series s ON s.id = e.series_id"))
    rows = [["anna", codes[anna].upper()], ["bne", codes[ben]], ["gone", codes[ben]], [], ["", codes[ben]]]
    answer = read_plan(operator, file=("leavers.xlsx", xlsx([["Learner", "Series"], *rows])))
    assert "3 of 4 rows have a fault" in answer.text
    form = next(part for part in answer.text.split("<form") if 'name="line"' in part)
    fields = [(name, html.unescape(value)) for name, value in re.findall(r'name="(\w+)" value="([^"]*)"', form)]
    lines = [int(value) for name, value in fields if name == "line"]
    assert sorted(set(lines)) == [3, 4, 6]
    mended = {3: ["ben", codes[ben]], 4: ["", ""], 6: ["", codes[ben]]}
    cells = [cell for line in dict.fromkeys(lines) for cell in mended[line]]
    sent = {"upload": dict(fields)["upload"], "act": "plan"}
    columns = [value for name, value in fields if name == "column"]
    page = read_plan(operator, **sent, line=lines, column=columns, cell=cells)
    assert "1 of 3 rows has a fault" in page.text
    assert re.findall(r'id="fault-(\d+)"', page.text) == ["6"], "rows keep their lines"
    assert "Withdraw 2 enrolments</button>" in page.text
    assert f'value="{sent["upload"]}"' not in page.text, "the corrected file is another one"


def test_a_plan_has_an_address_that_shows_it_again_to_whoever_sent_the_file_and_to_nobody_else(
    client: TestClient, token: MakeToken, world: World
) -> None:
    operator = Person(client, token("operator"))
    anna, ben, codes = two_leavers(world)
    shown = read_plan(operator, file=("leavers.xlsx", xlsx([LEARNER, ["anna", codes[anna]], ["bne", codes[ben]]])))
    upload = re.findall(r'name="upload" value="([^"]*)"', shown.text)[0]
    mended = read_plan(operator, upload=upload, line=[3, 3], column=LEARNER, cell=["ben", codes[ben]], note="Anna left")
    address = str(mended.url).removeprefix("http://testserver")
    assert "Anna" not in address, "a note may name people"
    assert "reason=not_required" in address
    again = html.unescape(operator.get(address))
    assert "Line 3 corrected." in again
    assert ">Anna left</textarea>" in again
    assert "Withdraw 2 enrolments</button>" in again
    other = address.replace(re.findall("file/([^/]+)/", address)[0], upload)
    for without in (address.split("&entered")[0], address[:-5], other):
        page = html.unescape(operator.get(without))
        assert "What would happen now" in page
        assert "Anna left" not in page, "what was sealed for another file, or is not whole, is not shown"
    operator.get(address.replace("reason=not_required", "reason="), 422)
    Person(client, token("operator")).get(address, 404)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "The file is empty. It needs a header and at least one row."),
        (b"who,what\nanna,fire\n", "column"),
    ],
)
def test_text_that_is_no_file_of_enrolments_is_refused_at_once_and_not_kept(
    client: TestClient, token: MakeToken, world: World, content: bytes, why: str
) -> None:
    operator = Person(client, token("operator"))
    form = {"csrf": operator.csrf, "reason": "not_required"}
    answer = client.post("/console/withdraw/file", data=form, files={"file": ("a.csv", content)})
    assert answer.status_code == 422
    assert why in answer.text
    assert world.one("SELECT count(*) FROM withdrawals.uploads") == 0


@pytest.mark.parametrize("js", [True, False])
def test_the_way_back_to_a_files_plan_asks_for_nothing_to_be_sent_again(
    sign_in: SignIn, world: World, js: bool
) -> None:
    anna, ben, codes = two_leavers(world)
    sent = xlsx([["Learner", "Series"], ["anna", codes[anna]], ["bne", codes[ben]], ["gone", codes[ben]]])
    page = sign_in("operator", js=js, at="/console/withdraw")
    page.get_by_label("File").set_input_files({"name": "a.xlsx", "mimeType": "", "buffer": sent})
    page.get_by_label("Reason for all").select_option("not_required")
    page.get_by_role("button", name="Show the plan").click()
    page.get_by_label("Note").fill("they left")
    page.get_by_label("Line 3: Learner").fill("ben")
    page.get_by_label("Leave out line 4").check()
    page.get_by_role("link", name="Jobs").click()
    page.go_back()
    expect(page.get_by_label("Note")).to_have_value("they left")
    expect(page.get_by_label("Leave out line 4")).to_be_checked()
    if not js:
        page.get_by_label("Line 3: Learner").fill("ben")
    expect(page.get_by_label("Line 3: Learner")).to_have_value("ben")
    page.get_by_role("button", name="Withdraw 1 enrolment").click()
    expect(page.get_by_text("You have corrected rows since the plan was made.")).to_be_visible()
    expect(page.get_by_label("Note")).to_have_value("they left")
    page.reload()
    expect(page.get_by_text("Line 4 left out. Line 3 corrected.")).to_be_visible()
    expect(page.get_by_label("Note")).to_have_value("they left")
    page.get_by_role("link", name="anna").first.click()
    page.go_back()
    page.get_by_role("button", name="Withdraw 2 enrolments").click()
    page.wait_for_url("**/console/jobs/*")


def test_what_was_typed_is_not_put_into_the_rows_of_another_plan(sign_in: SignIn, world: World) -> None:
    anna, ben, codes = two_leavers(world)
    sent = xlsx([["Learner", "Series"], ["anna", codes[anna]], ["late", codes[ben]], ["bne", codes[ben]]])
    page = sign_in("operator", at="/console/withdraw")
    page.get_by_label("File").set_input_files({"name": "a.xlsx", "mimeType": "", "buffer": sent})
    page.get_by_label("Reason for all").select_option("not_required")
    page.get_by_role("button", name="Show the plan").click()
    page.get_by_label("Line 3: Learner").fill("anna")
    page.get_by_label("Note").click()
    world.run(
        """INSERT INTO lms.enrolments (organisation_id, learner_id, series_id, status)
        SELECT organisation_id, :l, series_id, 'in_progress' FROM lms.enrolments WHERE id = :e""",
        l=world.learner("late"),
        e=ben,
    )
    page.reload()
    expect(page.get_by_label("Line 3: Learner")).to_have_count(0)
    expect(page.get_by_label("Line 4: Learner")).to_have_value("bne")


def two_leavers(world: World) -> tuple[int, int, dict[int, str]]:
    """The enrolments of anna and ben, and the code of the Series of each."""
    anna, ben = world.enrolment("anna"), world.enrolment("ben")
    return (
        anna,
        ben,
        dict(world.run("SELECT e.id, s.code FROM lms.enrolments e JOIN lms.series s ON s.id = e.series_id")),
    )


def test_a_plan_that_no_longer_holds_is_shown_anew_with_its_file_corrections_reason_and_note(
    client: TestClient, token: MakeToken, world: World
) -> None:
    operator = Person(client, token("operator"))
    anna, ben, codes = two_leavers(world)
    page = correct(
        operator, [["anna", codes[anna]], ["bne", codes[ben]]], line=[3, 3], column=LEARNER, cell=["ben", codes[ben]]
    )
    assert "Withdraw 2 enrolments</button>" in page
    world.run("UPDATE lms.enrolments SET status = 'mastered' WHERE id = :id", id=anna)
    again = html.unescape(operator.get(confirm(operator, page, note="they left").headers["location"]))
    assert "The enrolments have changed since the plan was made" in again
    assert "Nothing was withdrawn. Below is the plan as it is now." in again
    assert "Withdraw 1 of 2 enrolments</button>" in again
    assert "Reason: Enrolment no longer required" in again
    assert ">they left</textarea>" in again
    assert world.one("SELECT count(*) FROM withdrawals.jobs") == 0
    assert confirm(operator, again, note="they left").status_code == 303
    assert world.run("SELECT accepted, note FROM withdrawals.jobs") == [(2, "they left")]


def test_a_row_is_left_out_by_its_box_and_the_plan_says_what_is_not_as_it_was_sent(
    client: TestClient, token: MakeToken, world: World
) -> None:
    operator = Person(client, token("operator"))
    anna, ben, codes = two_leavers(world)
    rows = [["anna", codes[anna]], ["bne", codes[ben]], ["gone", codes[ben]], ["lost", codes[ben]]]
    cells = ["ben", codes[ben], "gone", codes[ben], "lost", codes[ben]]
    page = correct(operator, rows, line=[3, 3, 4, 4, 5, 5], column=LEARNER * 3, cell=cells, leave_out=[4])
    assert "leavers.xlsx: 3 rows" in page
    assert "Line 4 left out. Line 3 corrected." in page
    assert re.findall(r'name="leave_out" value="(\d+)"', page) == ["5"]
    assert "The row with a fault is left out: this job takes the others." in page
    assert "Correct it here, or in your file and send that again below. Or go on without it: the plan is below." in page
    world.run("UPDATE lms.enrolments SET status = 'mastered' WHERE id = :id", id=anna)
    again = html.unescape(operator.get(confirm(operator, page).headers["location"]))
    assert "Line 4 left out. Line 3 corrected." in again, "also in a plan that is shown anew"
    assert "leavers.xlsx: 3 rows" in again


def test_what_was_typed_comes_with_the_confirmation_and_is_planned_before_anything_is_withdrawn(
    client: TestClient, token: MakeToken, world: World
) -> None:
    operator = Person(client, token("operator"))
    anna, ben, codes = two_leavers(world)
    page = correct(operator, [["anna", codes[anna]], ["bne", codes[ben]], ["gone", codes[ben]]])
    answer = confirm(operator, page, note="they left", typed={3: "ben"}, ticked=[4])
    again = html.unescape(operator.get(answer.headers["location"]))
    assert "You have corrected rows since the plan was made. Nothing was withdrawn. This is the plan now." in again
    assert "Line 4 left out. Line 3 corrected." in again
    assert "Reason: Enrolment no longer required" in again
    assert ">they left</textarea>" in again
    assert "Withdraw 2 enrolments</button>" in again
    assert world.one("SELECT count(*) FROM withdrawals.jobs") == 0
    done = confirm(operator, again, note="they left")
    assert re.fullmatch(r"/console/jobs/\d+", done.headers["location"]), "no row is left to mend"
    assert world.run("SELECT accepted, note FROM withdrawals.jobs") == [(2, "they left")]


def test_rows_ticked_with_the_confirmation_are_left_out_on_purpose_and_come_back_no_more(
    client: TestClient, token: MakeToken, world: World
) -> None:
    operator = Person(client, token("operator"))
    anna, ben, codes = two_leavers(world)
    rows = [["anna", codes[anna]], ["bne", codes[ben]], ["", codes[ben]]]
    page = correct(operator, rows)
    some = confirm(operator, page, ticked=[3])
    assert some.status_code == 303
    upload = some.headers["location"].split("?")[0]
    sheet = openpyxl.load_workbook(io.BytesIO(operator.client.get(f"{upload}/faults").content)).worksheets[0]
    assert [row[0].value for row in sheet.iter_rows(min_row=2)] == [None], "only line 4 is given back"
    assert confirm(operator, page, ticked=[3, 4]).headers["location"].startswith("/console/jobs/")
    assert world.run("SELECT accepted FROM withdrawals.jobs") == [(1,)], "the same form makes one job"
    assert confirm(operator, correct(operator, rows), ticked=[3, 4]).headers["location"].startswith("/console/jobs/")
    for job in world.run("SELECT id FROM withdrawals.jobs"):
        assert "left lines 3, 4 of the file out" in operator.get(f"/console/jobs/{job.id}"), "whoever looks later knows"


def test_a_ticked_row_is_left_out_also_when_its_fault_is_gone(
    client: TestClient, token: MakeToken, world: World
) -> None:
    operator = Person(client, token("operator"))
    anna, ben, codes = two_leavers(world)
    page = correct(operator, [["anna", codes[anna]], ["bne", codes[ben]]])
    world.run("UPDATE lms.learners SET external_id = 'bne' WHERE external_id = 'ben'")
    assert "/plan?" in confirm(operator, page).headers["location"], "the plan has a row less"
    assert confirm(operator, page, ticked=[3]).status_code == 303
    assert world.run("SELECT accepted FROM withdrawals.jobs") == [(1,)]


def test_the_page_after_the_confirmation_says_once_what_was_taken_and_which_rows_were_left_out(
    client: TestClient, token: MakeToken, world: World
) -> None:
    operator = Person(client, token("operator"))
    anna, ben, codes = two_leavers(world)
    faulty = [["gone", codes[ben]] for _ in range(21)]
    done = confirm(operator, send(operator, [["anna", codes[anna]], ["", codes[ben]]], first="Learner"))
    way = done.headers["location"]
    assert "missing" not in way, "a fault may quote a cell, so the address has it sealed"
    page = html.unescape(operator.get(way))
    job = world.one("SELECT max(id) FROM withdrawals.jobs")
    assert "1 row was left out</h2>" in page
    assert f'<a href="/console/jobs/{job}">Job {job}</a> has taken 1 enrolment from the other rows.' in page
    assert page.count(f"Job {job}") == 1
    assert "<li>Line 3: Learner: is missing: give the learner's id or the email address.</li>" in page
    assert "It waits for a second person" not in page
    held = "state = 'held', held_because = 'brake', learners = 1, admitted_at = NULL"
    world.run(f"UPDATE withdrawals.jobs SET {held} WHERE id = :id", id=job)
    assert "It waits for a second person. Nothing is withdrawn before it is released." in operator.get(way)

    many = confirm(operator, send(operator, [["ben", codes[ben]], *faulty], first="Learner"))
    other = many.headers["location"]
    page = html.unescape(operator.get(other))
    assert "21 rows were left out</h2>" in page
    assert re.findall(r"<li>Line (\d+): Learner: no learner here", page) == [str(line) for line in range(3, 23)]
    assert "Only the first 20 are shown. The file has all of them." in page
    last = operator.get(f"/console/jobs/{world.one('SELECT max(id) FROM withdrawals.jobs')}")
    assert f"left 21 lines of the file out, among them {', '.join(map(str, range(3, 23)))}" in last
    mixed = f"{way.split('&')[0]}&{other.split('&')[1]}"
    for address in (mixed, way.replace("rows=", "rows=x"), way.split("?")[0]):
        assert "Rows that were left out</h2>" in operator.get(address), "what was not sealed for this file is not shown"


def test_enter_in_a_field_checks_and_the_other_buttons_need_no_field(
    client: TestClient, token: MakeToken, world: World
) -> None:
    """Enter presses the first button of the form. The one that confirms alone needs what is required."""
    operator = Person(client, token("operator"))
    anna, ben, codes = two_leavers(world)
    page = correct(operator, [["ben", codes[ben]], ["anna", f"{codes[anna]}0"]])
    form = next(part for part in page.split("<form") if 'name="plan_hash"' in part).split("</form>")[0]
    buttons = re.findall(r"<button([^>]*)>", form)
    assert 'value="plan"' in buttons[0]
    assert [('value="withdraw"' in one, "formnovalidate" in one) for one in buttons] == [
        *[(False, True)] * (len(buttons) - 1),
        (True, False),
    ]


def test_a_suggested_code_is_taken_by_a_button_and_what_else_was_corrected_stays(
    client: TestClient, token: MakeToken, world: World
) -> None:
    operator = Person(client, token("operator"))
    anna, ben, codes = two_leavers(world)
    wrong = f"{codes[anna]}0"
    rows = [["anna", wrong], ["bne", codes[ben]], ["gone", codes[ben]]]
    cells = ["anna", wrong, "ben", codes[ben], "gone", codes[ben]]
    shown = correct(operator, rows)
    assert re.findall(r'name="take" value="([^"]*)" aria-label="([^"]*)">([^<]*)<', shown) == [
        (f"2 {codes[anna]}", f"Use {codes[anna]} in line 2, and check again", f"Use {codes[anna]}, and check again")
    ]
    sent: dict[str, Any] = {
        "line": [2, 2, 3, 3, 4, 4],
        "column": LEARNER * 3,
        "cell": cells,
        "take": [f"2 {codes[anna]}"],
    }
    page = correct(operator, rows, **sent)
    assert "1 of 3 rows has a fault" in page
    assert "Lines 2, 3 corrected." in page
    assert "Withdraw 2 enrolments</button>" in page
    ticked = correct(operator, rows, **sent, leave_out=[2, 4])
    assert "Line 4 left out. Lines 2, 3 corrected." in ticked, "a suggestion that is taken counts, not the tick"
    upload = re.findall(r'name="upload" value="([^"]*)"', shown)[0]
    for given in ("2", "2 ", f"x {codes[anna]}", f"1234567890 {codes[anna]}"):
        form = {"csrf": operator.csrf, "reason": "not_required", "upload": upload, "take": given}
        assert client.post("/console/withdraw/file", data=form).status_code == 422


def test_a_suggestion_is_taken_without_a_script_and_enter_in_a_field_takes_none(sign_in: SignIn, world: World) -> None:
    anna, ben, codes = two_leavers(world)
    sent = xlsx([["Learner", "Series"], ["anna", f"{codes[anna]}0"], ["bne", codes[ben]]])
    page = sign_in("operator", js=False, at="/console/withdraw")
    page.get_by_label("File").set_input_files({"name": "a.xlsx", "mimeType": "", "buffer": sent})
    page.get_by_label("Reason for all").select_option("not_required")
    page.get_by_role("button", name="Show the plan").click()
    page.get_by_label("Line 2: Learner").press("Enter")
    take = page.get_by_role("button", name=f"Use {codes[anna]} in line 2")
    expect(page.get_by_text("2 of 2 rows have a fault")).to_be_visible()
    page.get_by_label("Line 3: Learner").fill("ben")
    take.click()
    expect(page.get_by_text("Lines 2, 3 corrected.")).to_be_visible()
    expect(page.get_by_role("button", name="Withdraw 2 enrolments")).to_be_visible()


def test_a_template_has_the_header_and_the_codes_of_the_series_and_no_example(
    client: TestClient, token: MakeToken, world: World
) -> None:
    operator = Person(client, token("operator"))
    world.enrolment("anna")
    code, title = world.run("SELECT code, title FROM lms.series")[0]
    page = operator.get("/console/withdraw")
    links = re.findall(r'href="([^"]*/template\.\w+)" download', page)
    assert links == ["/console/withdraw/template.xlsx", "/console/withdraw/template.csv"]
    book = openpyxl.load_workbook(io.BytesIO(operator.client.get(links[0]).content))
    assert [[[cell.value for cell in row] for row in sheet.iter_rows()] for sheet in book.worksheets] == [
        [["Learner", "Series"]],
        [["Code", "Title"], [code, title]],
    ]
    assert operator.client.get(links[1]).content.decode("utf-8-sig") == "Learner,Series\r\n"
    answer = operator.client.post(
        "/console/withdraw/file",
        data={"csrf": operator.csrf, "reason": "not_required"},
        files={"file": ("empty.xlsx", operator.client.get(links[0]).content)},
        follow_redirects=True,
    )
    assert (answer.status_code, "the file has no rows" in answer.text) == (422, True)
