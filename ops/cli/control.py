"""What people do to a job on its way: plan again, pause, resume, move, release."""

from typing import Annotated, Any

import typer

from ops.cli import common
from ops.cli.common import As, AsJson, JobId, Note, Organisation
from ops.cli.jobs import print_job, print_plan
from schemas.control import Move
from schemas.job_filter import ReleaseFilter
from worker.errors import InvalidInputError
from worker.jobs import control, plan


def register(group: typer.Typer) -> None:
    """Put this module's commands among those of `jobs`."""
    group.command("plan")(plan_again)
    group.command("pause")(pause)
    group.command("resume")(resume)
    group.command("move")(move)
    group.command("release")(release)


def plan_again(job_id: JobId, organisation: Organisation = None, json: AsJson = False) -> None:
    """Show what a job would do now with what of it is not decided yet; writes nothing."""
    with common.database() as db:
        found = plan.of_job(db, common.organisation_id(db, organisation), job_id)
    print_plan(found, json)


def pause(
    job_id: JobId, note: Note = None, organisation: Organisation = None, acting: As = None, json: AsJson = False
) -> None:
    """Let nothing more of a job begin until it is resumed."""
    with common.database() as db:
        org = common.organisation_id(db, organisation)
        job = control.pause(db, organisation_id=org, job_id=job_id, actor=common.actor(acting), note=note)
    print_job(job, json)


def resume(
    job_id: JobId, note: Note = None, organisation: Organisation = None, acting: As = None, json: AsJson = False
) -> None:
    """Let a paused job go on."""
    with common.database() as db:
        org = common.organisation_id(db, organisation)
        job = control.resume(db, organisation_id=org, job_id=job_id, actor=common.actor(acting), note=note)
    print_job(job, json)


def move(
    job_id: JobId,
    effective_at: Annotated[
        str,
        typer.Option(help="A time with its offset, or a date: the end of that day in the organisation's time zone."),
    ],
    organisation: Organisation = None,
    acting: As = None,
    json: AsJson = False,
) -> None:
    """Give a scheduled or held job another time; one that has passed admits a scheduled job at once."""
    wanted = common.parse(Move, effective_at=effective_at)
    with common.database() as db:
        org = common.organisation_id(db, organisation)
        job = control.move(
            db, organisation_id=org, job_id=job_id, effective_at=wanted.effective_at, actor=common.actor(acting)
        )
    print_job(job, json)


def release(
    job_id: Annotated[int | None, typer.Argument(help="The job's number.", show_default=False)] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(
            "--filter",
            help="NAME=VALUE, repeatable: ids (commas allowed), source, requested_by, held_because (brake or policy), "
            "created_before and created_after (2026-03-01T00:00:00Z).",
        ),
    ] = None,
    note: Note = None,
    organisation: Organisation = None,
    acting: As = None,
    json: AsJson = False,
) -> None:
    """Release held jobs that somebody else requested: one, or all that match."""
    if (job_id is None) == (not where):
        raise InvalidInputError("give a job's number, or --filter NAME=VALUE, and not both")
    wanted = _filter(where or [])
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


def _filter(pairs: list[str]) -> ReleaseFilter:
    values: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or name not in ReleaseFilter.model_fields:
            known = ", ".join(ReleaseFilter.model_fields)
            raise InvalidInputError(f"--filter {pair}: give NAME=VALUE, with NAME one of {known}")
        values[name] = [_number(part) for part in value.split(",")] if name == "ids" else value
    found = common.parse(ReleaseFilter, **values)
    assert isinstance(found, ReleaseFilter)  # noqa: S101 - for the type checker
    return found


def _number(value: str) -> int:
    try:
        return int(value)
    except ValueError:
        raise InvalidInputError(f"--filter ids: {value!r} is not a number") from None
