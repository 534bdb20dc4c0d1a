"""Submit jobs and look at them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from ops.cli import common
from ops.cli.common import As, AsJson, Cursor, Key, Limit, Note, Organisation
from ops.files import read_ids
from schemas import answers
from schemas.catalogue import JobState
from schemas.events import PersonEvent
from schemas.job_filter import JobFilter
from schemas.jobs import FileRequest, Filter, JobRequest
from worker.errors import InvalidInputError
from worker.jobs import plan, show
from worker.jobs.control import cancel
from worker.jobs.submit import Submitted, submit, submit_file
from worker.people import events
from worker.records import Job
from worker.reports.filters import find_series_id

group = typer.Typer(no_args_is_help=True, help="Jobs: list, show, plan; pause, resume, move, cancel, release.")

Reason = Annotated[
    str,
    typer.Option(help="not_required, user_deactivated, learner_declined or enrolment_error; one for the whole job."),
]
_STATES = ", ".join(JobState)
ExternalId = Annotated[str, typer.Argument(help="The person's id in the HR system.")]
EffectiveAt = Annotated[
    str | None,
    typer.Option(help="A time with its offset, or a date: the end of that day in the organisation's time zone."),
]


def register(app: typer.Typer) -> None:
    """Put this module's top-level commands on the tree."""
    app.command("submit")(submit_ids)
    app.command("bulk")(bulk)
    app.command("deactivate")(deactivate)
    app.command("reactivate")(reactivate)


def submit_ids(
    reason: Reason,
    ids: Annotated[list[int] | None, typer.Argument(help="Enrolment ids.", show_default=False)] = None,
    learner: Annotated[str | None, typer.Option(help="A learner's external id: all their enrolments.")] = None,
    source: Annotated[str, typer.Option(help="bulk, admin or correction.")] = "admin",
    note: Note = None,
    effective_at: EffectiveAt = None,
    key: Key = None,
    organisation: Organisation = None,
    acting: As = None,
    json: AsJson = False,
) -> None:
    """Withdraw enrolments by id, or all active enrolments of a learner."""
    if bool(ids) == (learner is not None):
        raise InvalidInputError("give enrolment ids, or --learner EXTERNAL_ID, and not both")
    request = common.parse(
        JobRequest,
        reason=reason,
        source=source,
        note=note,
        effective_at=effective_at,
        enrolment_ids=ids or None,
        learner_external_id=learner,
    )
    with common.database() as db:
        who = common.requester(db, organisation, acting, key)
        with common.telling_key(who):
            submitted = submit(db, who, request)
        print_submitted(submitted, json)


def bulk(
    reason: Reason,
    file: Annotated[
        str | None, typer.Argument(help="A CSV file with a column enrolment_id; - is standard input.")
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
        str | None, typer.Option(help="All of the Series with this code; --filter narrows it down.")
    ] = None,
    dry_run: Annotated[bool, typer.Option(help="Count the outcomes the job would have; write nothing.")] = False,
    plan_hash: Annotated[
        str | None, typer.Option(help="Of the plan that --dry-run showed: refused if it does not fit any more.")
    ] = None,
    source: Annotated[str, typer.Option(help="bulk, admin or correction.")] = "bulk",
    note: Note = None,
    effective_at: EffectiveAt = None,
    key: Key = None,
    organisation: Organisation = None,
    acting: As = None,
    json: AsJson = False,
) -> None:
    """Withdraw many enrolments: a CSV file, standard input, or all that match a filter."""
    if (file is None) == (not where and series is None):
        raise InvalidInputError("give a FILE.csv (or -), or --filter NAME=VALUE or --series CODE, and not both")
    given: dict[str, Any] = {"reason": reason, "source": source, "note": note, "effective_at": effective_at}
    given["plan_hash"] = plan_hash
    request = common.parse(FileRequest, **given)
    conditions = _filter(where or [], series)
    with common.database() as db:
        who = common.requester(db, organisation, acting, key)
        if series is not None:
            conditions["series_id"] = find_series_id(db, who.organisation_id, series)
        if conditions:
            selection = common.parse(JobRequest, **given, filter=common.parse(Filter, **conditions))
            if dry_run:
                print_plan(plan.of_request(db, who.organisation_id, selection), json)
                return
            with common.telling_key(who):
                submitted = submit(db, who, selection)
            print_submitted(submitted, json)
            return
        with read_ids(Path(file or "-")) as rows:
            if dry_run:
                print_plan(plan.of_file(db, who.organisation_id, request, rows), json)
                return
            with common.telling_key(who):
                submitted = submit_file(db, who, request, rows, name=None if file == "-" else file)
            print_submitted(submitted, json)


