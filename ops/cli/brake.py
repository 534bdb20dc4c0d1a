"""The brake's limits of an organisation."""

from typing import Annotated

import typer

from ops.cli import common
from ops.cli.common import As, AsJson, Organisation
from schemas.answers import BrakeLimits
from schemas.control import BrakeSetting
from worker.jobs import brake

group = typer.Typer(
    no_args_is_help=True, help="Show and set the limits of the brake, which holds an abnormal volume of withdrawals."
)


@group.command("show")
def show(organisation: Organisation = None, json: AsJson = False) -> None:
    """Show the limits, and how much of the window is used."""
    with common.database() as db:
        found = brake.show(db, organisation_id=common.organisation_id(db, organisation))
    _print(found, json)


@group.command("set")
def set_limits(
    floor: Annotated[int | None, typer.Option(help="Learners that may always be withdrawn in one window.")] = None,
    share: Annotated[
        float | None, typer.Option(help="Share of the learners, from 0 to 1, that may be withdrawn in one window.")
    ] = None,
    hours: Annotated[int | None, typer.Option(help="Length of the rolling window in hours, from 1 to 720.")] = None,
    organisation: Organisation = None,
    acting: As = None,
    json: AsJson = False,
) -> None:
    """Set all limits: a limit that is left out follows the service's default."""
    wanted = common.parse(BrakeSetting, floor=floor, share=share, hours=hours)
    with common.database() as db:
        org = common.organisation_id(db, organisation)
        found = brake.set_limits(db, organisation_id=org, wanted=wanted, actor=common.actor(acting))
    _print(found, json)


def _print(found: BrakeLimits, json: bool) -> None:
    if json:
        common.print_json(found.model_dump())
        return
    limit = max(found.floor, int(found.share * found.population))
    rows = [
        (name, f"{getattr(found, name):,}" if name != "share" else f"{found.share:.4g}", meaning)
        for name, meaning in (
            ("floor", "learners that may always be withdrawn in one window" + _default("floor", found)),
            ("share", "share of the learners that may be withdrawn in one window" + _default("share", found)),
            ("hours", "the rolling window, in hours" + _default("hours", found)),
            ("population", "learners active now, and those deactivated in the window"),
            ("volume", f"learners admitted in the window; past {limit:,} work is held"),
            ("held", "jobs that wait for a second person"),
        )
    ]
    common.out.print(common.table("", "", "", rows=rows))


def _default(name: str, found: BrakeLimits) -> str:
    return "" if name in found.own else " (default)"
