"""What people do to a job before it ends: plan again, pause, resume, move, release."""

from typing import Annotated

import typer

from ops.cli import common
from ops.cli.common import As, AsJson, JobId, Note, Organisation
from ops.cli.filters import parse_filter
from ops.cli.jobs import print_job, print_plan
from schemas.control import MoveRequest
from schemas.job_filter import ReleaseFilter
from worker.errors import InvalidInputError
from worker.jobs import control, plan


def register(group: typer.Typer) -> None:
    """Add the commands to the group `jobs`."""
    group.command("plan")(plan_again)
    group.command("pause")(pause)
    group.command("resume")(resume)
    group.command("move")(move)
    group.command("release")(release)


def plan_again(job_id: JobId, organisation: Organisation = None, json: AsJson = False) -> None:
    """Show what the undecided part of a job would do now; writes nothing."""
    with common.database() as db:
        found = plan.of_job(db, common.organisation_id(db, organisation), job_id)
    print_plan(found, json)


def pause(
    job_id: JobId, note: Note = None, organisation: Organisation = None, acting: As = None, json: AsJson = False
) -> None:
    """Pause a job: workers begin no more of it until it is resumed."""
    with common.database() as db:
        org = common.organisation_id(db, organisation)
        job = control.pause(db, organisation_id=org, job_id=job_id, actor=common.actor(acting), note=note)
    print_job(job, json)


def resume(
    job_id: JobId, note: Note = None, organisation: Organisation = None, acting: As = None, json: AsJson = False
) -> None:
    """Resume a paused job."""
    with common.database() as db:
        org = common.organisation_id(db, organisation)
        job = control.resume(db, organisation_id=org, job_id=job_id, actor=common.actor(acting), note=note)
    print_job(job, json)


def move(
    job_id: JobId,
    effective_at: Annotated[
        str,
        typer.Option(
            help="A time with its offset, or a date. A date is the end of that day in the organisation's time zone."
        ),
    ],
    organisation: Organisation = None,
    acting: As = None,
    json: AsJson = False,
) -> None:
    """Give a scheduled or held job another time. A time in the past starts a scheduled job at once."""
    wanted = common.parse(MoveRequest, effective_at=effective_at)
    with common.database() as db:
        org = common.organisation_id(db, organisation)
        job = control.move(
            db, organisation_id=org, job_id=job_id, effective_at=wanted.effective_at, actor=common.actor(acting)
        )
    print_job(job, json)


def release(
    job_id: Annotated[int | None, typer.Argument(help="The job's id.", show_default=False)] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(
            "--filter",
            help="NAME=VALUE, can be repeated: ids (with commas), source, reason, series_id, learner_external_id, "
            "requested_by, held_because (brake, policy), created_before and created_after (2026-03-01T00:00:00Z).",
        ),
    ] = None,
    note: Note = None,
    organisation: Organisation = None,
    acting: As = None,
    json: AsJson = False,
) -> None:
    """Release one held job that somebody else requested, or all that match a filter."""
    if (job_id is None) == (not where):
        raise InvalidInputError("give a job's id or --filter NAME=VALUE, not both")
    wanted = parse_filter(ReleaseFilter, where or [])
    with common.database() as db:
        org, actor = common.organisation_id(db, organisation), common.actor(acting)
        if job_id is not None:
            print_job(control.release(db, organisation_id=org, job_id=job_id, actor=actor, note=note), json)
            return
        done = control.release_matching(db, organisation_id=org, wanted=wanted, actor=actor, note=note)
    if json:
        common.print_json(done.model_dump())
    else:
        own = f"; {done.own:,} stay held, because {actor} requested them" if done.own else ""
        common.out.print(f"{done.released:,} released{own}", markup=False)
    if done.own:
        raise typer.Exit(1)
