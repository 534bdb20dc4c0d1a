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
from worker.faults import is_passing
from worker.jobs.show import show
from worker.records import Job

POLL_SECONDS = 0.5
GIVE_UP_SECONDS = 300.0
"""How long PostgreSQL may be out of reach before the command fails."""


def register(group: typer.Typer) -> None:
    """Add the command to the group `jobs`."""
    group.command("watch")(watch)


def watch(
    job_id: common.JobId,
    organisation: Organisation = None,
    json: AsJson = False,
) -> None:
    """Watch a job until it ends. A terminal shows a bar, a pipe only gets the result.

    Exit code 0: the job completed or was superseded. Exit code 1: it has exceptions or was cancelled.
    """
    with common.database() as db:
        organisation_id = common.organisation_id(db, organisation)
        with _progress_bar() if common.err.is_terminal and not json else nullcontext(_show_nothing) as show_progress:
            for job in _follow(db, organisation_id, job_id):
                show_progress(job)
        jobs.print_job(job, json)
    if job.state in (JobState.COMPLETED_WITH_EXCEPTIONS, JobState.CANCELLED):
        raise typer.Exit(1)


def _follow(db: Database, organisation_id: int, job_id: int) -> Iterator[Job]:
    """The job, read again and again until it has ended; a PostgreSQL that restarts is waited for."""
    answered = time.monotonic()
    while True:
        try:
            job = show(db, organisation_id=organisation_id, job_id=job_id)
        except Exception as error:
            if not is_passing(error) or time.monotonic() - answered > GIVE_UP_SECONDS:
                raise
        else:
            answered = time.monotonic()
            yield job
            if job.finished_at is not None:
                return
        time.sleep(POLL_SECONDS)


def _show_nothing(_: Job) -> None:
    """A pipe gets the result alone."""


@contextmanager
def _progress_bar() -> Iterator[Callable[[Job], None]]:
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=common.err, transient=True) as progress:
        bar = progress.add_task("", total=None)

        def show_progress(job: Job) -> None:
            progress.update(
                bar,
                description=f"job {job.id} {job.state}",
                completed=job.accepted - job.in_flight,
                total=job.accepted or None,
            )

        yield show_progress


class _Rate(TextColumn):
    """Enrolments a second over the last half minute."""

    def __init__(self) -> None:
        super().__init__("")

    def render(self, task: Bar) -> Text:
        return Text(f"{task.speed:,.0f}/s" if task.speed else "")
