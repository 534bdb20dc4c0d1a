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

    @property
    def question(self) -> Text:
        """Asks whether it was meant."""
        if self.title in ("", self.code):
            return text("Did you mean {code}?", code=self.code)
        return text("Did you mean {code} ({title})?", code=self.code, title=self.title)


def find_near(unknown: Iterable[str], known: Sequence[Known]) -> dict[str, Known]:
    """By code of a file: the Series whose code or title is most like it, where one is like it."""
    by_words = {words.casefold(): one for one in reversed(known) for words in (one.title, one.code) if words}
    found = dict[str, Known]()
    for given in unknown:
        for words in get_close_matches(given.casefold(), by_words, 1, _ALIKE):
            found[given] = by_words[words]
    return found
