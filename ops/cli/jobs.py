"""Submit, list, show and cancel jobs."""

from collections.abc import Sequence
from typing import Annotated, cast, get_args

import typer

from ops.cli import common
from ops.cli.common import As, AsJson, Cursor, JobId, Key, Limit, Note, Organisation
from ops.cli.filters import parse_filter
from schemas import answers
from schemas.brake import BrakeForecast
from schemas.catalogue import JobState
from schemas.catalogue import Reason as ReasonCode
from schemas.events import PersonEvent
from schemas.job_filter import JobConditions, JobFilter, JobOrder
from schemas.jobs import JobRequest
from worker.errors import InvalidInputError, unknown_value
from worker.jobs import show
from worker.jobs.control import cancel
from worker.jobs.submit import submit
from worker.people import events
from worker.records import Job, Submitted

group = typer.Typer(no_args_is_help=True, help="List and show jobs; pause, resume, move, cancel, release, reinstate.")

Reason = Annotated[
    str,
    typer.Option(help=f"One for the whole job: {', '.join(ReasonCode)}."),
]
_STATES = ", ".join(JobState)
WAITING_SHOWN = 5
"""Held jobs that a plan is compared with, as it is printed."""
ExternalId = Annotated[str, typer.Argument(help="The person's id in the HR system.")]
EffectiveAt = Annotated[
    str | None,
    typer.Option(help="A time with its offset, or a date: the end of that day in the organisation's time zone."),
]


def register(app: typer.Typer) -> None:
    """Put this module's top-level commands on the tree."""
    app.command("submit")(submit_ids)
    app.command("deactivate")(deactivate)
    app.command("reactivate")(reactivate)


