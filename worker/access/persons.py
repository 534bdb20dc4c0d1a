"""Who acts, and whether two who act are known to be one person."""

import re
import unicodedata
from dataclasses import dataclass

_KIND = re.compile(r"(token|cli):")


@dataclass(frozen=True, slots=True)
class Actor:
    """Somebody who decides."""

    name: str
    """As the audit has it: `token:ada`, `cli:ada`, or what `--as` says."""
    made_by: str | None = None
    """Who created the token; None: no token."""

    def is_known_to_be(self, other: "Actor") -> bool:
        """Whether both have one name, whatever they came through, or one of them created the other's token.

        Whoever creates a token sees it, and can act by it.
        """
        me, them = _person(self.name), _person(other.name)
        made = self.made_by is not None and _person(self.made_by) == them
        makes = other.made_by is not None and _person(other.made_by) == me
        return me == them or made or makes


def _person(name: str) -> str:
    return unicodedata.normalize("NFKC", _KIND.sub("", name, count=1)).strip().casefold()
