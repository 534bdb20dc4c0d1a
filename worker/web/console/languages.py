"""The languages of the pages: which one a request gets, and how it says sentences, numbers and times.

Pages are written in English. `locale/<code>/LC_MESSAGES/messages.po` has the other languages; see
`ops/decisions/0056-languages.md`. Only pages are translated: logs, mails, files and the API are English.
"""

import io
import string
from collections.abc import Mapping
from datetime import date, datetime
from functools import cache, cached_property
from gettext import NullTranslations
from pathlib import Path
from typing import Any

from babel import Locale, negotiate_locale
from babel.dates import format_date, format_datetime
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from babel.numbers import format_decimal, get_decimal_symbol, get_group_symbol
from babel.support import Translations
from starlette.requests import Request

from worker.access.persons import with_names
from worker.texts import Text, mark, text

LOCALE = Path(__file__).parent / "locale"
COOKIE = "withdrawals_language"
"""Cookie: the language that somebody chose for this browser. Without it the browser's own languages decide."""
ENGLISH = "en"
MOST_PREFERRED = 20
"""Languages of a browser that are looked at; it names a few."""

PATTERNS = {
    "pattern of a day": "d MMM yyyy",
    "pattern of a day without its year": "d MMM",
    "pattern of a time": "d MMM yyyy, HH:mm",
}
"""How a day and a time are written, in CLDR's letters; translated like sentences, by these contexts."""
_SPECS = {
    "%-d %b %Y": "pattern of a day",
    "%-d %b": "pattern of a day without its year",
    "%-d %b %Y, %H:%M": "pattern of a time",
}
"""The same patterns as a sentence's template has them, for `strftime`."""


class Language:
    """One language: its catalogue, and its way to write numbers and times."""

    def __init__(self, code: str) -> None:
        self.code = code
        self.locale = Locale.parse(code, sep="-")

    @property
    def name(self) -> str:
        """Its name in itself: `Deutsch`."""
        return (self.locale.get_display_name(self.locale) or self.code).capitalize()

    @cached_property
    def translations(self) -> NullTranslations:
        """The catalogue. It is read once, when the first page in this language is shown."""
        if self.code == ENGLISH:
            return NullTranslations()
        with (LOCALE / self.code / "LC_MESSAGES" / "messages.po").open("rb") as file:
            catalogue = read_po(file, locale=self.code)
        compiled = io.BytesIO()
        write_mo(compiled, catalogue)
        compiled.seek(0)
        return Translations(compiled)

    def say(self, sentence: str) -> str:
        """A sentence in this language; one that does not know its template as it is."""
        if not isinstance(sentence, Text):
            return sentence
        template = self.translations.gettext(sentence.template)
        return _Filled(self).vformat(template, (), sentence.values)

    def show(self, value: Any) -> Any:
        """A value for a page: a sentence in this language, anything else as it is."""
        return self.say(value) if isinstance(value, Text) else value

    def look_up(self, sentence: str) -> str:
        """A sentence that was stored in English, without values, if the catalogue has it; else as it is."""
        return self.translations.gettext(sentence) if sentence else sentence

    def number(self, value: float, spec: str = ",") -> str:
        """A number, grouped; `spec` as Python's formats have it."""
        if self.code == ENGLISH:
            return format(value, spec)
        if spec == "," and isinstance(value, int):
            return format_decimal(value, locale=self.locale)
        symbols = {",": get_group_symbol(self.locale), ".": get_decimal_symbol(self.locale)}
        return format(value, spec).translate({ord(english): own for english, own in symbols.items()})

    def day(self, at: date) -> str:
        """A day: `28 Nov 2026`."""
        return self._write(at, "pattern of a day")

    def time(self, at: datetime) -> str:
        """A time to the minute, as its zone shows it: `28 Nov 2026, 14:05`."""
        return self._write(at, "pattern of a time")

    def inside(self, label: str) -> str:
        """A label inside a sentence. English begins it with a small letter; a German noun keeps its capital."""
        return label.lower() if self.code == ENGLISH else self.say(label)

    def at_start(self, label: str) -> str:
        """A label at the start of a sentence."""
        said = self.say(label)
        return said.capitalize() if self.code == ENGLISH else said[:1].upper() + said[1:]

    def formatted(self, value: object, spec: str) -> str:
        """A value inside a sentence, with the format that its template gives it."""
        match value:
            case Text() if spec == "capital":
                said = self.say(value)
                return said[:1].upper() + said[1:]
            case Text():
                return self.inside(value) if spec == "lower" else format(self.say(value), spec)
            case int() | float() if spec and not isinstance(value, bool):
                return self.number(value, spec)
            case date() if spec in _SPECS:
                return self._write(value, _SPECS[spec])
            case str() if not spec:
                return with_names(value)
        return format(value, spec)

    def _write(self, at: date, context: str) -> str:
        pattern = self.translations.pgettext(context, PATTERNS[context])
        if isinstance(at, datetime):
            return format_datetime(at.replace(tzinfo=None), pattern, locale=self.locale)  # as its own zone shows it
        return format_date(at, pattern, locale=self.locale)


