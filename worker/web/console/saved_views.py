"""Saved views at the console: the shelf of each list, and the page on which they are renamed, shared and deleted."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Form
from starlette.responses import Response

from schemas.catalogue import Role
from schemas.saved_views import CONDITIONS, ListName, SavedView, ViewChange, ViewRequest
from worker.errors import ConflictError, InvalidInputError
from worker.ids import LARGEST
from worker.search import saved_views
from worker.texts import joined, text
from worker.web.console.forms import Text, parse
from worker.web.console.render import PATH
from worker.web.console.view import Acting, Looking, View
from worker.web.console.words import word
from worker.web.context import RowId

router = APIRouter(prefix=f"{PATH}/views", include_in_schema=False)

Keeping = Annotated[View, Depends(Acting(Role.VIEWER))]
HERE = f"{PATH}/views"
NAMED = "view"
"""In the address of a list: the view that has led there."""
LISTS = {
    ListName.JOBS: text("Jobs"),
    ListName.DEAD_LETTERS: text("Needs attention"),
    ListName.ENROLMENTS: text("Enrolments of a Series"),
    ListName.LEARNERS: text("Learners"),
}
_PATHS = {
    ListName.JOBS: f"{PATH}/jobs",
    ListName.DEAD_LETTERS: f"{PATH}/dead-letters",
    ListName.LEARNERS: f"{PATH}/enrolments",
}
_OTHER_NAMES = {ListName.JOBS: {"learner_external_id": "learner"}}
"""Conditions that the address of a list names otherwise."""
_LONGEST = 10_000
"""Characters of the conditions that a form carries."""


@dataclass(frozen=True, slots=True)
class Shelf:
    """What a list shows of the views of it."""

    name: ListName
    views: list[SavedView]
    current: SavedView | None
    conditions: str
    """Those of the list as it is shown, as JSON; empty: there are none to save."""
    is_changed: bool
    """Whether the list was narrowed otherwise since it was opened by the current view."""


def shelf(view: View, name: ListName, given: Mapping[str, Any]) -> Shelf:
    """The views of a list. `given`: the conditions of the list as it is shown, by the name of the address."""
    names = {other: condition for condition, other in _OTHER_NAMES.get(name, {}).items()}
    conditions = {names.get(field, field): value for field, value in given.items() if value}
    own_alone = conditions.keys() <= {"series_id"} if name is ListName.ENROLMENTS else not conditions
    found = view.act(partial(saved_views.list_all, list_name=name))
    if name is ListName.ENROLMENTS:  # a Series shows its own
        found = [one for one in found if one.filter.get("series_id") == given.get("series_id")]
    at = view.request.query_params.get(NAMED, "")
    current = next((one for one in found if str(one.id) == at), None)
    is_changed = current is not None and not own_alone and _differs(name, conditions, current)
    return Shelf(name, found, current, "" if own_alone else json.dumps(conditions, default=str), is_changed)


def _differs(name: ListName, conditions: dict[str, Any], current: SavedView) -> bool:
    try:
        return saved_views.parse(name, json.loads(json.dumps(conditions, default=str))) != current.filter
    except InvalidInputError:
        return False  # the list says what is wrong with it


@router.get("")
def show_all(view: Looking) -> Response:
    """One's own views and the shared ones, of every list."""
    return _page(view)


@router.get("/{view_id}")
def open_view(view: Looking, view_id: RowId) -> Response:
    """Go to the list with the filter of a view."""
    found = view.act(partial(saved_views.show, view_id=view_id))
    if found.fault is not None:
        said = text("“{view}” cannot be applied any more. {why}", view=found.name, why=found.fault)
        return view.go(HERE, said, tone="warn")
    return view.go(_address(found.list, found.filter, view=found.id))


@router.post("")
def save(
    view: Keeping,
    list_name: Annotated[ListName, Form(alias="list")],
    conditions: Annotated[str, Form(alias="filter", max_length=_LONGEST)] = "",
    name: Annotated[Text, Form()] = "",
    shared: Annotated[bool, Form()] = False,
) -> Response:
    """Keep the filter of the list under a name. Role: viewer."""
    given = _read(conditions)
    try:
        wanted = parse(ViewRequest, list=list_name, name=name, filter=given, shared=shared)
        made = view.act(partial(saved_views.save, wanted=wanted))
    except (InvalidInputError, ConflictError) as refused:
        return view.go(_back(list_name, given), text("The view was not saved. {why}", why=str(refused)), tone="warn")
    return view.go(_address(made.list, made.filter, view=made.id), text("The view “{view}” is saved.", view=made.name))


