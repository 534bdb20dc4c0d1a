"""Forms: what a person typed, as the request that a service takes."""

from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from worker.errors import InvalidInputError

T = TypeVar("T", bound=BaseModel)


def parse(model: type[T], **values: Any) -> T:
    """A request from a form's fields.

    Raises:
        InvalidInputError: names the first field that is wrong and says what it takes.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        where = str(fault["loc"][0]) if fault["loc"] else "form"
        raise InvalidInputError(f"{where}: {fault['msg'].removeprefix('Value error, ')}") from None


def a_row(what: str, given: str) -> int:
    """The id of a row.

    Raises:
        InvalidInputError: it is none.
    """
    if not (len(given) < 20 and given.isascii() and given.isdigit() and 0 < int(given) < 2**63):
        raise InvalidInputError(f"{what}: {given[:40]!r} is no number of one; choose one of the list")
    return int(given)


def row_id(what: str, given: str) -> int | None:
    """The id of a row, None where nothing was chosen.

    Raises:
        InvalidInputError: it is none; to leave it out instead would mean more than was asked for.
    """
    return a_row(what, given) if given else None
