"""The Series that somebody may have meant whose code in a file is none. Pure."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import NamedTuple

from worker.texts import Text, text

_ALIKE = 0.75
"""The least ratio at which two codes or titles are taken for one that was mistyped; 1 is the same."""


class Known(NamedTuple):
    """A Series as the platform has it."""

    code: str
    title: str


def find_near(unknown: Iterable[str], known: Sequence[Known]) -> dict[str, Text]:
    """By code of a file: a question for the Series whose code or title is most like it, where one is like it."""
    by_words = {words.casefold(): one for one in reversed(known) for words in (one.title, one.code) if words}
    found = dict[str, Text]()
    for given in unknown:
        for words in get_close_matches(given.casefold(), by_words, 1, _ALIKE):
            found[given] = _ask(by_words[words])
    return found


def _ask(one: Known) -> Text:
    if one.title in ("", one.code):
        return text("Did you mean {code}?", code=one.code)
    return text("Did you mean {code} ({title})?", code=one.code, title=one.title)
