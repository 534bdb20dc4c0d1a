"""Take back what a job withdrew: `jobs reinstate`."""

from typing import Annotated

import typer

from ops.cli import common, jobs
from ops.cli.common import As, AsJson, Key, Note, Organisation
from ops.cli.filters import parse_filter
from schemas.reinstate import ReinstateFilter, ReinstatePlan, ReinstateRequest
from worker.jobs import reinstate


def register(group: typer.Typer) -> None:
    """Add the command to the group `jobs`."""
    group.command("reinstate")(reinstate_job)


def reinstate_job(
    job_id: Annotated[int, typer.Argument(help="The id of the job to take back.", min=1, max=2**63 - 1)],
    where: Annotated[
        list[str] | None,
        typer.Option(
            "--filter",
            help="Take back only a part. NAME=VALUE, can be repeated: enrolment_ids and learner_ids (with commas), "
            "series_id, pathway_id, enrolled_before and enrolled_after (2026-03-01T00:00:00Z).",
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option(help="Count the outcomes that it would have. Writes nothing.")] = False,
    note: Note = None,
    key: Key = None,
    organisation: Organisation = None,
    acting: As = None,
    json: AsJson = False,
) -> None:
    """Put back what a job withdrew. This makes a new job, with an outcome for each enrolment."""
    part = parse_filter(ReinstateFilter, where) if where else None
    request = common.parse(ReinstateRequest, filter=part, note=note)
    with common.database() as db:
        who = common.requester(db, organisation, acting, key)
        if dry_run:
            _print_plan(reinstate.plan(db, who.organisation_id, job_id, part), json)
            return
        with common.reporting_key(who):
            submitted = reinstate.reinstate(db, who, job_id, request)
        jobs.print_submitted(submitted, json)


def _print_plan(found: ReinstatePlan, json: bool) -> None:
    if json:
        common.print_json(found)
        return
    common.out.print(f"would look at {found.accepted:,} withdrawals; nothing was written")
    if found.outcomes:
        rows = [
            (outcome, f"{count:,}", ", ".join(str(one) for one in found.samples[outcome]))
            for outcome, count in sorted(found.outcomes.items())
        ]
        common.out.print(common.table("outcome", "enrolments", "for example", rows=rows))
