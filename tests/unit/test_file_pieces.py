"""Ids that are read in pieces of many rows are those that are read row by row, and so are the faults."""

import hashlib
import io
import struct
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from schemas.answers import FileFault
from worker.errors import InvalidInputError
from worker.jobs.files import pieces, rows
from worker.jobs.files.faults import Faults
from worker.ledger import freeze

CELLS = ["1", "22", "333", "007", " 4 ", '"5"', "0", "000", "-1", "x", "", " ", "9" * 18, "9" * 19, "1" * 25, "1_0",
         '"6', '"7\n8"', '"9"9', '1"0', "1\0", "1\x0b", "\N{BYTE ORDER MARK}1", "\N{ARABIC-INDIC DIGIT ONE}",
         "\N{SUPERSCRIPT TWO}"]  # fmt: skip
"""What may stand in a cell: an id, what looks like one, and what ends a row or the reading."""


def row_by_row(content: bytes, left_out: list[int]) -> tuple[Any, ...]:
    faults, found, count = Faults(), list[tuple[int, int | None]](), 0
    try:
        with rows.opened(io.BytesIO(content), left_out) as table:
            for line, _, asked in table.read_all():
                count += line not in left_out
                if line in left_out:
                    continue
                if isinstance(asked, FileFault):
                    faults.add(asked)
                else:
                    found.append((line, asked.enrolment_id))
    except InvalidInputError as error:
        return str(error), found, faults.count
    return found, faults.count, faults.first, count


def in_pieces(content: bytes, left_out: list[int], cut: int) -> tuple[Any, ...]:
    faults, found = Faults(), list[tuple[int, int]]()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pieces, "_CUT", cut)
        patch.setattr(rows, "_SET", 2)
        try:
            with rows.opened(io.BytesIO(content), left_out) as table:
                read = table.rows(faults)
                for lines, ids in read.ids():
                    found += zip(lines, ids, strict=True)
        except InvalidInputError as error:
            return str(error), found, faults.count
    return found, faults.count, faults.first, read.count


def assert_same(content: bytes, left_out: list[int], cut: int) -> None:
    expected, found = row_by_row(content, left_out), in_pieces(content, left_out, cut)
    if isinstance(expected[0], str):  # whoever raises has not said all rows before
        assert found[0] == expected[0]
    else:
        assert found == expected


@pytest.mark.parametrize("more", ["", ",name", ',"a, b"', ",\0", ',"Zoë\n"', ',"a\rb"'])
@pytest.mark.parametrize("cut", [3, 7, 30, 1 << 16])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_one_row_that_is_not_plain_is_read_as_it_would_be_by_itself(more: str, cut: int, end: str) -> None:
    before, after = (end.join(f"{n}{more[:1]}" for n in some) for some in (range(100, 115), range(200, 210)))
    header = "enrolment_id" + (",name" if more else "")
    for cell in CELLS:
        for ended in ("\n", end):
            said = f"{header}\n{before}{end}{cell}{more}{ended}{after}"
            assert_same(said.encode(), [], cut)
            assert_same(f"{said}{end}".encode("utf-8-sig"), [4, 18], cut)


@given(
    lines=st.lists(st.tuples(st.sampled_from(CELLS), st.sampled_from(["\n", "\n", "\r\n", "\r"])), max_size=30),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    left_out=st.lists(st.integers(2, 30), max_size=2),
    cut=st.sampled_from([3, 7, 16, 40, 1 << 16]),
)
def test_a_file_says_the_same_in_pieces_of_any_size(
    lines: list[tuple[str, str]], encoding: str, left_out: list[int], cut: int
) -> None:
    content = "enrolment_id\n" + "".join(cell + end for cell, end in lines)
    assert_same(content.encode(encoding), left_out, cut)


def test_plain_rows_are_read_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also around a row that is not plain, with quotes, and in one of several columns."""
    monkeypatch.setattr(pieces, "_CUT", 40)
    told = [f'"{n}",name' if n % 2 else f"{n},name" for n in range(100, 200)]
    told[50] = "x,name"
    faults = Faults()
    with rows.opened(io.BytesIO("\n".join(["enrolment_id,name", *told]).encode())) as table:
        found = list(table.rows(faults).ids())
    assert [one for _, ids in found for one in ids] == [*range(100, 150), *range(151, 200)]
    assert faults.count == 1 and len(found) < 50
    assert sum(isinstance(lines, range) for lines, _ in found) == len(found) - 1


@given(st.lists(st.tuples(st.integers(1, 2**31 - 1), st.integers(1, 2**63 - 1)), min_size=1))
def test_rows_for_copy_are_what_postgresql_documents(some: list[tuple[int, int]]) -> None:
    lines, ids = zip(*some, strict=True)
    assert freeze._as_binary(lines, ids) == b"".join(struct.pack("!hiiiq", 2, 4, a, 8, b) for a, b in some)


@given(st.lists(st.lists(st.integers(1, 30), min_size=1, max_size=4).map(sorted), min_size=1, max_size=4))
@example([[1, 2], [2, 9]])
@example([[1, 3], [2]])
@example([[2, 1]])
@example([[2, 1], [3]])
def test_ids_that_come_in_order_are_hashed_as_they_come(some: list[list[int]]) -> None:
    rising = freeze._Rising()
    for ids in some:
        rising.add(ids)
    given_ids = [one for ids in some for one in ids]
    if given_ids == sorted(given_ids):
        assert rising.count == len(given_ids)
        assert rising.digest == hashlib.sha256(",".join(map(str, given_ids)).encode()).hexdigest()
    else:
        assert rising.count == 0