def deactivate(
    external_id: ExternalId,
    effective_at: EffectiveAt = None,
    key: Key = None,
    organisation: Organisation = None,
    acting: As = None,
    json: AsJson = False,
) -> None:
    """Send the event of a deactivated person: every active enrolment of theirs is withdrawn."""
    _event("user.deactivated", external_id, effective_at, key, organisation, acting, json)


def reactivate(
    external_id: ExternalId,
    key: Key = None,
    organisation: Organisation = None,
    acting: As = None,
    json: AsJson = False,
) -> None:
    """Send the event of a person who came back: what is not applied yet is superseded."""
    _event("user.reactivated", external_id, None, key, organisation, acting, json)


def _event(
    kind: str,
    external_id: str,
    effective_at: str | None,
    key: str | None,
    organisation: str | None,
    acting: str | None,
    json: bool,
) -> None:
    event = common.parse(PersonEvent, type=kind, external_id=external_id, effective_at=effective_at)
    with common.database() as db:
        who = common.requester(db, organisation, acting, key)
        with common.telling_key(who):
            receipt = events.record(db, who, "cli", event)
        if json:
            common.print_json({"status": receipt.status, "job_id": receipt.job_id, "idempotency_key": who.key})
        else:
            common.out.print(f"{receipt.status}" + (f", job {receipt.job_id}" if receipt.job_id else ""))


@group.command("list")
def list_jobs(
    state: Annotated[JobState | None, typer.Option(metavar="STATE", help=f"Only these: {_STATES}.")] = None,
    limit: Limit = None,
    cursor: Cursor = None,
    only_ids: Annotated[bool, typer.Option("--ids", help="Only the numbers, for other commands.")] = False,
    organisation: Organisation = None,
    json: AsJson = False,
) -> None:
    """List jobs, newest first."""
    with common.database() as db:
        org = common.organisation_id(db, organisation)
        most = common.page_size(limit, json or only_ids)
        found = show.list_jobs(db, organisation_id=org, wanted=JobFilter(state=state), before=cursor, limit=most)
    if json:
        documents = [common.job_document(job) for job in found]
        common.print_json({"items": documents, "next_cursor": common.next_cursor(found, most)})
        return
    if only_ids:
        common.out.print(" ".join(str(job.id) for job in found))
        return
    rows = [
        (job.id, job.state, job.reason or job.kind, f"{job.accepted:,}", common.counts(job.outcomes)) for job in found
    ]
    common.out.print(common.table("job", "state", "reason", "accepted", "outcomes", rows=rows))
    common.say_more(found, most)


@group.command("show")
def show_job(
    job_id: Annotated[int, typer.Argument(help="The job's number.")],
    organisation: Organisation = None,
    json: AsJson = False,
) -> None:
    """Show one job."""
    with common.database() as db:
        print_job(show.show(db, organisation_id=common.organisation_id(db, organisation), job_id=job_id), json)


@group.command("cancel")
def cancel_job(
    job_id: Annotated[int, typer.Argument(help="The job's number.")],
    note: Note = None,
    organisation: Organisation = None,
    acting: As = None,
    json: AsJson = False,
) -> None:
    """Cancel what of a job is not decided yet."""
    with common.database() as db:
        job = cancel(
            db,
            organisation_id=common.organisation_id(db, organisation),
            job_id=job_id,
            actor=common.actor(acting),
            note=note,
        )
        print_job(job, json)
    if job.state != JobState.CANCELLED:
        common.err.print(f"job {job.id} had ended before; nothing was cancelled")
        raise typer.Exit(1)


