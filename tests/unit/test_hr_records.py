"""What the records of HR systems say about whether, and when, somebody has left. Nobody leaves on doubt."""

from datetime import date
from typing import Any

import pytest

from worker.people.hr_records import finch, hibob, personio
from worker.people.hr_records.record import Leaves, NoAnswerError, Record, Stays, UnclearRecordError

TODAY = date(2026, 3, 1)
JUNE, FEBRUARY = Leaves(date(2026, 6, 30)), Leaves(date(2026, 2, 28))
Expected = Record | type[Exception]


def check(read: Any, expected: Expected) -> None:
    if isinstance(expected, type):
        with pytest.raises(expected):
            read()
    else:
        assert read() == expected


HIBOB: list[tuple[str, str | None, Expected]] = [
    ("garden leave", "2026-06-30", JUNE), ("Garden Leave", "2026-02-28", FEBRUARY),
    ("terminated", "2026-02-28", FEBRUARY), ("terminated", "2026-02-28T00:00:00", FEBRUARY),
    ("employed", "2026-06-30", JUNE), ("employed", "2026-03-01", Leaves(TODAY)), ("employed", "", Stays()),
    ("hired", None, Stays()), ("parental leave", None, Stays()), ("leave", None, Stays()), ("", None, Stays()),
    ("terminated", None, UnclearRecordError), ("employed", "2026-02-28", UnclearRecordError),
    ("hired", "2026-02-28", UnclearRecordError), ("terminated", "28/02/2026", UnclearRecordError),
    ("parental leave", "2026-02-28", UnclearRecordError), ("", "2026-02-28", UnclearRecordError),
    ("parental leave", "2026-06-30", JUNE), ("", "2026-06-30", JUNE),
]  # fmt: skip


@pytest.mark.parametrize(("status", "last_day", "expected"), HIBOB)
def test_the_termination_date_of_hibob_is_the_last_day(status: str, last_day: Any, expected: Expected) -> None:
    nested = {"id": "7", "internal": {"lifecycleStatus": status, "terminationDate": last_day}}
    flat = {"/root/id": {"value": "7"}, "/internal/lifecycleStatus": {"value": status}}
    flat["/internal/terminationDate"] = {"value": last_day}
    for record in (nested, flat):
        check(lambda record=record: hibob.read_record({"employees": [record]}, "7", TODAY), expected)
        check(lambda record=record: hibob.read_record({"employees": [record]}, "8", TODAY), UnclearRecordError)


def employment(status: str, end: Any = None, terminated: Any = None) -> dict[str, Any]:
    notice = {"termination_date": terminated, "last_working_day": "2026-01-15", "terminated_at": "2026-01-01"}
    return {"status": status, "employment_end_date": end, "termination": notice}


PERSONIO: list[tuple[list[Any], Expected]] = [
    ([employment("ACTIVE")], Stays()), ([employment("LEAVE")], Stays()),
    ([employment("ACTIVE", "2026-06-30")], JUNE), ([employment("ACTIVE", None, "2026-06-30")], JUNE),
    ([employment("ACTIVE", "2026-05-31", "2026-06-30")], JUNE), ([employment("INACTIVE", "2026-02-28")], FEBRUARY),
    ([employment("INACTIVE", "2026-02-28"), employment("ACTIVE")], Stays()),
    ([employment("INACTIVE", "2026-02-28"), employment("ACTIVE", "2026-06-30")], JUNE),
    ([employment("INACTIVE")], UnclearRecordError), ([employment("ACTIVE", None, "2022-12-12")], UnclearRecordError),
    ([], UnclearRecordError), ([employment("ACTIVE", 7)], UnclearRecordError), ([None], UnclearRecordError),
]  # fmt: skip


@pytest.mark.parametrize(("employments", "expected"), PERSONIO)
def test_who_has_left_personio_has_no_employment_without_an_end(employments: list[Any], expected: Expected) -> None:
    check(lambda: personio.read_record({"_data": employments}, TODAY), expected)
    more = {"_data": employments, "_meta": {"links": {"next": {"href": "https://api.personio.de/…"}}}}
    check(lambda: personio.read_record(more, TODAY), UnclearRecordError)


FINCH: list[tuple[dict[str, Any], Expected]] = [
    ({"is_active": True, "employment_status": "active"}, Stays()),
    ({"is_active": False, "employment_status": "leave"}, Stays()),
    ({"is_active": True, "employment_status": "active", "end_date": "2026-06-30"}, JUNE),
    ({"is_active": False, "employment_status": "terminated", "end_date": "2026-02-28"}, FEBRUARY),
    ({"is_active": False, "employment_status": "retired"}, Leaves(None)),
    (
        {
            "is_active": True,
            "employment_status": "active",
            "end_date": "2026-02-28",
            "latest_rehire_date": "2026-03-01",
        },
        Stays(),
    ),
    ({"is_active": True, "employment_status": "terminated"}, UnclearRecordError),
    ({"is_active": False, "employment_status": None}, UnclearRecordError),
    ({"is_active": False, "employment_status": "prehire"}, Stays()),
    ({"is_active": False, "employment_status": "active"}, UnclearRecordError),
    ({"is_active": True, "employment_status": "active", "end_date": "2026-02-28"}, UnclearRecordError),
]


@pytest.mark.parametrize(("body", "expected"), FINCH)
def test_the_status_of_finch_says_who_has_left(body: dict[str, Any], expected: Expected) -> None:
    def answer(code: Any = 200) -> Any:
        return {"responses": [{"individual_id": "7", "code": code, "body": body}]}

    check(lambda: finch.read_record(answer(), "7", TODAY), expected)
    check(lambda: finch.read_record(answer(202), "7", TODAY), NoAnswerError)
    check(lambda: finch.read_record(answer(), "8", TODAY), UnclearRecordError)
