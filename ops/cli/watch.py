"""`jobs watch`: a job's progress until it ends, through restarts of PostgreSQL."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.progress import Task as Bar
from rich.text import Text

from ops.cli import common, jobs
from ops.cli.common import AsJson, Organisation
from schemas.catalogue import JobState
from worker.database import Database
from worker.errors import is_passing
from worker.jobs.show import show
from worker.records import Job

_EVERY = 0.5  # seconds
_PATIENCE = 300.0
"""Seconds without an answer of PostgreSQL after which there is nothing to watch any more."""


def register(_: typer.Typer) -> None:
    """Put this module's command into the group of jobs."""
    jobs.group.command("watch")(watch)


def watch(
    job_id: common.JobId,
    organisation: Organisation = None,
    json: AsJson = False,
) -> None:
    """Watch a job until it ends: a bar on a terminal, in a pipe the end alone.

    Exit code 0: everything it was to do is done, or it was superseded; 1: with exceptions, or cancelled.
    """
    with common.database() as db:
        organisation_id = common.organisation_id(db, organisation)
        with _bar() if common.err.is_terminal and not json else nullcontext(_silent) as tell:
            for job in _states(db, organisation_id, job_id):
                tell(job)
        jobs.print_job(job, json)
    if job.state in (JobState.COMPLETED_WITH_EXCEPTIONS, JobState.CANCELLED):
        raise typer.Exit(1)


def _states(db: Database, organisation_id: int, job_id: int) -> Iterator[Job]:
    """How the job stands, again and again until it has ended; waits for a PostgreSQL that is restarting."""
    answered = time.monotonic()
    while True:
        try:
            job = show(db, organisation_id=organisation_id, job_id=job_id)
        except Exception as error:
            if not is_passing(error) or time.monotonic() - answered > _PATIENCE:
                raise
        else:
            answered = time.monotonic()
            yield job
            if job.finished_at is not None:
                return
        time.sleep(_EVERY)


def _silent(_: Job) -> None:
    """Nothing to see in a pipe before the end."""


@contextmanager
def _bar() -> Iterator[Callable[[Job], None]]:
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=common.err, transient=True) as progress:
        bar = progress.add_task("", total=None)

        def tell(job: Job) -> None:
            progress.update(
                bar,
                description=f"job {job.id} {job.state}",
                completed=job.accepted - job.in_flight,
                total=job.accepted or None,
            )

        yield tell


class _Rate(TextColumn):
    """Enrolments a second over the last half minute."""

    def __init__(self) -> None:
        super().__init__("")

    def render(self, task: Bar) -> Text:
        return Text(f"{task.speed:,.0f}/s" if task.speed else "")
