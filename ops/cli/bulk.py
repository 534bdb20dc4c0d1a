"""`withdrawals bulk`: many enrolments, from a file or by a filter."""

from pathlib import Path
from typing import Annotated, Any

import typer

from ops.cli import bulk_files, common
from ops.cli.bulk_files import Batch, FaultsTo, FileArguments, LeaveOut
from ops.cli.common import As, AsJson, Key, Note, Organisation
from ops.cli.filters import parse_filter
from ops.cli.jobs import EffectiveAt, Reason, print_plan, print_submitted
from schemas.jobs import FileRequest, Filter, JobRequest
from worker.database import Database
from worker.errors import InvalidInputError
from worker.jobs import plan
from worker.jobs.files.submit import Options
from worker.jobs.submit import Requester, submit
from worker.reports.filters import find_series_id


def register(app: typer.Typer) -> None:
    """Put the command on the tree."""
    app.command("bulk")(bulk)


def bulk(
    reason: Reason,
    file: Annotated[
        str | None, typer.Argument(help="CSV, XLSX or ODS with enrolment ids, or learners and Series; - reads it.")
    ] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(
            "--filter",
            help="NAME=VALUE, repeatable: series_id, pathway_id, status and learner_ids (commas allowed), "
            "enrolled_before and enrolled_after (2026-03-01T00:00:00Z).",
        ),
    ] = None,
    series: Annotated[
        str | None,
        typer.Option(help="The code of a Series. Add --filter to select fewer."),
    ] = None,
    dry_run: Annotated[bool, typer.Option(help="Show the plan, the outcomes by count. Writes nothing.")] = False,
    plan_hash: Annotated[
        str | None,
        typer.Option(help="The hash that --dry-run printed. Changed enrolments are refused."),
    ] = None,
    leave_out_faults: LeaveOut = False,
    faults: FaultsTo = None,
    batch: Batch = None,
    source: Annotated[str, typer.Option(help="bulk, admin or correction.")] = "bulk",
    note: Note = None,
    effective_at: EffectiveAt = None,
    key: Key = None,
    organisation: Organisation = None,
    acting: As = None,
    json: AsJson = False,
) -> None:
    """Withdraw many enrolments: from a file, from standard input, or all that match a filter.

    A file is CSV with any delimiter, XLSX or ODS. Its header names enrolment_id, or learner_external_id or email
    together with series_code, and pathway_title where a learner has several enrolments in one Series.
    """
    if (file is None) == (not where and series is None):
        raise InvalidInputError("give FILE.csv (or -), or --filter NAME=VALUE and --series CODE, not both")
    given: dict[str, Any] = {"reason": reason, "source": source, "note": note, "effective_at": effective_at}
    given["plan_hash"] = plan_hash
    request = common.parse(FileRequest, **given)
    sent = FileArguments(Path(file or "-"), Options(leave_out_faults, batch), faults)
    if file is None and sent.is_extended:
        raise InvalidInputError("--leave-out-faults, --faults and --batch go with FILE")
    wanted = parse_filter(Filter, where) if where else None
    if series is not None and wanted and wanted.series_id is not None:
        raise InvalidInputError("give --series or --filter series_id, not both")
    with common.database() as db:
        who = common.requester(db, organisation, acting, key)
        selected = _select(db, who.organisation_id, wanted, series)
        if selected is not None:
            selection = common.parse(JobRequest, **given, filter=selected)
            if dry_run:
                print_plan(plan.of_request(db, who.organisation_id, selection, door="cli"), json)
                return
            with common.reporting_key(who):
                submitted = submit(db, who, selection)
            print_submitted(submitted, json)
            return
        _plan_or_submit_file(db, who, request, sent, dry_run=dry_run, json=json)


def _plan_or_submit_file(
    db: Database, who: Requester, request: FileRequest, sent: FileArguments, *, dry_run: bool, json: bool
) -> None:
    if dry_run:
        planned = bulk_files.plan(db, who, request, sent)
        if json and sent.is_extended:
            document = planned.plan and planned.plan.model_dump(mode="json")
            common.print_json({"check": planned.check.model_dump(mode="json"), "plan": document})
        elif planned.plan is not None:
            print_plan(planned.plan, json)
        if not json:
            bulk_files.tell_left_out(planned.check, sent, None)
        return
    with common.reporting_key(who):
        done = bulk_files.submit(db, who, request, sent)
    if json and sent.is_extended:
        document = common.job_document(done.submitted.job)
        common.print_json({**document, "file": {"check": done.check.model_dump(mode="json")}})
        return
    print_submitted(done.submitted, json)
    if not json:
        bulk_files.tell_left_out(done.check, sent, sent.options.batch or done.submitted.job.id)


def _select(db: Database, organisation_id: int, wanted: Filter | None, series: str | None) -> Filter | None:
    """The filter, with the Series of this code as one of its conditions; None selects nothing: there is a file."""
    if series is None:
        return wanted
    series_id = find_series_id(db, organisation_id, series)
    return wanted.model_copy(update={"series_id": series_id}) if wanted else Filter(series_id=series_id)
