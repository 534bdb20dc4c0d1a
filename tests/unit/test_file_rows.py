"""Files as people have them: what each row asks for, and every fault by its line."""

import csv
import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.answers import FileFault
from schemas.jobs import MAX_FILE_IDS
from worker.errors import InvalidInputError
from worker.jobs.files import columns, rows, text
from worker.jobs.files.columns import SPELLINGS
from worker.jobs.files.faults import SHOWN, Faults, faulty_rows, guarded, lookup_fault, merge, unguarded
from worker.jobs.files.rows import Asked
from worker.jobs.files.text import Layout


def read(content: str | bytes) -> tuple[list[Asked], Faults]:
    raw = content.encode() if isinstance(content, str) else content
    faults = Faults()
    with rows.opened(io.BytesIO(raw)) as table:
        return list(table.rows(faults).asked()), faults


@contextmanager
def rows_of(content: str) -> Iterator[Iterator[tuple[int, list[str], Asked | FileFault]]]:
    with rows.opened(io.BytesIO(content.encode())) as table:
        yield table.read_all()


def ids(content: str | bytes) -> list[tuple[int, int | None]]:
    found, faults = read(content)
    assert not faults.count, faults
    return [(row.line, row.enrolment_id) for row in found]


def faults_of(content: str | bytes) -> list[str]:
    return [str(fault) for fault in read(content)[1].first]


@pytest.mark.parametrize(
    "content",
    [
        "enrolment_id\n1\n2\n",
        "enrolment_id\r\n1\r\n2\r\n",
        "enrolment_id\r1\r2\r",
        "\ufeffenrolment_id\n1\n2",
        ' Enrolment_ID \n"1"\n 02 \n',
        "name,enrolment_id\nanna,1\nbea,2\n",
        "name;Enrolment ID\nanna, the first;1\nbea;2\n",
        "enrollment-id\tname\n1\tanna\n2\tbea\n",
        "name|ENROLLMENT NUMBER|\nanna|1|\nbea|2|\n",
        "\ufeffenrolment_id;name\n1;Zoë\n2;Bea\n".encode("utf-16-le"),
        "\ufeffenrolment_id;name\n1;Zoë\n2;Bea\n".encode("utf-16-be"),
        "enrolment_id;name\n1;Zoë\n2;Bea\n".encode("utf-16-le"),
        "enrolment_id;name\n1;Zoë\n2;Bea\n".encode("utf-16-be"),
        "enrolment_id;name\n1;Zoë\n2;„Bea“\n".encode("cp1252"),
        "enrolment_id,problem\n1,enrolment_id: 'x' is wrong\n2,\n",
        "user,learner,enrolment_id\nanna,anna,1\nbea,bea,2\n",
        "enrolment,enrolment_id\nactive,1\nactive,2\n",
    ],
)
def test_ids_are_read_however_a_spreadsheet_wrote_them(content: str | bytes) -> None:
    assert ids(content) == [(2, 1), (3, 2)]


@pytest.mark.parametrize("delimiter", [";", "!", "\t", "#", "/"])
def test_a_sep_line_says_the_delimiter(delimiter: str) -> None:
    content = f"sep={delimiter}\nname{delimiter}enrolment_id\nanna, b;{delimiter}1\n"
    if delimiter != ";":
        assert ids(content) == [(3, 1)]
    assert ids(content.replace(", b;", "")) == [(3, 1)]


@pytest.mark.parametrize("first", ['sep="', '"sep=""', "sep=", 'sep="\r'])
def test_a_quote_or_the_end_of_a_line_is_no_delimiter(first: str) -> None:
    with pytest.raises(InvalidInputError):
        read(f"{first}\nenrolment_id\n1\n")


def test_lines_before_the_sep_line_may_be_blank() -> None:
    assert ids("\n  \nsep=!\nname!enrolment_id\nanna!1\n") == [(5, 1)]
    assert ids('"sep=!\nname!enrolment_id\nanna!1\n') == [(3, 1)]


def test_blank_lines_are_passed_over_and_lines_keep_their_numbers() -> None:
    assert ids("\n \nenrolment_id\n\n1\n \n2\n") == [(5, 1), (7, 2)]
    assert ids('name,enrolment_id\n"two\nlines",1\nb,2\n') == [(3, 1), (4, 2)]


def test_every_spelling_of_the_catalogue_is_read_in_any_dress() -> None:
    for column, spellings in SPELLINGS.items():
        for spelling in spellings:
            for dressed in (spelling, spelling.upper(), f" {spelling.replace(' ', '_')} ", spelling.replace(" ", "-")):
                assert columns.meaning(dressed) == column, dressed


def test_a_row_names_its_enrolment_by_learner_and_series() -> None:
    found, faults = read("Employee ID;E-mail;Course code;Learning Pathway\n007 ;Anna@example.org;FIRE;\n;b@c.d;X;Y\n")
    assert not faults.count
    assert [tuple(row) for row in found] == [
        (2, None, "007 ", "Anna@example.org", None, "FIRE", None),
        (3, None, None, "b@c.d", None, "X", "Y"),
    ]
    (by_name,), _ = read("learner,series\n anna ,FIRE\n")
    assert by_name.learner == "anna"
    (by_email,), _ = read("learner,email,series\nAnna Smith,a@b.c,FIRE\n")
    assert by_email.learner is None, "beside an e-mail it is a name"


