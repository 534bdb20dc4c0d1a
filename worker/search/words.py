"""Words as a search compares them, and the keys by which an index finds them.

All of it is done here and not by extensions of PostgreSQL: `unaccent` and `pg_trgm` need rights that not every database
gives, and know neither `ß` nor an apostrophe in the middle of a name (decision record 0048).
"""

import re
import unicodedata
import zlib
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

RULES = 1
"""The number of these rules. With another number every row is read again; raise it with any change below."""
MOST_WORDS = 8
"""Words of a search that are looked at."""
PART = 3
"""Letters of a part that is looked for anywhere in a word; a shorter one is looked for at its beginning."""

_APOSTROPHES = dict.fromkeys((*b"'`", 0xB4, 0x2B9, 0x2BB, 0x2BC, 0x2018, 0x2019, 0x201B, 0x2032))
"""The signs that people write in names like O'Brien."""
_LETTERS = str.maketrans(
    {
        "æ": "ae",
        "œ": "oe",
        "ø": "o",
        "ð": "d",
        "đ": "d",
        "þ": "th",
        "ł": "l",
        "ħ": "h",
        "ŧ": "t",
        "\u0131": "i",
        "ŋ": "n",
    }
)
"""Letters that Unicode does not take apart."""
_WRITTEN_OUT = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "å": "aa", "ø": "oe"})
"""How these letters are written where they are missing."""
_WORD = re.compile(r"[^\W_]+")
_FIRST_WITHOUT_SPACES = "\u2e80"
"""From here on are the scripts whose words have no spaces between them and are short: each sign counts."""


def fold(text: str) -> str:
    """A text in small letters, without accents and apostrophes."""
    if text.isascii():  # most is, and hundreds of rows are compared in a search
        return text.lower().replace("'", "").replace("`", "")
    small = unicodedata.normalize("NFC", text).casefold().translate(_APOSTROPHES)
    apart = unicodedata.normalize("NFKD", small.translate(_LETTERS))
    return unicodedata.normalize("NFC", "".join(one for one in apart if not unicodedata.combining(one)))


def split(text: str) -> list[str]:
    """The words of a text, as a search compares them."""
    return _WORD.findall(fold(text))


def words_of(names: Iterable[str | None]) -> set[str]:
    """The words by which something with these names is found, also as others may write them."""
    found: set[str] = set()
    for name in names:
        if name:
            found.update(_spellings(name))
            if not name.isascii():
                small = unicodedata.normalize("NFC", name).casefold()
                found.update(_spellings(small.translate(_WRITTEN_OUT)))
    return found - {""}


def _spellings(name: str) -> Iterator[str]:
    """The words of a name; what has no space in it as one word, such as `EMP-42`; `O Brien` as one word."""
    before = ""
    for given in name.split():
        parts = split(given)
        whole = "".join(parts)
        yield from parts
        if "@" not in given:
            yield whole
        if before:
            yield before + whole
        before = whole if len(whole) < PART else ""


def is_found(wanted: Sequence[str], words: Iterable[str]) -> bool:
    """Whether each wanted word is a part of one of the words."""
    known = tuple(words)
    return all(any(_is_part(one, word) for word in known) for one in wanted)


def _is_part(wanted: str, word: str) -> bool:
    return wanted in word if len(wanted) >= PART or _has_signs(wanted) else word.startswith(wanted)


def keys_of(organisation_id: int, kind: str, words: Iterable[str]) -> list[int]:
    """The keys of something with these words."""
    parts = {part for word in words for part in (_whole(word), *_all_parts(word))}
    return sorted({_key(organisation_id, kind, part) for part in parts})


def keys_of_parts(organisation_id: int, kind: str, wanted: Iterable[str]) -> list[int]:
    """The keys that everything has in which each of the wanted words is a part of a word."""
    return sorted({_key(organisation_id, kind, part) for word in wanted for part in _inner_parts(word)})


def keys_of_whole(organisation_id: int, kind: str, wanted: Iterable[str]) -> list[int]:
    """The keys that everything has of which each of the wanted words is a whole word."""
    return sorted({_key(organisation_id, kind, _whole(word)) for word in wanted})


def _whole(word: str) -> str:
    return f"={word}"


def _all_parts(word: str) -> Iterator[str]:
    """Each three letters of a word, with two spaces before it."""
    yield from _slices(f"  {word}", PART)
    if _has_signs(word):
        yield from word
        yield from _slices(word, 2)


def _inner_parts(wanted: str) -> Iterator[str]:
    if len(wanted) >= PART:
        yield from _slices(wanted, PART)
    elif _has_signs(wanted):
        yield wanted
    else:
        yield f"  {wanted}"[-PART:]


def _slices(text: str, size: int) -> Iterator[str]:
    return (text[at : at + size] for at in range(len(text) - size + 1))


def _has_signs(word: str) -> bool:
    return max(word) >= _FIRST_WITHOUT_SPACES


@lru_cache(maxsize=100_000)
def _key(organisation_id: int, kind: str, part: str) -> int:
    """A number of 32 bits. Two parts may have the same one: what is found is compared with the words."""
    return zlib.crc32(f"{organisation_id} {kind} {part}".encode()) - 2**31
