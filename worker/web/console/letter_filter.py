"""The filter of dead letters in an address and in a form: what a person chose, and what it stands for."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import Depends, Form
from pydantic import ValidationError

from schemas.dead_letters import LetterFilter
from worker.dead_letters import desk
from worker.errors import InvalidInputError
from worker.web.console.view import Looking, Operating, View
from worker.web.console.words import word

MINE = "mine"
"""In an address: letters of whoever looks, so that the same link serves everybody."""
_LABELS = {
    "code": "Kind",
    "state": "State",
    "job_id": "Job",
    "source": "Source",
    "fingerprint": "Fingerprint",
    "assignee": "Looked after by",
    "older_than": "Opened before",
    "changed": "Changed since",
    "overdue": "Overdue",
}


@dataclass(frozen=True, slots=True)
class Wanted:
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
        return {**dict.fromkeys(_LABELS, ""), **self.given}

    @property
    def fixed(self) -> dict[str, str]:
        """The conditions for a form: ages have become times, so that the form sent twice means the same letters."""
        return as_given(self.filter.model_dump(mode="json", exclude_none=True))

    @property
    def words(self) -> list[tuple[str, str]]:
        """The conditions for a person."""
        return in_words(self.filter.model_dump(mode="json"))


def as_given(conditions: Mapping[str, Any]) -> dict[str, str]:
    """Conditions as an address or a form has them."""
    return {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in conditions.items()}


def in_words(conditions: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Conditions of a filter with their names, those that are set."""
    return [(label, _said(name, conditions.get(name))) for name, label in _LABELS.items() if _is_set(conditions, name)]


def of_query(view: Looking) -> Wanted:
    """The filter in the address.

    Raises:
        InvalidInputError: names the condition and says what it takes.
    """
    return _wanted(view, {name: view.request.query_params.get(name, "") for name in _LABELS})


def of_form(
    view: Operating,
    code: Annotated[str, Form()] = "",
    state: Annotated[str, Form()] = "",
    job_id: Annotated[str, Form()] = "",
    source: Annotated[str, Form()] = "",
    fingerprint: Annotated[str, Form()] = "",
    assignee: Annotated[str, Form()] = "",
    older_than: Annotated[str, Form()] = "",
    changed: Annotated[str, Form()] = "",
    overdue: Annotated[str, Form()] = "",
) -> Wanted:
    """The filter that a form carried; as `of_query`."""
    values = (code, state, job_id, source, fingerprint, assignee, older_than, changed, overdue)
    return _wanted(view, dict(zip(_LABELS, values, strict=True)))


InQuery = Annotated[Wanted, Depends(of_query)]
InForm = Annotated[Wanted, Depends(of_form)]


def _wanted(view: View, values: Mapping[str, str]) -> Wanted:
    given = {name: value.strip() for name, value in values.items() if value.strip()}
    meant = dict(given)
    if meant.get("assignee") == MINE:
        meant["assignee"] = view.caller.name
    if "older_than" in meant:
        meant["older_than"] = desk.moment(meant["older_than"])
    try:
        return Wanted(LetterFilter.model_validate(meant), given)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        where = _LABELS.get(str(fault["loc"][0]), "filter")
        raise InvalidInputError(f"{where}: {fault['msg'].removeprefix('Value error, ')}") from None


def _is_set(conditions: Mapping[str, Any], name: str) -> bool:
    return conditions.get(name) is not None


def _said(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if name == "assignee" and value == "none":
        return "nobody"
    if name == "older_than":
        return str(value)[:16].replace("T", " ") + " UTC"
    return word(value) if name in ("code", "state", "source") else str(value)