def test_an_id_decides_and_a_row_without_one_is_looked_up() -> None:
    found, _ = read("enrolment_id,learner_external_id,series_code\n7,anna,FIRE\n,ben,FIRE\n")
    assert [(row.enrolment_id, row.external_id) for row in found] == [(7, None), (None, "ben")]


def test_all_faults_are_found_and_the_other_rows_are_read() -> None:
    content = 'enrolment_id,name\n1,a\nx,b\n0,c\n4\n"5"x,e\n6,f\n,g\n99999999999999999999,h\n=1+1,i\n10,j\n'
    found, faults = read(content)
    assert [row.enrolment_id for row in found] == [1, 6, 10]
    assert faults.count == 7
    assert [str(fault) for fault in faults.first] == [
        "Line 3: enrolment_id: 'x' is not a positive whole number",
        "Line 4: enrolment_id: '0' is not a positive whole number",
        "Line 5: the line has 1 column, the header has 2.",
        "Line 6: not valid CSV (',' expected after '\"').",
        "Line 8: enrolment_id: '' is not a positive whole number",
        "Line 9: enrolment_id: '99999999999999999999' is not a positive whole number",
        "Line 10: enrolment_id: '=1+1' is not a positive whole number",
    ]


def test_a_row_that_lacks_its_learner_or_series_is_a_fault_that_names_nobody() -> None:
    long = "anna" * 100
    said = faults_of(f"learner_external_id,email,series_code\n,,FIRE\nanna,a@b.c,\n{long},,FIRE\n,{long}@b.c,FIRE\n")
    assert [text.split(":")[1].strip() for text in said] == ["learner", "series_code", "learner_external_id", "email"]
    assert "anna" not in "".join(said)


def test_faults_are_counted_exactly_and_listed_up_to_a_limit() -> None:
    _, faults = read("enrolment_id\n" + "x\n" * 5000)
    assert (faults.count, len(faults.first)) == (5000, SHOWN)


@pytest.mark.parametrize("end", [4, 60_000])
def test_a_quote_that_does_not_end_swallows_no_other_row(end: int) -> None:
    """Else these rows would be neither taken nor given back."""
    content = 'enrolment_id,name\n1,a\n2,"b\n' + "".join(f"{n},c\n" for n in range(3, end)) + '9,"d\n'
    found, faults = read(content)
    assert [row.enrolment_id for row in found] == [1, *range(3, end)]
    assert [fault.line for fault in faults.first] == [3, end + 1]
    with rows_of(content) as parsed:
        assert [cells for _, cells, one in parsed if isinstance(one, FileFault)] == [['2,"b'], ['9,"d']]


