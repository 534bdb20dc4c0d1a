"""The Open University Learning Analytics Dataset as enrolments and as requests.

Each module presentation is a Series, each student a learner, each row an enrolment; module GGG belongs to a
Learning Pathway. A row that ended as Withdrawn starts active, in the status that its day of unregistration
suggests. Source and licence: `data/oulad/NOTICE.md`.
"""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import Connection, text

from ops.loading import create_staging, fill
from worker.database import driver

DATA = Path(__file__).parent / "data" / "oulad"
PATHWAY = "Learning Pathway GGG"
_FIRST = 1_000_000  # the demo's enrolment ids start here, above the ids that a person tries out
_ENDED = {"Pass": "mastered", "Distinction": "mastered", "Fail": "incomplete"}
_STARTS = {"B": 2, "J": 10}  # presentations begin in February and October


@dataclass(frozen=True, slots=True)
class Registration:
    """One row of the dataset. `day` is the day of unregistration, relative to the start."""

    number: int
    student: str
    series: str
    enrolled_at: datetime
    day: int | None
    result: str

    @property
    def owned(self) -> bool:
        return self.series.startswith("GGG")

    @property
    def withdrawn(self) -> bool:
        """Whether the dataset says that it ended as Withdrawn, which is the expected result of the replay."""
        return self.result == "Withdrawn"

    @property
    def status(self) -> str:
        """The enrolment's status before the replay."""
        if not self.withdrawn:
            return _ENDED[self.result]
        if self.day is None or self.day >= 28:
            return "in_progress"
        if self.day >= 14:
            return "no_attempts"
        return "not_signed_in" if self.day >= 0 else "waiting_to_start"


def registrations() -> list[Registration]:
    """The dataset, in its own order; numbers count from 1."""
    return list(_read())


def _read() -> Iterator[Registration]:
    with (DATA / "registrations.csv").open(encoding="utf-8", newline="") as stream:
        for number, row in enumerate(csv.DictReader(stream), start=1):
            presentation = row["code_presentation"]
            start = datetime(int(presentation[:4]), _STARTS[presentation[4]], 1, tzinfo=UTC)
            yield Registration(
                number=number,
                student=row["id_student"],
                series=f"{row['code_module']}-{presentation}",
                enrolled_at=start + timedelta(days=int(row["date_registration"] or 0)),
                day=int(row["date_unregistration"]) if row["date_unregistration"] else None,
                result=row["final_result"],
            )


def load(connection: Connection, organisation: str, rows: list[Registration]) -> tuple[int, int]:
    """Load the dataset as a new organisation.

    Returns its id, and the number that added to a row's number gives its enrolment id.
    """
    base = int(connection.scalar(text("SELECT greatest(max(id), :least) FROM lms.enrolments"), {"least": _FIRST}) or 0)
    create_staging(connection)
    with driver(connection).cursor().copy("COPY pg_temp.loading FROM STDIN") as copy:
        for row in rows:
            pathway = PATHWAY if row.owned else None
            copy.write_row(
                (row.number, base + row.number, row.student, row.series, pathway, row.status, row.enrolled_at, 0)
            )
    fill(connection, organisation)
    organisation_id = int(
        connection.scalar(text("SELECT id FROM lms.organisations WHERE name = :name"), {"name": organisation}) or 0
    )
    connection.execute(
        text("""
        INSERT INTO lms.resource_access (learner_id, series_id)
        SELECT DISTINCT learner_id, series_id FROM lms.enrolments WHERE organisation_id = :id"""),
        {"id": organisation_id},
    )
    for table in ("learners", "enrolments"):
        connection.exec_driver_sql(f"ANALYZE lms.{table}")
    return organisation_id, base
