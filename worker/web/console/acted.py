"""What became of an act about one learner: the page waits a moment for it, says it, and offers to take it back."""

import threading
import time

from starlette.responses import Response

from schemas.catalogue import JobState, Outcome
from worker.code_words import count_outcome
from worker.faults import is_passing
from worker.jobs.show import show
from worker.records import Job
from worker.texts import Text, joined, text
from worker.web.console.view import View
from worker.web.console.words import sentence, word

_SHOWN_AT_ONCE = 2.0
"""Seconds within which a small job is usually decided. If it takes longer, the page says so."""
_waiting = threading.BoundedSemaphore(8)
"""Requests that wait for a decision. Each holds one of the few threads that also answer webhooks."""


def go(view: View, path: str, job: Job) -> Response:
    """Go to a page, which says what became of a job; if it withdrew something, with a button that takes it back."""
    job = _wait_for(view, job)
    said, tone = _message(job)
    undo = job.id if job.kind == "withdraw" and job.finished_at and job.outcomes.get(Outcome.WITHDRAWN) else None
    return view.go(path, said, tone=tone, undo=undo, job=job.id)


def _wait_for(view: View, job: Job) -> Job:
    """The job once it has ended, or as it is after `_SHOWN_AT_ONCE`."""
    if not _waiting.acquire(blocking=False):
        return job
    try:
        deadline = time.monotonic() + _SHOWN_AT_ONCE
        while (
            job.finished_at is None
            and job.state not in (JobState.HELD, JobState.PAUSED)
            and time.monotonic() < deadline
        ):
            time.sleep(0.03)
            job = show(view.database, organisation_id=view.organisation_id, job_id=job.id)
    except Exception as error:
        if not is_passing(error):  # the job was accepted, so a short outage here must not look like a failure
            raise
    finally:
        _waiting.release()
    return job


def _message(job: Job) -> tuple[Text, str]:
    """What became of a request, and its tone."""
    if job.held_why:
        return text("Requested, not withdrawn yet. Job {job}: {why}", job=job.id, why=job.held_why), "warn"
    if job.finished_at is None:
        return text("Job {job} was accepted. Load the page again to see the outcome.", job=job.id), "warn"
    good = {Outcome.WITHDRAWN, Outcome.ALREADY_WITHDRAWN, Outcome.REINSTATED}
    tone = "good" if set(job.outcomes) <= good else "warn"
    if sum(job.outcomes.values()) > 1:
        counts = joined(sorted(count_outcome(name, count) for name, count in job.outcomes.items()), ", ")
        return text("Job {job} has ended: {counts}.", job=job.id, counts=counts), tone
    (outcome,) = job.outcomes or (Outcome.CANCELLED,)
    label = text("{label}.", label=word(outcome))
    plain = outcome in (Outcome.WITHDRAWN, Outcome.REINSTATED)
    return label if plain else joined([label, sentence(outcome)]), tone