def test_a_file_of_open_quotes_is_not_read_once_for_each_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each line leaves a quote open: without a limit the reader runs to the end of the file from every one of them."""
    lines, read_again = 5_000, 0

    class Counted(text._Lines):
        def __next__(self) -> str:
            nonlocal read_again
            read_again += 1
            return super().__next__()

    monkeypatch.setattr(text, "_Lines", Counted)
    found, faults = read(b"enrolment_id,x\n" + b'a","c\n' * lines + b"7,x\n")
    assert faults.count == lines
    assert str(faults.first[0]) == "Line 2: not valid CSV (a quote does not end)."
    assert [(row.line, row.enrolment_id) for row in found] == [(lines + 2, 7)]
    assert read_again < 30 * lines, f"{read_again:,} lines were read of {lines:,}"


def test_a_row_spans_no_more_lines_than_a_cell_can_have(subtests: pytest.Subtests) -> None:
    for spanned, good in ((text.MOST_LINES, [1, 2]), (text.MOST_LINES + 1, [2])):
        with subtests.test(str(spanned)):
            note = '"' + "\n" * (spanned - 1) + '"'
            assert [row.enrolment_id for row in read(f"enrolment_id,note\n1,{note}\n2,b\n")[0]] == good


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "empty"),
        ("\n \n", "empty"),
        ("id\n1\n", "Line 1: the header has no column `enrolment_id`. Found: id."),
        ("learner;email\na;b\n", "Found: learner,email"),
        ("series_code,name\nFIRE,anna\n", "`learner_external_id` or `email`"),
        ("enrolment_id,reason\n1,not_required\n", "one reason"),
        ("enrolment_id;Reason\n1;not_required\n", "one reason"),
        ("enrolment_id,enrolment_id\n1,1\n", "Line 1"),
        ("email,e-mail,series\na,b,c\n", "`email` twice: email, e-mail"),
        ("enrolment_id\n1\0\n", "Line 2: has a NUL"),
        ("enrolment_id\n" + "1" * 1_000_001, "Line 2: longer than"),
        ("enrolment_id" + ";" * 20_000 + "\n1\n", "20,001 columns"),
        (b"enrolment_id\n\x81\n", "UTF-8, UTF-16 or Windows-1252"),
        (b"\xff\xfee\0n\0", "no column"),
        ("enrolment_id\n".encode("utf-16")[:-1], "UTF-8, UTF-16"),
        (b'"enrolment_id\n1\n', "Line 1: not valid CSV"),
    ],
)
def test_what_is_no_table_of_enrolments_is_refused_whole(content: str | bytes, said: str) -> None:
    with pytest.raises(InvalidInputError) as refused:
        read(content)
    assert said in str(refused.value)


@pytest.mark.parametrize("most", [1_000, pytest.param(1_000_000, marks=pytest.mark.long)])
def test_a_file_takes_a_million_rows(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    assert MAX_FILE_IDS == 1_000_000
    monkeypatch.setattr("worker.jobs.files.rows.MAX_FILE_IDS", most)
    assert len(read("enrolment_id\n" + "1\n" * most)[0]) == most
    with pytest.raises(InvalidInputError, match=f"up to {most:,} rows"):
        read("enrolment_id\n" + "1\n" * (most + 1))


cells = st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=12)


@given(
    table=st.lists(st.tuples(st.integers(1, 2**63 - 1), cells), min_size=1, max_size=20),
    delimiter=st.sampled_from(",;\t|"),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    sep=st.booleans(),
    end=st.sampled_from(["\n", "\r\n"]),
)
def test_whatever_stands_beside_the_ids_they_are_read(
    table: list[tuple[int, str]], delimiter: str, encoding: str, sep: bool, end: str
) -> None:
    text = io.StringIO(newline="")
    if end == "\n":  # before which Python's writer leaves a lone "\r" without quotes
        table = [(row_id, remark.replace("\r", "")) for row_id, remark in table]
    writer = csv.writer(text, delimiter=delimiter, lineterminator=end)
    writer.writerows([("Enrolment ID", "remark"), *table])
    content = (f"sep={delimiter}{end}" if sep else "") + text.getvalue()
    found, faults = read(content.encode(encoding))
    assert not faults.count
    assert [row.enrolment_id for row in found] == [row_id for row_id, _ in table]


@given(value=cells)
def test_a_cell_survives_the_file_of_faults(value: str) -> None:
    """A spreadsheet evaluates nothing of it, and reading it again gives the same cell."""
    assert unguarded(guarded(value)) == value or value.startswith("'")
    assert not columns.is_formula(guarded(value))


@given(
    good=st.lists(st.booleans(), min_size=1, max_size=30),
    delimiter=st.sampled_from(",;\t"),
    data=st.data(),
)
def test_mended_faults_and_good_rows_together_are_the_whole_file(good: list[bool], delimiter: str, data: Any) -> None:
    """Nothing is lost and nothing is doubled between the job and the file of faults."""
    remarks = data.draw(st.lists(cells, min_size=len(good), max_size=len(good)))
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=delimiter)
    writer.writerow(["enrolment_id", "remark"])
    writer.writerows(
        (n if is_good else f"no{n}", remark) for n, (is_good, remark) in enumerate(zip(good, remarks, strict=True), 1)
    )
    found, faults = read(text.getvalue())
    assert faults.count == good.count(False)
    sink = io.BytesIO()
    with rows.opened(io.BytesIO(text.getvalue().encode())) as table:
        parsed = ((line, cells, one if isinstance(one, FileFault) else None) for line, cells, one in table.read_all())
        with faulty_rows("csv", sink, table.columns.header, table.layout) as writing:
            for row, fault in merge(parsed, iter(())):
                writing.add(row, fault.text)
    mended = sink.getvalue().decode("utf-8-sig").replace("no", "")
    again, left = read(mended)
    assert not left.count
    assert sorted(row.enrolment_id or 0 for row in [*found, *again]) == list(range(1, len(good) + 1))


def test_faults_of_reading_and_of_looking_up_come_out_by_line() -> None:
    bad = FileFault(line=3, column=None, message="bad")
    parsed = [(2, ["a"], None), (3, ["b"], bad), (4, ["c"], None), (5, ["d"], None)]
    found = list(merge(iter(parsed), iter([lookup_fault(2, "unknown_learner"), lookup_fault(5, "unknown_series")])))
    assert [(row[0], fault) for row, fault in found] == [
        ("a", lookup_fault(2, "unknown_learner")), ("b", bad), ("d", lookup_fault(5, "unknown_series"))
    ]  # fmt: skip


def test_the_file_of_faults_has_the_columns_of_the_file_and_one_answer() -> None:
    sink = io.BytesIO()
    header = ["enrolment_id", "Problem", "name"]
    with faulty_rows("csv", sink, header, Layout("cp1252", ";", True)) as writing:
        writing.add(["x", "an old answer", "=Zoë"], "enrolment_id: 'x' is wrong")
        writing.add(["y"], "the line has 1 column")
    assert (
        sink.getvalue()
        == (
            "\ufeffsep=;\r\nenrolment_id;name;problem\r\n"
            "x;'=Zoë;enrolment_id: 'x' is wrong\r\ny;;the line has 1 column\r\n"
        ).encode()
    )
