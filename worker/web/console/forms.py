"""Forms: what a person typed, as the request that a service takes."""

from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, StringConstraints, ValidationError

from schemas.jobs import Storable
from worker.errors import InvalidInputError, NotFoundError
from worker.ids import parse_id
from worker.reports.filters import find_series_id
from worker.texts import text
from worker.validation_words import say_fault
from worker.web.console.view import View

T = TypeVar("T", bound=BaseModel)
Text = Annotated[str, StringConstraints(max_length=255, strip_whitespace=True), Storable]
"""A line of text that a person typed, such as a name."""
PlatformId = Annotated[str, StringConstraints(max_length=255), Storable]
"""An id of the platform that a person typed, as they typed it; empty: none."""


def parse(model: type[T], **values: Any) -> T:
    """A request from a form's fields.

    Raises:
        InvalidInputError: names the first field that is wrong and says what it takes.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        field = str(fault["loc"][0]) if fault["loc"] else "form"
        raise InvalidInputError(say_fault(field, fault)) from None


def parse_number(given: str, name: str) -> int | None:
    """A whole number that a person typed; None where they typed nothing.

    Raises:
        InvalidInputError: it is not a whole number.
    """
    cleaned = given.replace(",", "").replace(" ", "")
    if not cleaned:
        return None
    if not (cleaned.isascii() and cleaned.isdigit()) or len(cleaned) > 9:
        raise InvalidInputError(text("{field}: enter a whole number", field=name))
    return int(cleaned)


def parse_choice(given: str, name: str) -> int | None:
    """The id of the row that was chosen from a list, None where nothing was chosen.

    Raises:
        InvalidInputError: it is not an id. To leave the condition out instead would select more than was asked for.
    """
    if not given:
        return None
    try:
        return parse_id(given, name)
    except InvalidInputError:
        said = text(
            "{field}: {given!r} is not a valid {field} id; choose one from the list", field=name, given=given[:40]
        )
        raise InvalidInputError(said) from None


def series_id_of(view: View, code: str) -> int | None:
    """The id of the Series with the code that a person typed, None where nothing was typed.

    Raises:
        InvalidInputError: no Series of the organisation has this code.
    """
    if not code:
        return None
    try:
        return find_series_id(view.database, view.organisation_id, code)
    except NotFoundError:
        raise InvalidInputError(text("series: no Series has the code “{code}”", code=code[:40])) from None
