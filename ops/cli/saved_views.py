"""Saved views: filters of lists that people keep under a name."""

from typing import Annotated, Any

import typer

from ops.cli import common
from ops.cli.common import As, AsJson, Organisation
from schemas.saved_views import ListName, SavedView, ViewChange, ViewRequest
from worker.errors import InvalidInputError, unknown_value
from worker.search import saved_views

group = typer.Typer(
    no_args_is_help=True, help="Saved views: filters of lists, kept under a name: list, save, change, delete."
)
ViewId = Annotated[int, typer.Argument(help="The view's id.", callback=common.refuse_large_id("view"))]
Where = Annotated[
    list[str] | None,
    typer.Option(
        "--where", help="A condition as NAME=VALUE, such as state=held or older_than=3d. Repeat it for several."
    ),
]


@group.command("list")
def list_views(
    list_name: Annotated[str | None, typer.Option("--list", help=f"Only of: {', '.join(ListName)}.")] = None,
    organisation: Organisation = None,
    acting: As = None,
    json: AsJson = False,
) -> None:
    """List the views of whoever acts, and those that are shared."""
    wanted = None if list_name is None else _parse_list(list_name, "--list")
    with common.acting(organisation, acting) as (db, org, who):
        found = saved_views.list_all(db, organisation_id=org, who=who, list_name=wanted)
    common.print_list(
        found,
        json,
        columns=("view", "list", "name", "filter", "shared", "owner", "fault"),
        row=lambda one: (one.id, one.list, one.name, _describe(one), one.shared, one.owner, one.fault),
        document=lambda one: one.model_dump(mode="json"),
    )


@group.command("save")
def save(
    list_name: Annotated[str, typer.Argument(metavar="LIST", help=f"One of: {', '.join(ListName)}.")],
    name: Annotated[str, typer.Argument(help="Its name.")],
    where: Where = None,
    shared: Annotated[bool, typer.Option("--shared", help="Everybody of the organisation sees it.")] = False,
    organisation: Organisation = None,
    acting: As = None,
    json: AsJson = False,
) -> None:
    """Keep a filter under a name."""
    wanted = common.parse(
        ViewRequest, list=_parse_list(list_name, "LIST"), name=name, filter=_parse_where(where), shared=shared
    )
    with common.acting(organisation, acting) as (db, org, who):
        made = saved_views.save(db, organisation_id=org, wanted=wanted, who=who)
    common.print_record(made.model_dump(mode="json"), json, said=f"view {made.id}: {made.name}")


@group.command("change")
def change(
    view_id: ViewId,
    name: Annotated[str | None, typer.Option(help="Another name.")] = None,
    where: Where = None,
    shared: Annotated[
        bool | None, typer.Option("--shared/--private", help="Whether everybody of the organisation sees it.")
    ] = None,
    organisation: Organisation = None,
    acting: As = None,
    json: AsJson = False,
) -> None:
    """Give a view another name, filter or sharing. What is left out stays."""
    wanted = common.parse(ViewChange, name=name, filter=_parse_where(where) or None, shared=shared)
    with common.acting(organisation, acting) as (db, org, who):
        changed = saved_views.change(db, organisation_id=org, view_id=view_id, wanted=wanted, who=who)
    common.print_record(changed.model_dump(mode="json"), json, said=f"view {changed.id}: {changed.name}")


@group.command("delete")
def delete(view_id: ViewId, organisation: Organisation = None, acting: As = None, json: AsJson = False) -> None:
    """Delete a view, or one of anybody that is shared."""
    with common.acting(organisation, acting) as (db, org, who):
        gone = saved_views.delete(db, organisation_id=org, view_id=view_id, who=who, any_shared=True)
    common.print_record(gone.model_dump(mode="json"), json, said=f"View {gone.id} ({gone.name}) is deleted.")


def _parse_list(given: str, name: str) -> ListName:
    if given not in list(ListName):
        raise unknown_value(name, given, list(ListName))
    return ListName(given)


def _parse_where(given: list[str] | None) -> dict[str, Any]:
    """Conditions by name; one that is given several times is a list."""
    found: dict[str, Any] = {}
    for one in given or []:
        name, equals, value = one.partition("=")
        if not equals:
            raise InvalidInputError(f"--where: {one[:60]!r} is not NAME=VALUE, such as state=held")
        found.setdefault(name, []).append(value)
    return {name: values if len(values) > 1 or name == "status" else values[0] for name, values in found.items()}


def _describe(one: SavedView) -> str:
    return ", ".join(f"{name}={value}" for name, value in one.filter.items())
