"""Sentences that pages can show in another language.

Python code writes them in English, as `text("{count} of them wait.", count=3)`. The result is that English sentence,
a `str` like any other for logs, the API and the CLI. It remembers its template and its values, so a page in another
language looks the template up in the catalogue and fills in the same values.
"""

from collections.abc import Iterable, Mapping


class Text(str):
    """A sentence in English that remembers what it was made from."""

    __slots__ = ("template", "values")

    template: str
    """The sentence before its values were filled in; the key of the catalogue."""
    values: Mapping[str, object]

    def __str__(self) -> "Text":
        """Itself, so that `str(error)` of an error that was raised with a sentence still knows its template."""
        return self

    def __format__(self, spec: str) -> str:
        """As any string; `lower` is for a label inside a sentence, where other languages may keep its capital;
        `capital` is for words that begin a sentence."""
        match spec:
            case "lower":
                return self.lower()
            case "capital":
                return self[:1].upper() + self[1:]
        return super().__format__(spec)


def text(template: str, /, **values: object) -> Text:
    """The English sentence: the template with its values filled in, as `str.format` does."""
    made = Text(template.format(**values))
    made.template, made.values = template, values
    return made


def joined(parts: Iterable[str], between: str = " ") -> Text:
    """Several sentences or words one after another, each with its own template."""
    values = {f"part{place}": part for place, part in enumerate(parts)}
    return text(between.join(f"{{{name}}}" for name in values), **values)


def plainly(sentence: str) -> Text:
    """A sentence without values that was written elsewhere, such as a label; a brace in it stands for itself."""
    return text(sentence.replace("{", "{{").replace("}", "}}"))


def mark(template: str) -> str:
    """The template as it is. `python -m ops.texts` finds it here; `text` gets it as a variable."""
    return template
