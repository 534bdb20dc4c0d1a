"""Filters on the command line: `--filter NAME=VALUE`, repeatable, checked by the filter's model."""

from collections.abc import Sequence
from typing import Any, TypeVar

from pydantic import BaseModel

from ops.cli import common
from worker.errors import InvalidInputError
from worker.ids import parse_id

_ID_LISTS = ("ids", "enrolment_ids", "learner_ids")
_IDS = ("series_id", "pathway_id")

Model = TypeVar("Model", bound=BaseModel)


def parse_filter(model: type[Model], pairs: Sequence[str]) -> Model:
    """A filter from NAME=VALUE; a list takes commas, and its name may be repeated.

    Raises:
        InvalidInputError: a pair is not NAME=VALUE, the model has no such name, or a value is invalid.
    """
    values: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or name not in model.model_fields:
            known = ", ".join(model.model_fields)
            raise InvalidInputError(f"--filter {pair}: give NAME=VALUE. NAME is one of: {known}.")
        if name in _ID_LISTS:
            values.setdefault(name, []).extend(parse_id(part, f"--filter {name}") for part in value.split(","))
        elif name == "status":
            values.setdefault(name, []).extend(part.strip() for part in value.split(","))
        else:
            values[name] = parse_id(value, f"--filter {name}") if name in _IDS else value
    found = common.parse(model, **values)
    assert isinstance(found, model)  # noqa: S101 - for the type checker
    return found
