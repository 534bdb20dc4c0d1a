"""Withdraw and take back, for the tests of reinstate."""

from collections.abc import Sequence
from typing import Any

from schemas.reinstate import ReinstateFilter, ReinstateRequest
from tests.world import World, decide_due
from worker.config import Settings
from worker.database import Database
from worker.jobs.reinstate import reinstate
from worker.jobs.show import show
from worker.records import Job


class Undo:
    """Withdraws and takes back, each to its end."""

    def __init__(self, db: Database, world: World, settings: Settings) -> None:
        self.db, self.world, self.settings = db, world, settings

    def withdraw(self, ids: Sequence[int], **request: Any) -> Job:
        job = self.world.submit(self.db, ids, **request)
        decide_due(self.db, self.settings)
        return self.shown(job.id)

    def accept(self, job_id: int, *, chunk_size: int = 1000, key: str | None = None, **part: Any) -> Job:
        request = ReinstateRequest(filter=ReinstateFilter(**part) if part else None)
        return reinstate(self.db, self.world.requester(key), job_id, request, chunk_size=chunk_size).job

    def back(self, job_id: int, **given: Any) -> Job:
        made = self.accept(job_id, **given)
        decide_due(self.db, self.settings)
        return self.shown(made.id)

    def shown(self, job_id: int) -> Job:
        return show(self.db, organisation_id=self.world.organisation_id, job_id=job_id)


def same_again(world: World, enrolment_id: int, status: str = "in_progress") -> int:
    """Enrol the learner again in the same Series and pathway, as the platform does."""
    return int(
        world.one(
            """INSERT INTO lms.enrolments (organisation_id, learner_id, series_id, pathway_id, status)
            SELECT organisation_id, learner_id, series_id, pathway_id, :s FROM lms.enrolments WHERE id = :i
            RETURNING id""",
            i=enrolment_id,
            s=status,
        )
    )