def _filter(pairs: list[str], series: str | None) -> dict[str, Any]:
    """Conditions from NAME=VALUE, checked; `status` and `learner_ids` repeat or take commas."""
    values: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or name not in Filter.model_fields:
            known = ", ".join(Filter.model_fields)
            raise InvalidInputError(f"--filter {pair}: give NAME=VALUE, with NAME one of {known}")
        if name in ("status", "learner_ids"):
            values.setdefault(name, []).extend(part.strip() for part in value.split(","))
        else:
            values[name] = value
    for name in ("series_id", "pathway_id"):
        if name in values:
            values[name] = _number(name, values[name])
    if "learner_ids" in values:
        values["learner_ids"] = [_number("learner_ids", item) for item in values["learner_ids"]]
    if series is not None and "series_id" in values:
        raise InvalidInputError("--series: give it or --filter series_id, not both")
    if values:
        common.parse(Filter, **values)
    return values


def _number(name: str, value: str) -> int:
    try:
        return int(value)
    except ValueError:
        raise InvalidInputError(f"--filter {name}: {value!r} is not a number") from None


def print_submitted(submitted: Submitted, json: bool) -> None:
    """Show what answers a request, and how to go on."""
    if not json and not submitted.created:
        common.err.print("this key was used before with the same request; this is its job")
    print_job(submitted.job, json)
    if not json and submitted.job.finished_at is None:
        common.err.print(f"accepted; see what became of it with: withdrawals jobs show {submitted.job.id}")


def print_plan(found: answers.Plan, json: bool) -> None:
    """A plan, for a program or a person."""
    if json:
        common.print_json(found.model_dump(mode="json"))
        return
    common.out.print(f"would accept {found.accepted:,} ({found.duplicates:,} duplicates); nothing was written")
    common.out.print(f"learners: {found.learners:,}")
    rows = [(name, f"{count:,}", _sample(found.samples.get(name, []))) for name, count in found.outcomes.items()]
    if rows:
        common.out.print(common.table("outcome", "enrolments", "for example", rows=rows))
    if found.brake:
        common.out.print(f"the brake would hold it: {found.brake_why}")
    common.err.print(f"good until {found.expires_at:%Y-%m-%d %H:%M:%SZ}; apply it with --plan-hash:")
    common.out.print(found.plan_hash, markup=False)


def _sample(samples: Sequence[answers.PlanSample]) -> str:
    return "; ".join(
        f"{one.enrolment_id}"
        + (
            f" ({one.series_title}" + (f", of {one.pathway_title}" if one.pathway_title else "") + ")"
            if one.series_title
            else ""
        )
        for one in samples
    )


def print_job(job: Job, json: bool) -> None:
    """A job, for a program or a person."""
    if json:
        common.print_json(common.job_document(job))
        return
    rows = [
        ("job", job.id),
        ("state", job.state),
        ("held", job.held_why),
        ("reinstates job", job.reinstates),
        ("reason", job.reason),
        ("source", job.source),
        ("requested by", job.requested_by),
        ("note", job.note),
        ("file", job.file_name),
        ("created", job.created_at),
        ("effective", job.effective_at),
        ("finished", job.finished_at),
        ("accepted", f"{job.accepted:,}" + (f" ({job.duplicates:,} duplicates)" if job.duplicates else "")),
        ("outcomes", common.counts(job.outcomes) if job.outcomes or job.finished_at else "none yet"),
        ("reinstated", f"{job.reinstated:,}" if job.reinstated else None),
        ("in flight", job.in_flight),
        ("open dead letters", job.open_dead_letters),
        ("idempotency key", job.idempotency_key),
    ]
    common.out.print(common.table("", "", rows=[row for row in rows if row[1] is not None]))
