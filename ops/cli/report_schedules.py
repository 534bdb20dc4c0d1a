"""Scheduled reports: what is made again and again, and the files that it became."""

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from ops.cli import common
from ops.cli.common import As, AsJson, Cursor, Limit, Organisation
from ops.cli.report import (
    ExcludeStatusOption,
    OutputOption,
    ReasonOption,
    SeriesOption,
    SourceOption,
    StatusOption,
    shared_conditions,
    to_file,
    to_standard_output,
)
from schemas.report_schedules import Covers, Every, Report, ReportFile, Schedule, ScheduledFilter, ScheduleRequest
from worker.errors import ConflictError
from worker.ledger import report_files, report_schedules
from worker.ledger.report_files import FileRecord
from worker.ledger.report_schedules import ScheduleRecord
from worker.reports import scheduled_files, schedules
from worker.reports.formats import Format

group = typer.Typer(
    no_args_is_help=True, help="Have reports made again and again: add, list, pause, resume, run, delete."
)  # fmt: skip
ScheduleId = Annotated[
    int, typer.Argument(help="The schedule's id.", callback=common.refuse_large_id("schedule"))
]  # fmt: skip
FileId = Annotated[int, typer.Argument(help="The file's id.", callback=common.refuse_large_id("file"))]


def register(reports: typer.Typer) -> None:
    """Add the commands to those of reports."""
    reports.add_typer(group, name="schedules")
    reports.command("files")(list_files)
    reports.command("fetch")(fetch)


@group.command("add")
def add(
    report: Annotated[Report, typer.Argument(help="What the file lists.")],
    every: Annotated[Every, typer.Option(help="Each day, each Monday, or on the first of each month.")],
    hour: Annotated[int, typer.Option(min=0, max=23, help="In the organisation's time zone.")] = 6,
    covers: Annotated[
        Covers, typer.Option(help="What happened in the day, week or month before, or everything.")
    ] = Covers.PERIOD,
    format_: Annotated[Format, typer.Option("--format")] = Format.CSV,
    names: Annotated[bool, typer.Option("--names", help="With the learners' names and e-mail addresses.")] = False,
    status: StatusOption = None,
    exclude_status: ExcludeStatusOption = None,
    series: SeriesOption = None,
    reason: ReasonOption = None,
    source: SourceOption = None,
    job: Annotated[int | None, typer.Option(help="Of outcomes: only those of this job.")] = None,
    outcome: Annotated[list[str] | None, typer.Option(help="Of outcomes: only these. Repeat it for several.")] = None,
    organisation: Organisation = None,
    acting: As = None,
    json: AsJson = False,
) -> None:
    """Have a report made from now on."""
    with common.acting(organisation, acting) as (db, org, who):
        shared = shared_conditions(db, org, status, exclude_status, series, reason, source)
        conditions = common.parse(ScheduledFilter, **shared, job_id=job, outcome=outcome or None)
        wanted = common.parse(
            ScheduleRequest,
            report=report,
            every=every,
            hour=hour,
            covers=covers,
            format=format_.value,
            names=names,
            filter=conditions,
        )
        made = schedules.create(db, organisation_id=org, wanted=wanted, who=who)
    common.print_record(_schedule(made), json, said=f"Schedule {made.id}: next at {made.next_at}.")


@group.command("list")
def list_schedules(organisation: Organisation = None, json: AsJson = False) -> None:
    """List what is made again and again, newest first."""
    with common.in_organisation(organisation) as (db, org), db.begin() as connection:
        found = report_schedules.list_schedules(connection, org)
    common.print_list(
        found,
        json,
        columns=("schedule", "report", "format", "every", "next", "by", "state"),
        row=lambda one: (one.id, one.report, one.format, one.every, one.next_at, one.created_by, _state(one)),
        document=_schedule,
    )


def _command(name: str, act: Any, help_: str, said: str) -> None:
    @group.command(name, help=help_)
    def command(
        schedule_id: ScheduleId, organisation: Organisation = None, acting: As = None, json: AsJson = False
    ) -> None:
        with common.acting(organisation, acting) as (db, org, who):
            found = act(db, organisation_id=org, schedule_id=schedule_id, who=who)
        common.print_record(_schedule(found), json, said=f"Schedule {found.id} {said}.")


_command("pause", schedules.pause, "Make nothing until it is resumed.", "is paused")
_command("resume", schedules.resume, "Go on from the next time that it is due.", "goes on")
_command("run", schedules.make_now, "Make the file once more, now: the relay does.", "is made now")
_command("delete", schedules.delete, "End it, and delete the files that it became.", "is deleted")


def list_files(
    schedule: Annotated[int | None, typer.Option(help="Only those of this schedule.")] = None,
    limit: Limit = None,
    cursor: Cursor = None,
    organisation: Organisation = None,
    json: AsJson = False,
) -> None:
    """List the files of scheduled reports, newest first."""
    with common.in_organisation(organisation) as (db, org):
        most = common.page_size(limit, json)
        with db.begin() as connection:
            found = report_files.list_files(connection, org, schedule_id=schedule, before=cursor, limit=most)
    common.print_list(
        found,
        json,
        columns=("file", "schedule", "report", "due", "state", "rows", "last error"),
        row=lambda one: (one.id, one.schedule_id, one.report, one.due_at, one.state, one.row_count, one.last_error),
        document=_file,
        most=most,
    )


def fetch(file_id: FileId, output: OutputOption, organisation: Organisation = None) -> None:
    """Write a file of a scheduled report to a file."""
    with common.in_organisation(organisation) as (db, org):
        found = scheduled_files.show(db, organisation_id=org, file_id=file_id)
        if found.state != "ready":
            raise ConflictError(f"report file {file_id} is {found.state}")

        def write(sink: Any) -> int:
            scheduled_files.copy_content(db, organisation_id=org, file_id=file_id, sink=sink)
            return found.row_count or 0

        if output == "-":
            to_standard_output(write)
            return
        count = to_file(Path(output), partial(write))
    common.err.print(f"{count:,} rows in {output}", markup=False)


def _state(one: ScheduleRecord) -> str:
    if one.ended_at is not None:
        return "ended"
    return "made" if one.paused_at is None else "paused"


def _schedule(one: ScheduleRecord) -> dict[str, Any]:
    return Schedule.model_validate(one).model_dump(mode="json")


def _file(one: FileRecord) -> dict[str, Any]:
    return ReportFile.model_validate(one).model_dump(mode="json")
