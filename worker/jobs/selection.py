"""What a job is about: ids, a filter or a person; `worker/jobs/files/submit.py` has that of a file.

A selection knows its digest (by which a request and a plan are known again), its preview (what a job over it would do
now) and how it is frozen into chunks when the job is accepted.
"""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from schemas.jobs import Filter, JobRequest
from worker.ledger import freeze, plan
from worker.ledger.plan import Preview
from worker.records import NewChunks


@dataclass(frozen=True, slots=True)
class Counts:
    """Distinct ids of a selection, and how many more were duplicates. A person counts 1 until they are applied."""

    accepted: int
    duplicates: int = 0


class Selection(ABC):
    """What is selected. Counts are None where only the database can count."""

    counts: Counts | None = None
    series_id: int | None = None
    """The one Series that it is about by its own words."""

    def count(self, accepted: int) -> Counts:
        """The counts, once the database has found so many distinct ids."""
        return self.counts or Counts(accepted)

    @abstractmethod
    def digest(self) -> str:
        """SHA-256 of what is selected, as hexadecimal digits: the same for the same ids in any order, by any door."""

    @abstractmethod
    def preview(self, connection: Connection, organisation_id: int) -> Preview:
        """The outcomes that a job over it would have now; nothing is locked or written."""

    @abstractmethod
    def freeze(self, connection: Connection, chunks: NewChunks) -> Counts:
        """Write the chunks of a job that was just inserted."""


class Ids(Selection):
    """Enrolments by id, as a request lists them."""

    def __init__(self, ids: Sequence[int]) -> None:
        self._ids = ids
        distinct = len(set(ids))
        self.counts = Counts(distinct, len(ids) - distinct)

    def digest(self) -> str:
        joined = ",".join(str(one) for one in sorted(self._ids))
        return digest("ids", hashlib.sha256(joined.encode()).hexdigest())

    def preview(self, connection: Connection, organisation_id: int) -> Preview:
        return plan.by_list(connection, organisation_id, self._ids)

    def freeze(self, connection: Connection, chunks: NewChunks) -> Counts:
        return self.count(freeze.ids(connection, self._ids, chunks))


class Filtered(Selection):
    """Enrolments by what they are. The ids are found when the job is accepted, and do not change after that."""

    def __init__(self, conditions: Filter) -> None:
        self._filter = conditions
        self.series_id = conditions.series_id

    def digest(self) -> str:
        return digest("filter", json.dumps(self._filter.model_dump(mode="json", exclude_none=True), sort_keys=True))

    def preview(self, connection: Connection, organisation_id: int) -> Preview:
        return plan.by_filter(connection, organisation_id, self._filter)

    def freeze(self, connection: Connection, chunks: NewChunks) -> Counts:
        return self.count(freeze.filtered(connection, self._filter, chunks))


class AllOfPerson(Selection):
    """All that a learner is enrolled in when the job is applied: one chunk that names the learner."""

    def __init__(self, external_id: str) -> None:
        self._external_id = external_id
        self.counts: Counts = Counts(1)

    def digest(self) -> str:
        return digest("learner", self._external_id)

    def preview(self, connection: Connection, organisation_id: int) -> Preview:
        return plan.by_person(connection, organisation_id, self._external_id)

    def freeze(self, connection: Connection, chunks: NewChunks) -> Counts:
        freeze.person(connection, self._external_id, chunks)
        return self.counts


def selection_of(request: JobRequest) -> Selection:
    """What a request selects; it has exactly one of the three."""
    if request.enrolment_ids is not None:
        return Ids(request.enrolment_ids)
    if request.filter is not None:
        return Filtered(request.filter)
    return AllOfPerson(request.learner_external_id or "")


def digest(kind: str, value: str) -> str:
    """SHA-256 of one kind of selection, as hexadecimal digits."""
    return hashlib.sha256(f"{kind}:{value}".encode()).hexdigest()