@router.post("/{view_id}")
def change(
    view: Keeping, view_id: RowId, name: Annotated[Text, Form()] = "", shared: Annotated[bool, Form()] = False
) -> Response:
    """Give a view of one's own another name, share it, or keep it to oneself. Role: viewer."""
    try:
        wanted = parse(ViewChange, name=name, shared=shared)
        changed = view.act(partial(saved_views.change, view_id=view_id, wanted=wanted))
    except (InvalidInputError, ConflictError) as refused:
        return _page(view, error=str(refused), status=409 if isinstance(refused, ConflictError) else 422)
    return view.go(HERE, text("The view “{view}” is changed.", view=changed.name))


@router.post("/{view_id}/filter")
def change_filter(
    view: Keeping, view_id: RowId, conditions: Annotated[str, Form(alias="filter", max_length=_LONGEST)] = ""
) -> Response:
    """Give a view of one's own the filter of the list as it is shown. Role: viewer."""
    given = _read(conditions)
    try:
        changed = view.act(partial(saved_views.change, view_id=view_id, wanted=parse(ViewChange, filter=given)))
    except (InvalidInputError, ConflictError) as refused:
        return _page(view, error=str(refused), status=409 if isinstance(refused, ConflictError) else 422)
    said = text("The view “{view}” has these filters now.", view=changed.name)
    return view.go(_address(changed.list, changed.filter, view=changed.id), said)


@router.post("/{view_id}/delete")
def delete(view: Keeping, view_id: RowId) -> Response:
    """Delete a view of one's own; an owner deletes any that is shared. Role: viewer."""
    try:
        gone = view.act(partial(saved_views.delete, view_id=view_id, any_shared=view.may(Role.OWNER)))
    except ConflictError as refused:
        return _page(view, error=str(refused), status=409)
    return view.go(HERE, text("The view “{view}” is deleted.", view=gone.name))


def _page(view: View, *, error: str = "", status: int = 200) -> Response:
    found = view.act(saved_views.list_all)
    shown = [
        (one, LISTS[one.list], [(_label(name), _value(name, value)) for name, value in one.filter.items()])
        for one in found
    ]
    return view.page("views.html", status=status, found=shown, error=error)


def _address(name: ListName, conditions: Mapping[str, Any], **more: object) -> str:
    """The list with these conditions."""
    fields = [*CONDITIONS[name].model_fields]  # the database does not keep their order
    ordered = sorted(conditions, key=lambda field: fields.index(field) if field in fields else len(fields))
    given = {**{field: conditions[field] for field in ordered}, **more}
    path = _PATHS.get(name, f"{PATH}/series")
    if name is ListName.ENROLMENTS and str(given.get("series_id")).isdigit():
        path = f"{PATH}/series/{min(int(given.pop('series_id')), LARGEST)}"
    others = _OTHER_NAMES.get(name, {})
    query = {others.get(field, field): _as_field(value) for field, value in given.items()}
    return path + (f"?{urlencode(query, doseq=True)}" if query else "")


def _back(name: ListName, given: dict[str, Any]) -> str:
    """The list whose filter was sent; without the filter if the list does not take it."""
    try:
        return _address(name, saved_views.parse(name, given))
    except InvalidInputError:
        return _PATHS.get(name, f"{PATH}/series")


def _as_field(value: Any) -> Any:
    return str(value).lower() if isinstance(value, bool) else value


def _read(conditions: str) -> dict[str, Any]:
    try:
        found = json.loads(conditions or "{}")
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise InvalidInputError(text("The form is incomplete. Reload the page, and send it again."))
    return found


def _label(name: str) -> str:
    return word(name.removesuffix("_external_id").removesuffix("_id"))


def _value(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return text("yes") if value else text("no")
    if isinstance(value, list):
        return joined((_value(name, one) for one in value), ", ")
    return word(value) if name in ("code", "state", "status", "source", "reason") else str(value)
