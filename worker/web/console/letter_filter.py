"""The filter of dead letters in an address and in a form: what a person chose, and what it stands for."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import Depends
from pydantic import ValidationError
from starlette.datastructures import ImmutableMultiDict

from schemas.dead_letters import NOBODY, LetterFilter
from worker.dead_letters import desk
from worker.errors import InvalidInputError
from worker.ids import parse_id
from worker.texts import text
from worker.validation_words import say_fault
from worker.web.console.forms import series_id_of
from worker.web.console.times import parse_days
from worker.web.console.view import Looking, Operating, View
from worker.web.console.words import word

MINE = "mine"
"""In an address: letters of whoever looks, so that the same link serves everybody."""
FIELDS = tuple(LetterFilter.model_fields)
WHAT, TICKED = "what", "ticked"
"""In an address: `what=ticked`, the act is for the letters that are `ticked`. Without any it must not be for all."""
DAY = re.compile("[0-9]{4}-[0-9]{2}-[0-9]{2}")
SERIES = "series"
"""In an address: the code of a Series, as people type it."""
_LABELS = {
    "ids": text("Letters"),
    "code": text("Kind"),
    "job_id": text("Job"),
    "run_id": text("Run"),
    "assignee": text("Looked after by"),
    "series_id": text("Series number"),
    "learner_external_id": text("Learner"),
    "older_than": text("Opened before"),
    "newer_than": text("Opened after"),
    "changed": text("Changed since"),
}
"""Labels that are not the field's own name."""


@dataclass(frozen=True, slots=True)
class ChosenFilter:
    """Which letters are meant."""

    filter: LetterFilter
    given: dict[str, str]
    """As it stands in the address, without what was left empty."""

    def at(self, path: str, **more: object) -> str:
        """An address with this filter; `more` is added to it, None takes a condition out."""
        query = {name: value for name, value in {**self.given, **more}.items() if value is not None}
        return path + (f"?{urlencode(query)}" if query else "")

    @property
    def chosen(self) -> dict[str, str]:
        """Every condition as a form shows it."""
        return {**dict.fromkeys((*FIELDS, SERIES), ""), **self.given}

    @property
    def fixed(self) -> dict[str, str]:
        """The conditions for a form: ages have become times, so that the form sent twice means the same letters."""
        return as_fields(self.filter.model_dump(mode="json", exclude_none=True))

    @property
    def words(self) -> list[tuple[str, str]]:
        """The conditions for a person."""
        return describe_conditions(self.filter.model_dump(mode="json"))


def as_fields(conditions: Mapping[str, Any]) -> dict[str, str]:
    """Conditions as an address or a form has them."""
    return {name: _as_field(value) for name, value in conditions.items()}


def _as_field(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def describe_conditions(conditions: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Conditions of a filter with their labels, those that are set."""
    return [(_label(name), _value(name, conditions[name])) for name in FIELDS if conditions.get(name) is not None]


def of_query(view: Looking) -> ChosenFilter:
    """The filter in the address.

    Raises:
        InvalidInputError: names the condition and says what it takes.
    """
    return _parse(view, view.request.query_params)


async def of_form(view: Operating) -> ChosenFilter:
    """The filter that a form carried; as `of_query`."""
    return _parse(view, await view.request.form())


InQuery = Annotated[ChosenFilter, Depends(of_query)]
InForm = Annotated[ChosenFilter, Depends(of_form)]


def _parse(view: View, values: ImmutableMultiDict[str, Any]) -> ChosenFilter:
    given = {name: str(values.get(name, "")).replace("\0", "").strip() for name in (*FIELDS, SERIES)}
    given["ids"] = _join_ids(values, "ids")
    if values.get(WHAT) == TICKED:  # whatever filter their list had
        given = {"ids": _join_ids(values, TICKED)}
        if not given["ids"]:
            raise InvalidInputError(text("Nothing is selected. Go back to the list and tick the letters."))
    given = {name: value for name, value in given.items() if value}
    meant: dict[str, Any] = {name: value for name, value in given.items() if name != SERIES}
    if "ids" in given:
        meant["ids"] = [parse_id(one, "ids") for one in given["ids"].split(",")]
    if SERIES in given:
        meant["series_id"] = series_id_of(view, given[SERIES])
    if meant.get("assignee") == MINE:
        meant["assignee"] = view.caller.name
    if DAY.fullmatch(meant.get("newer_than", "")):
        after, _ = parse_days(meant["newer_than"], "", view.zone)
        meant["newer_than"] = after
    for name in ("older_than", "newer_than"):
        if isinstance(meant.get(name), str):
            meant[name] = desk.parse_older_than(meant[name])
    try:
        return ChosenFilter(LetterFilter.model_validate(meant), given)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        raise InvalidInputError(say_fault(_label(str(fault["loc"][0])), fault)) from None


def _join_ids(values: ImmutableMultiDict[str, Any], name: str) -> str:
    return ",".join(filter(None, (str(one).strip() for one in values.getlist(name))))


def _label(name: str) -> str:
    return _LABELS.get(name) or word(name)


def _value(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return text("yes") if value else text("no")
    if name == "ids":
        return text("{count:,} selected", count=len(value))
    if name == "assignee" and value == NOBODY:
        return text("Unassigned")
    if name in ("older_than", "newer_than"):
        return str(value)[:16].replace("T", " ") + " UTC"
    return word(value) if name in ("code", "state", "source", "reason") else str(value)