def submit_ids(
    reason: Reason,
    ids: Annotated[list[int] | None, typer.Argument(help="Enrolment ids.", show_default=False)] = None,
    learner: Annotated[str | None, typer.Option(help="A learner's external id, for all active enrolments.")] = None,
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
        raise InvalidInputError("give enrolment ids or --learner EXTERNAL_ID, not both")
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
        with common.reporting_key(who):
            submitted = submit(db, who, request)
        print_submitted(submitted, json)


def deactivate(
    external_id: ExternalId,
    effective_at: EffectiveAt = None,
    key: Key = None,
    organisation: Organisation = None,
    acting: As = None,
    json: AsJson = False,
) -> None:
    """Send the event of a deactivated person, which withdraws all their active enrolments."""
    _send_event("user.deactivated", external_id, effective_at, key, organisation, acting, json)


def reactivate(
    external_id: ExternalId,
    key: Key = None,
    organisation: Organisation = None,
    acting: As = None,
    json: AsJson = False,
) -> None:
    """Send the event of a reactivated person. A deactivation that is not applied yet is superseded."""
    _send_event("user.reactivated", external_id, None, key, organisation, acting, json)


def _send_event(
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
        with common.reporting_key(who):
            receipt = events.record(db, who, "cli", event)
        if json:
            common.print_json({"status": receipt.status, "job_id": receipt.job_id, "idempotency_key": who.key})
        else:
            common.out.print(f"{receipt.status}" + (f", job {receipt.job_id}" if receipt.job_id else ""))


@group.command("list")
def list_jobs(
    state: Annotated[JobState | None, typer.Option(metavar="STATE", help=f"One of {_STATES}.")] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(
            "--filter",
            metavar="NAME=VALUE",
            help=f"Repeatable; conditions add up. NAME is one of: {', '.join(JobConditions.model_fields)}.",
        ),
    ] = None,
    sort: Annotated[str, typer.Option(help="Which jobs come first: newest or oldest.")] = "newest",
    limit: Limit = None,
    cursor: Cursor = None,
    only_ids: Annotated[bool, typer.Option("--ids", help="Print only the ids, for other commands.")] = False,
    organisation: Organisation = None,
    json: AsJson = False,
) -> None:
    """List jobs, newest first unless --sort says otherwise."""
    if sort not in get_args(JobOrder):
        raise unknown_value("--sort", sort, get_args(JobOrder))
    with common.in_organisation(organisation) as (db, org):
        most = common.page_size(limit, json or only_ids)
        conditions = parse_filter(JobConditions, where or []).model_dump()
        wanted = JobFilter(**conditions, state=state)
        found = show.list_jobs(
            db, organisation_id=org, wanted=wanted, last=cursor, limit=most, sort=cast("JobOrder", sort)
        )
    if only_ids and not json:
        common.out.print(" ".join(str(job.id) for job in found))
        return
    common.print_list(
        found,
        json,
        columns=("job", "state", "title", "reason", "outcomes"),
        row=lambda job: (job.id, job.state, job.title, job.reason or job.kind, common.counts(job.outcomes)),
        document=common.job_document,
        most=most,
    )


@group.command("show")
def show_job(
    job_id: JobId,
    organisation: Organisation = None,
    json: AsJson = False,
) -> None:
    """Show one job."""
    with common.database() as db:
        print_job(show.show(db, organisation_id=common.organisation_id(db, organisation), job_id=job_id), json)


@group.command("cancel")
def cancel_job(
    job_id: JobId,
    note: Note = None,
    organisation: Organisation = None,
    acting: As = None,
    json: AsJson = False,
) -> None:
    """Cancel the enrolments of a job that are not decided yet."""
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
        common.err.print(f"job {job.id} had already ended, so nothing was cancelled")
        raise typer.Exit(1)


def print_submitted(submitted: Submitted, json: bool) -> None:
    """Print the job that answers a request, and the command that shows its progress."""
    if not json and not submitted.created:
        common.err.print("This key was used before with the same request. This is its job.")
    print_job(submitted.job, json)
    if not json and submitted.job.finished_at is None:
        common.err.print(f"Accepted. To see its progress: withdrawals jobs show {submitted.job.id}")


def print_plan(found: answers.Plan, json: bool) -> None:
    """Print a plan, for a program or a person."""
    if json:
        common.print_json(found)
        return
    print_outcomes(found)
    common.err.print(f"Valid until {found.expires_at:%Y-%m-%d %H:%M:%SZ}. To apply this plan, pass --plan-hash:")
    common.out.print(found.plan_hash, markup=False)


def print_outcomes(found: answers.Plan) -> None:
    """Print what a job would do, and what the brake would do to it."""
    common.out.print(f"Would accept {found.accepted:,} ({found.duplicates:,} duplicates). Nothing was written.")
    common.out.print(f"Learners: {found.learners:,}")
    rows = [(name, f"{count:,}", _describe_all(found.samples.get(name, []))) for name, count in found.outcomes.items()]
    if rows:
        common.out.print(common.table("outcome", "enrolments", "for example", rows=rows))
    print_letters(found)
    print_waiting(found)
    print_forecast(found.brake_forecast)


def print_letters(found: answers.Plan) -> None:
    """Print how many letters are open about enrolments of a plan that a Learning Pathway owns."""
    if found.letters:
        least = "at least " if found.more_letters else ""
        common.out.print(
            f"Open letters about enrolments that a pathway owns: {least}{len(found.letters):,}; --json lists them. A "
            "new request joins the letter of its enrolment."
        )


def print_waiting(found: answers.Plan) -> None:
    """Print the held jobs that name enrolments of a plan as well."""
    if found.brake_forecast.holds:
        here = "This job would be held as well."
    else:
        here = (
            "Withdrawing them here needs no second person: this job is within the limits, and no policy holds it. "
            "The held job then finds them withdrawn already."
        )
    for one in found.waiting[:WAITING_SHOWN]:
        common.out.print(
            f"{one.enrolments:,} of those that would be withdrawn also wait in job {one.job_id}, which is held until a "
            f"second person decides. {here}"
        )
        if one.samples:
            common.out.print(f"  for example {_describe_all(one.samples)}", markup=False)
    if len(found.waiting) > WAITING_SHOWN:
        common.out.print(f"So it is with {len(found.waiting) - WAITING_SHOWN:,} more held jobs; --json lists them.")
    if found.more_held:
        common.out.print("There are more held jobs than were looked at; they may name these enrolments too.")


def print_forecast(found: BrakeForecast) -> None:
    """Print what the brake would do to a job, and the way on."""
    common.out.print(f"The brake would {'hold' if found.holds else 'not hold'} the job. {found.why}")
    for one in found.used_by:
        common.out.print(
            f"  job {one.job_id}: {one.learners:,} learners, requested by {one.requested_by}", markup=False
        )
    if found.way_on:
        common.out.print(found.way_on)


def _describe_all(samples: Sequence[answers.PlanSample]) -> str:
    return "; ".join(_describe(sample) for sample in samples)


def _describe(sample: answers.PlanSample) -> str:
    titles = [title for title in (sample.series_title, sample.pathway_title, sample.protection) if title]
    return f"{sample.enrolment_id}" + (f" ({', of '.join(titles)})" if sample.series_title else "")


def print_job(job: Job, json: bool) -> None:
    """Print a job, for a program or a person."""
    if json:
        common.print_json(common.job_document(job))
        return
    rows = [
        ("job", job.id),
        ("title", job.title),
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
