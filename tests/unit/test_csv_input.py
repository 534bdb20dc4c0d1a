"""Files of ids: what is read, and how a wrong one is named by its line."""

import io

import pytest

from worker.errors import InvalidInputError
from worker.jobs.csv_input import uploaded_ids


def read(content: str | bytes) -> list[tuple[int, int]]:
    raw = content.encode() if isinstance(content, str) else content
    with uploaded_ids(io.BytesIO(raw)) as rows:
        return list(rows)


@pytest.mark.parametrize(
    "content",
    [
        "enrolment_id\n1\n2\n",
        "enrolment_id\r\n1\r\n2\r\n",
        "\ufeffenrolment_id\n1\n2",
        ' Enrolment_ID \n"1"\n 02 \n',
        "name,enrolment_id\nanna,1\nbea,2\n",
    ],
)
def test_ids_are_read_however_a_spreadsheet_wrote_them(content: str) -> None:
    assert read(content) == [(2, 1), (3, 2)]


def test_empty_lines_are_passed_over_and_lines_keep_their_numbers() -> None:
    assert read("enrolment_id\n\n1\n,\n2\n".replace(",", " ")) == [(3, 1), (5, 2)]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "empty"),
        ("id\n1\n", "Line 1"),
        ("enrolment_id,reason\n1,not_required\n", "one reason"),
        ("enrolment_id,enrolment_id\n1,1\n", "Line 1"),
        ("enrolment_id\n1\nx\n", "Line 3"),
        ("enrolment_id\n0\n", "Line 2"),
        ("enrolment_id\n1,2\n", "Line 2"),
        ('enrolment_id\n"1\n', "Line 2"),
        ("enrolment_id\n1\0\n", "Line 2"),
        ("enrolment_id\n" + "1" * 1_000_001, "Line 2"),
        (b"enrolment_id\n\xff\n", "UTF-8"),
    ],
)
def test_a_wrong_file_is_refused_with_the_line_that_is_wrong(content: str | bytes, said: str) -> None:
    with pytest.raises(InvalidInputError, match=said):
        read(content)
