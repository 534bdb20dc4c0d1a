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
