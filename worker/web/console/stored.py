"""Sentences that the database keeps in English, as whoever wrote them made them, most of them with values.

A page in another language finds the template of such a sentence here. One that is found nowhere is shown as it is.
"""

import re
from functools import cache

from worker.texts import Text, mark, text

TEMPLATES = (
    mark("by {actor}"),
    mark("it has failed for {count} days, last with {error}"),
    mark("None of {count} attempts came to its end."),
    mark("{count} of the last {of} letters were open again after their attempt"),
    # what approvals are about
    mark("letter {ids}"),
    mark("{count} letters ({ids})"),
    mark("all letters that match ({conditions})"),
    mark("all held jobs"),
    mark("all held jobs ({conditions})"),
    mark("protection {ids}"),
    mark("token {name}"),
    mark("policies"),
    # why a message did not go out; `worker/notifications/child.py` imports nothing of the service
    mark("not sent"),
    mark("not sent ({error})"),
    mark("the server takes no password"),
    mark("the server has no {feature}"),
    mark("certificate not accepted"),
    mark("timed out"),
    mark("the host name does not resolve"),
)
"""A test compares them with the sentences in the code that writes them."""
_NUMBERS = ("count", "of", "ids")
"""Values that are numbers; any other is any text."""


def find(stored: str) -> Text | None:
    """A stored sentence with its template; None where none fits."""
    for template, pattern in _patterns():
        found = pattern.fullmatch(stored)
        if found:
            return text(template, **found.groupdict())
    return None


@cache
def _patterns() -> list[tuple[str, re.Pattern[str]]]:
    return [(template, _as_pattern(template)) for template in TEMPLATES]


def _as_pattern(template: str) -> re.Pattern[str]:
    parts = re.split(r"\{(\w+)\}", template)
    for at, name in enumerate(parts):
        if at % 2:
            parts[at] = f"(?P<{name}>{'[0-9, ]+' if name in _NUMBERS else '.+'})"
        else:
            parts[at] = re.escape(name)
    return re.compile("".join(parts))
