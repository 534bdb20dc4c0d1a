"""Policies: who may do what without a second person."""

from typing import Annotated

import typer

from ops.cli import common
from ops.cli.common import As, AsJson, Note, Organisation
from schemas.approvals import Policies, PolicyRequest
from schemas.catalogue import GuardedAct
from worker.access import policies
from worker.errors import InvalidInputError

group = typer.Typer(
    no_args_is_help=True, help="Policies: how much of an act one person may do alone, by act, source and size."
)
Rules = Annotated[
    list[str] | None,
    typer.Option(
        "--rule",
        help="ACT=SIZE or ACT:SOURCE=SIZE, can be repeated. One person may do the act alone up to this size; 0: always "
        "needs a second person; any: never. "
        f"Acts: {', '.join(act for act in GuardedAct if act is not GuardedAct.POLICIES)}.",
    ),
]


@group.command("show")
def show(organisation: Organisation = None, json: AsJson = False) -> None:
    """Show the rules that apply now, and those that wait for a second person."""
    with common.database() as db:
        found = policies.read(db, organisation_id=common.organisation_id(db, organisation))
    _print(found, json)


@group.command("set")
def set_policies(
    rule: Rules = None,
    note: Note = None,
    organisation: Organisation = None,
    acting: As = None,
    json: AsJson = False,
) -> None:
    """Set all rules; an act without one follows the default. If somebody else could approve this, it waits for them."""
    wanted = common.parse(PolicyRequest, rules=[_parse(given) for given in rule or []], note=note)
    with common.acting(organisation, acting) as (db, org, who):
        found = policies.replace(db, organisation_id=org, wanted=wanted, who=who)
    _print(found, json)


def _parse(given: str) -> dict[str, str | int | None]:
    what, equals, size = given.partition("=")
    act, _, source = what.partition(":")
    if not equals or not (size == "any" or (size.isascii() and size.isdigit())):
        raise InvalidInputError(f"--rule: {given[:60]!r} is not ACT=SIZE or ACT:SOURCE=SIZE, such as override:hr=10")
    return {"act": act, "source": source or None, "alone_up_to": None if size == "any" else int(size)}


def _print(found: Policies, json: bool) -> None:
    if json:
        common.print_json(found)
        return
    for rule in found.rules:
        default = "" if rule.own else " (default)"
        common.out.print(f"{policies.describe_rule(rule)}{default}", markup=False)
    if found.approval is not None:
        common.out.print(f"approval {found.approval.id} waits: {found.approval.consequence}", markup=False)
