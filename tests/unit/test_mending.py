"""Rows of a file that are corrected in place, and the Series that may have been meant."""

import io

import pytest

from worker.jobs.files.mend import mend
from worker.jobs.files.near_misses import Known, find_near


@pytest.mark.parametrize(
    "sent",
    [
        'Learner;Series;Remark\r\nanna;A-1;x\r\nbne;A-1;"two\r\nlines"\r\n\r\ngone;A-1;y\r\nda,ra;B-2;z\r\n',
        'sep=;\r\nLearner;Series;Remark\r\nanna;A-1;x\r\nbne;A-1;"two\r\nlines"\r\ngone;A-1;y\r\nda,ra;B-2;z\r\n',
    ],
)
def test_corrected_rows_keep_their_lines_and_all_else_stays(sent: str) -> None:
    sink = io.BytesIO()
    changes = {5: {"learner": "ben"}, 6: {"learner": "", "series_code": " "}}
    if not sent.startswith("sep"):
        changes = {4: changes[5], 6: changes[6]}
    assert mend(io.BytesIO(sent.encode("cp1252")), changes, sink) == ([6], [min(changes)])
    lines = sink.getvalue().decode().split("\n")
    at = 1 if sent.startswith("sep") else 0
    assert lines[at : at + 2] == ["Learner,Series,Remark", "anna,A-1,x"]
    assert lines[at + 2] == 'ben,A-1,"two\r'
    assert lines[6] == '"da,ra",B-2,z'
    assert "gone" not in sink.getvalue().decode()


def test_a_row_that_comes_back_as_it_was_shown_stays_as_it_was_sent() -> None:
    sent = 'Learner,Series,Remark\n\'=a, b ,x\nanna,"C\n1",y\n,,z\n'
    sink = io.BytesIO()
    shown = {2: {"learner": "=a", "series_code": "b"}, 4: {"learner": "anna", "series_code": "C1"}}
    untouched = {5: {"learner": "", "series_code": ""}}
    assert mend(io.BytesIO(sent.encode()), {**shown, **untouched}, sink) == ([], [])
    assert sink.getvalue().decode() == sent
    assert mend(io.BytesIO(sent.encode()), {**shown, 5: {}}, io.BytesIO()) == ([5], [])


def test_a_code_or_a_title_that_was_mistyped_leads_to_its_series() -> None:
    known = [Known("FS-1", "Fire Safety"), Known("FA-2", "FA-2"), Known("fs-1", "Fire Safety, old")]
    found = find_near(["fire safty", "FA-22", "quite another", "Fs-1"], known)
    assert {given: near.question for given, near in found.items()} == {
        "fire safty": "Did you mean FS-1 (Fire Safety)?",
        "FA-22": "Did you mean FA-2?",
        "Fs-1": "Did you mean FS-1 (Fire Safety)?",
    }
