"""The demo's data is the dataset's, and its mapping is what the demo says it is."""

from collections import Counter

import pytest

from ops.demo import oulad
from ops.demo.oulad import Registration
from ops.loading import load_file
from tests.world import World
from worker.database import Database

ROWS = oulad.registrations()


def test_the_figures_are_those_of_the_dataset() -> None:
    assert Counter(row.result for row in ROWS) == {"Pass": 12361, "Distinction": 3024, "Fail": 7052, "Withdrawn": 10156}
    assert len({row.student for row in ROWS}) == 28785
    assert sum(row.day is not None for row in ROWS) == 10072
    assert sum(row.withdrawn and row.day is None for row in ROWS) == 93
    assert sum(row.withdrawn and row.owned for row in ROWS) == 292


@pytest.mark.parametrize(
    ("day", "status"),
    [
        (-1, "waiting_to_start"),
        (0, "not_signed_in"),
        (13, "not_signed_in"),
        (14, "no_attempts"),
        (27, "no_attempts"),
        (28, "in_progress"),
        (None, "in_progress"),
    ],
)
def test_a_withdrawn_row_starts_in_the_status_that_its_day_suggests(day: int | None, status: str) -> None:
    assert Registration(1, "1", "AAA-2013J", ROWS[0].enrolled_at, day, "Withdrawn").status == status


@pytest.mark.parametrize(
    ("result", "status"), [("Pass", "mastered"), ("Distinction", "mastered"), ("Fail", "incomplete")]
)
def test_a_row_that_ended_is_never_active(result: str, status: str) -> None:
    assert Registration(1, "1", "AAA-2013J", ROWS[0].enrolled_at, 5, result).status == status
    assert {row.status for row in ROWS if not row.withdrawn} == {"mastered", "incomplete"}


def test_the_demo_is_loaded_clear_of_what_a_person_tries_out(owner: Database, world: World) -> None:
    """The README's sample, with its low ids, can be loaded before and after."""
    with owner.begin() as connection:
        organisation_id, base = oulad.load(connection, "Open University", ROWS)
    sample = load_file(owner, oulad.DATA.parent / "sample.csv", "Sample")
    assert (sample.created, sample.existing) == (10, 0)
    assert base >= 1_000_000
    found = world.run(
        """SELECT status, count(*), count(pathway_id) FROM lms.enrolments WHERE organisation_id = :o GROUP BY 1""",
        o=organisation_id,
    )
    assert {row[0]: row[1] for row in found} == Counter(row.status for row in ROWS)
    assert sum(row[2] for row in found) == sum(row.owned for row in ROWS)
    assert world.one("SELECT count(*) FROM lms.resource_access") == 32593
