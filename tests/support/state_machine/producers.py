"""Producers: jobs over ids, a filter, a person or a file, repeated keys, and the undo."""

import io
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
import sqlalchemy.exc
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from schemas.jobs import FileRequest, Filter, JobRequest
from schemas.reinstate import ReinstateFilter, ReinstateRequest
from tests.support.lockstep import Fault
from tests.support.model_values import STANDING, Job
from tests.support.state_machine.base import Base, numbers, passing, whom
from worker.errors import ConflictError, IdempotencyConflictError
from worker.jobs.files.submit import submit_file
from worker.jobs.reinstate import reinstate
from worker.jobs.submit import Requester, submit
from worker.rules import ENDED, WITHDRAWN


class Producers(Base):
    """Who asks for withdrawals, and takes them back."""

    @rule(
        organisation=st.integers(0, 1),
        picks=st.lists(numbers, min_size=1, max_size=6),
        later=st.booleans(),
        twice=st.booleans(),
        fault=passing,
    )
    def submit_ids(
        self, organisation: int, picks: list[int], later: bool, twice: bool, fault: Fault | None
    ) -> None:  # fmt: skip
        ids = self._ids(organisation, picks)
        self._submit(organisation, fault, enrolment_ids=ids, later=later)
        if twice:  # by somebody else, with a key of their own
            self._submit(organisation, None, enrolment_ids=ids)

    def _ids(self, organisation: int, picks: list[int]) -> list[int]:
        """Some of its own, in any order, twice; now and then one of the other, or a missing one."""
        of = self.organisations[organisation]
        known = sorted(self.model.enrolments, key=lambda i: (self.model.enrolments[i].organisation != of, i))
        return [known[pick % len(known)] if pick < 29 and known else 999 for pick in picks]

    @rule(
        organisation=st.integers(0, 1), which=st.sampled_from(["series_id", "pathway_id"]), pick=numbers, fault=passing
    )
    def submit_filter(self, organisation: int, which: str, pick: int, fault: Fault | None) -> None:
        of = self.organisations[organisation]
        places = self.series[of] if which == "series_id" else self.pathways[of]
        self._submit(organisation, fault, filter=Filter.model_validate({which: places[pick % len(places)]}))

    @rule(person=whom, later=st.booleans(), fault=passing)
    def submit_person(self, person: tuple[int, str], later: bool, fault: Fault | None) -> None:
        self._submit(person[0], fault, learner_external_id=person[1], later=later)

    def _submit(self, organisation: int, fault: Fault | None, *, later: bool = False, **selection: Any) -> None:
        of = self.organisations[organisation]
        when = {"effective_at": datetime.now(UTC) + timedelta(days=9)} if later else {}
        request = JobRequest(reason="not_required", **selection, **when)
        requester = Requester(of, "test:admin", "cli", f"key-{next(self.keys)}")
        done = self.both.insisted(lambda: submit(self.both.db, requester, request, chunk_size=3), fault)
        (new,) = self.both.new_jobs()
        assert new.id == done.job.id
        ids = None if request.learner_external_id else self._selected(of, request)
        self.model.submit(new.id, Job(of, ids, request.learner_external_id, later=later))
        self.submitted.append((requester, request, new.id))
        self.both.compare()

    def _selected(self, organisation: int, request: JobRequest) -> frozenset[int]:
        if request.filter is None:
            return frozenset(request.enrolment_ids or ())
        return frozenset(
            i
            for i, enrolment in self.model.enrolments.items()
            if enrolment.organisation == organisation
            and enrolment.status not in (WITHDRAWN, *ENDED)
            and request.filter.series_id in (None, enrolment.series)
            and request.filter.pathway_id in (None, enrolment.pathway)
        )

    @rule(organisation=st.integers(0, 1), picks=st.lists(numbers, min_size=1, max_size=6), fault=passing)
    def submit_file(self, organisation: int, picks: list[int], fault: Fault | None) -> None:
        """It may take a minute, so it is not repeated: who sent it sends it again."""
        of, ids = self.organisations[organisation], self._ids(organisation, picks)
        body = "\n".join(["enrolment_id", *map(str, ids)]).encode()
        requester = Requester(of, "test:admin", "api", f"key-{next(self.keys)}")

        def send() -> int:
            request = FileRequest(reason="not_required")
            return submit_file(self.both.db, requester, request, io.BytesIO(body), chunk_size=3).submitted.job.id

        with suppress(sqlalchemy.exc.DBAPIError, psycopg.Error):
            self.both.survive(send, fault)
        job_id = send()
        (new,) = self.both.new_jobs()
        assert new.id == job_id
        self.model.submit(job_id, Job(of, frozenset(ids)))
        self.both.compare()

    @precondition(lambda self: self.submitted)
    @rule(pick=numbers, other=st.booleans(), fault=passing)
    def repeat_a_key(self, pick: int, other: bool, fault: Fault | None) -> None:
        """The same body gets the same job; another one is refused."""
        requester, request, job_id = self.submitted[pick % len(self.submitted)]
        if not other:
            done = self.both.insisted(lambda: submit(self.both.db, requester, request, chunk_size=3), fault)
            assert (done.job.id, done.created) == (job_id, False)
        else:
            changed = request.model_copy(update={"reason": "learner_declined"})
            with pytest.raises(IdempotencyConflictError):
                self.both.insisted(lambda: submit(self.both.db, requester, changed, chunk_size=3), fault)
        self.both.compare()

    @precondition(lambda self: any(job.state not in STANDING for job in self.model.jobs.values()))
    @rule(pick=numbers, part=st.none() | st.lists(numbers, min_size=1, max_size=3), fault=passing)
    def undo(self, pick: int, part: list[int] | None, fault: Fault | None) -> None:
        """All that a job withdrew, or some of it; an undo is not undone."""
        done = [
            (j, job)
            for j, job in self.model.jobs.items()
            if pick > 26 or (job.reinstates is None and job.state not in STANDING and self.model.still_withdrawn(j))
        ]
        if not done:
            return
        job_id, job = done[pick % len(done)]
        requester = Requester(job.organisation, "test:admin", "cli", f"key-{next(self.keys)}")
        selected = self.model.still_withdrawn(job_id)
        if part is not None and selected:
            selected = frozenset(sorted(selected)[one % len(selected)] for one in part)
        chosen = ReinstateFilter(enrolment_ids=sorted(selected)) if part is not None and selected else None

        def ask() -> int:
            return reinstate(self.both.db, requester, job_id, ReinstateRequest(filter=chosen), chunk_size=3).job.id

        if job.state in STANDING or job.reinstates is not None:
            with pytest.raises(ConflictError):
                self.both.insisted(ask, fault)
        else:
            try:
                made = self.both.insisted(ask, fault)
            except ConflictError:
                assert self._in_flight(job_id)
            else:
                (new,) = self.both.new_jobs()
                assert new.id == made
                self.model.submit(made, Job(job.organisation, selected, reinstates=job_id))
        self.both.compare()

    def _in_flight(self, job_id: int) -> bool:
        """A letter of it is being tried, or what was running when it was cancelled is not back yet."""
        return any(ref[0] == job_id for letter in self.model.letters.values() for ref in letter.trying)