class _Filled(string.Formatter):
    """Fills values into a template, each in the way of a language."""

    def __init__(self, language: Language) -> None:
        self.language = language

    def format_field(self, value: Any, format_spec: str) -> str:
        return self.language.formatted(value, format_spec)


@cache
def language(code: str) -> Language:
    """The language with this code, one of `codes`."""
    return Language(code)


@cache
def codes() -> tuple[str, ...]:
    """English, and every language that has a catalogue."""
    return ENGLISH, *sorted(found.parent.parent.name for found in LOCALE.glob("*/LC_MESSAGES/messages.po"))


def language_of(request: Request) -> Language:
    """What a page speaks: the language that was chosen, else the browser's best one that there is, else English."""
    chosen = request.cookies.get(COOKIE)
    if chosen in codes():
        return language(chosen)
    found = negotiate_locale(_preferred(request.headers.get("accept-language", "")), codes(), sep="-")
    return language(found.lower() if found else ENGLISH)


def _preferred(header: str) -> list[str]:
    """The languages of `Accept-Language` (RFC 9110, 12.5.4), the best first, without those that are refused."""
    weighed = []
    for part in header.split(",")[:MOST_PREFERRED]:
        tag, _, weight = part.partition(";")
        try:
            weighed.append((float(weight.strip().removeprefix("q=") or 1), tag.strip()))
        except ValueError:
            continue
    return [tag for weight, tag in sorted(weighed, key=lambda one: -one[0]) if tag and weight > 0]


_UNITS = (("days", 172_800, 86_400), ("hours", 7_200, 3_600), ("minutes", 120, 60), ("seconds", 0, 1))
"""The units of a length of time: from how many seconds on each is used, and its seconds."""
_SPANS = {
    "days": mark("{count} days"),
    "hours": mark("{count} h"),
    "minutes": mark("{count} min"),
    "seconds": mark("{count} s"),
}
_PAST = {
    "days": mark("{count} days ago"),
    "hours": mark("{count} h ago"),
    "minutes": mark("{count} min ago"),
    "seconds": mark("{count} s ago"),
}
_FUTURE = {
    "days": mark("in {count} days"),
    "hours": mark("in {count} h"),
    "minutes": mark("in {count} min"),
    "seconds": mark("in {count} s"),
}


def span(seconds: float) -> Text:
    """A length of time in its largest unit: `40 s`, `3 min`, `5 h`, `12 days`."""
    return _in_largest_unit(seconds, _SPANS)


def ago(seconds: float) -> Text:
    """How long ago something was, or how long until it, where `seconds` is below zero."""
    if abs(seconds) < 5:
        return text("now")
    return _in_largest_unit(abs(seconds), _PAST if seconds > 0 else _FUTURE)


def _in_largest_unit(seconds: float, templates: Mapping[str, str]) -> Text:
    unit, length = next((unit, length) for unit, least, length in _UNITS if seconds >= least or not least)
    return text(templates[unit], count=int(seconds // length))
