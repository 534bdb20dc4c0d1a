"""The dry run of a job: the outcomes it would have now, counted by the same rules; nothing is written."""

from collections.abc import Iterable
from dataclasses import dataclass

from schemas.jobs import Filter
from worker.database import Database
from worker.ledger import jobs, preview


@dataclass(frozen=True, slots=True)
class Plan:
    """How many enrolments a job would accept, and what would happen to them."""

    accepted: int
    duplicates: int
    outcomes: dict[str, int]


def of_ids(database: Database, organisation_id: int, ids: Iterable[int]) -> Plan:
    """The plan of a job over a stream of ids.

    Raises:
        InvalidInputError: as `submit_file`.
    """
    with database.begin() as connection:
        given, _ = jobs.stage(connection, ids)
        outcomes = preview.by_staged(connection, organisation_id)
    accepted = sum(outcomes.values())
    return Plan(accepted, given - accepted, outcomes)


def of_filter(database: Database, organisation_id: int, conditions: Filter) -> Plan:
    """The plan of a job over a filter."""
    with database.begin() as connection:
        outcomes = preview.by_filter(connection, organisation_id, conditions.model_dump())
    return Plan(sum(outcomes.values()), 0, outcomes)
