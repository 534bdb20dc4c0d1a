"""The first page after signing in, for administrators: what needs a person, what runs, what was done this week."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from fastapi import APIRouter
from sqlalchemy import Connection
from starlette.responses import Response

from schemas.approvals import Waiting
from schemas.brake import BrakeLimits
from schemas.catalogue import JobState
from schemas.desk import Overview as LettersOverview
from schemas.job_filter import JobFilter
from worker.dead_letters import desk
from worker.jobs import brake
from worker.ledger import done_lately, gauges, job_lists, series_library, waiting
from worker.ledger.done_lately import DoneLately
from worker.records import Job
from worker.texts import text
from worker.web.console.render import PATH
from worker.web.console.status import PartReader, read_status
from worker.web.console.view import Looking, View

router = APIRouter(prefix=PATH, include_in_schema=False)

WEEK = timedelta(days=7)
LATEST = 8
"""Jobs that the page lists."""
WAITING_SHOWN = 3
"""What waits for a second person: the oldest are named, the rest is counted."""
_IN_PROGRESS = (JobState.RUNNING, JobState.QUEUED, JobState.PAUSED)


@dataclass(frozen=True, slots=True)
class Overview:
    """What could be read now. A part that could not be read is None, and named in `missing`."""

    waiting: Sequence[Waiting] | None
    waiting_count: int | None
    letters: LettersOverview | None
    jobs: dict[str, int] | None
    """Jobs that have not ended, by state."""
    latest: list[Job] | None
    done: DoneLately | None
    brake: BrakeLimits | None
    has_enrolments: bool | None
    missing: list[str] = field(default_factory=list)

    @property
    def in_progress(self) -> list[Job]:
        """Those of the latest jobs that workers are at, or would be."""
        return [job for job in self.latest or () if job.state in _IN_PROGRESS]


@router.get("")
def show(view: Looking) -> Response:
    """What needs a person, what runs and what was done this week."""
    status = read_status(view.database, ping_broker=view.services.broker.ping)
    return view.page(
        "overview.html",
        found=_read(view),
        is_broken=bool(status.alarms),
        most=gauges.COUNTED_AT_MOST,
        most_jobs=done_lately.JOBS_AT_MOST,
    )


def _read(view: View) -> Overview:
    parts, own = PartReader(view.database), view.organisation_id

    def newest(found: Connection) -> list[Job]:
        return job_lists.list_jobs(found, own, JobFilter(), limit=LATEST)

    return Overview(
        waiting=parts.query(text("what waits"), lambda found: waiting.list_waiting(found, own, limit=WAITING_SHOWN)),
        waiting_count=parts.read(text("what waits"), view.count_waiting),
        letters=parts.read(
            text("letters that need attention"), lambda: desk.overview(view.database, view.settings, own)
        ),
        jobs=parts.query(text("jobs in progress"), lambda found: gauges.unfinished_jobs(found, own)),
        latest=parts.query(text("latest jobs"), newest),
        done=parts.query(text("the last 7 days"), lambda found: done_lately.done_lately(found, own, within=WEEK)),
        brake=parts.read(text("the brake"), lambda: brake.show(view.database, organisation_id=own)),
        has_enrolments=parts.query(text("enrolments"), lambda found: series_library.has_enrolments(found, own)),
        missing=parts.missing,
    )
