"""What is wrong with a value, as pydantic found it: its messages as sentences that pages can show in another language.

In English they are what the API and the command say, word by word.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from worker.texts import Text, joined, mark, plainly, text

MESSAGES = {
    "missing": (mark("Field required"),),
    "string_type": (mark("Input should be a valid string"),),
    "string_too_short": (
        mark("String should have at least {min_length} character"),
        mark("String should have at least {min_length} characters"),
    ),
    "string_too_long": (
        mark("String should have at most {max_length} character"),
        mark("String should have at most {max_length} characters"),
    ),
    "too_long": (
        mark("List should have at most {max_length} item after validation, not {actual_length}"),
        mark("List should have at most {max_length} items after validation, not {actual_length}"),
    ),
    "int_type": (mark("Input should be a valid integer"),),
    "int_parsing": (mark("Input should be a valid integer, unable to parse string as an integer"),),
    "int_from_float": (mark("Input should be a valid integer, got a number with a fractional part"),),
    "float_type": (mark("Input should be a valid number"),),
    "float_parsing": (mark("Input should be a valid number, unable to parse string as a number"),),
    "bool_parsing": (mark("Input should be a valid boolean, unable to interpret input"),),
    "greater_than": (mark("Input should be greater than {gt}"),),
    "greater_than_equal": (mark("Input should be greater than or equal to {ge}"),),
    "less_than": (mark("Input should be less than {lt}"),),
    "less_than_equal": (mark("Input should be less than or equal to {le}"),),
    "literal_error": (mark("Input should be {expected}"),),
    "enum": (mark("Input should be {expected}"),),
    "extra_forbidden": (mark("Extra inputs are not permitted"),),
}
"""Pydantic's messages by type; of one that counts, singular and plural. A rarer one stays as pydantic has it."""


def say_fault(field: str, fault: Mapping[str, Any]) -> Text:
    """What is wrong with a field, as pydantic found it."""
    return text("{field}: {fault}", field=field, fault=say(fault))


def say_faults(fields: Iterable[str], faults: Iterable[Mapping[str, Any]]) -> Text:
    """What is wrong with several fields, as the API says it in its `detail`."""
    both = zip(fields, faults, strict=False)
    return joined((say_fault(field, fault) if field else say(fault) for field, fault in both), "; ")


def say(fault: Mapping[str, Any]) -> Text:
    """Pydantic's message with its template, where the two agree."""
    said, values = fault["msg"].removeprefix("Value error, "), dict(fault.get("ctx", {}))
    own = values.get("error")
    if isinstance(own, ValueError) and isinstance(made := str(own), Text):
        return made
    if isinstance(expected := values.get("expected"), str) and " or " in expected:
        others, _, last = expected.rpartition(" or ")
        values["expected"] = text("{others} or {last}", others=others, last=last)
    for template in MESSAGES.get(fault["type"], ()):
        try:
            made = text(template, **values)
        except KeyError:  # without its values
            break
        if made == said:
            return made
    return plainly(said)
