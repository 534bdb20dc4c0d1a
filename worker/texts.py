"""Sentences that pages can show in another language.

Python code writes them in English, as `text("{count} of them wait.", count=3)`. The result is that English sentence,
a `str` like any other for logs, the API and the CLI. It remembers its template and its values, so a page in another
language looks the template up in the catalogue and fills in the same values.
"""

from collections.abc import Mapping


class Text(str):
    """A sentence in English that remembers what it was made from."""

    __slots__ = ("template", "values")

    template: str
    """The sentence before its values were filled in; the key of the catalogue."""
    values: Mapping[str, object]


def text(template: str, /, **values: object) -> Text:
    """The English sentence: the template with its values filled in, as `str.format` does."""
    made = Text(template.format(**values))
    made.template, made.values = template, values
    return made
