"""Take back what a job withdrew: `jobs reinstate`."""

from typing import Annotated, Any

import typer

from ops.cli import common, jobs
from ops.cli.common import As, AsJson, Key, Note, Organisation
from schemas.reinstate import Part, ReinstatePlan, ReinstateRequest
from worker.errors import InvalidInputError
from worker.jobs import reinstate

_SEVERAL = ("enrolment_ids", "learner_ids")
_NUMBERS = (*_SEVERAL, "series_id", "pathway_id")


def register(_: typer.Typer) -> None:
    """Put the command among those of jobs."""
    jobs.group.command("reinstate")(reinstate_job)


def reinstate_job(
    job_id: Annotated[int, typer.Argument(help="The number of the job to take back.", min=1, max=2**63 - 1)],
    where: Annotated[
        list[str] | None,
        typer.Option(
            "--filter",
            help="Only a part, NAME=VALUE, repeatable: enrolment_ids and learner_ids (commas allowed), series_id, "
            "pathway_id, enrolled_before and enrolled_after (2026-03-01T00:00:00Z).",
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option(help="Count the outcomes it would have; write nothing.")] = False,
    note: Note = None,
    key: Key = None,
    organisation: Organisation = None,
    acting: As = None,
    json: AsJson = False,
) -> None:
    """Put back what a job withdrew: a job of its own, with an outcome for each enrolment."""
    part = common.parse(Part, **_conditions(where)) if where else None
    request = common.parse(ReinstateRequest, filter=part, note=note)
    with common.database() as db:
        who = common.requester(db, organisation, acting, key)
        if dry_run:
            _print_plan(reinstate.plan(db, who.organisation_id, job_id, part), json)
            return
        with common.reporting_key(who):
            submitted = reinstate.reinstate(db, who, job_id, request)
        jobs.print_submitted(submitted, json)


def _conditions(pairs: list[str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or name not in Part.model_fields:
            known = ", ".join(Part.model_fields)
            raise InvalidInputError(f"--filter {pair}: give NAME=VALUE, with NAME one of {known}")
        if name in _SEVERAL:
            values.setdefault(name, []).extend(_number(name, item.strip()) for item in value.split(","))
        else:
            values[name] = _number(name, value) if name in _NUMBERS else value
    return values


def _number(name: str, value: str) -> int:
    try:
        return int(value)
    except ValueError:
        raise InvalidInputError(f"--filter {name}: {value[:40]!r} is not a number") from None


def _print_plan(found: ReinstatePlan, json: bool) -> None:
    if json:
        common.print_json(found.model_dump(mode="json"))
        return
    common.out.print(f"would take {found.accepted:,} withdrawals up; nothing was written")
    if found.outcomes:
        rows = [
            (outcome, f"{count:,}", ", ".join(str(one) for one in found.samples[outcome]))
            for outcome, count in sorted(found.outcomes.items())
        ]
        common.out.print(common.table("outcome", "enrolments", "such as", rows=rows))
    if found.brake:
        common.out.print(f"the brake would hold it until a second person releases it: {found.learners:,} learners")
