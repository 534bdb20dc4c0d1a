"""The catalogue of the console's texts: `python -m ops.texts` writes `worker/web/console/locale/*/…/messages.po` anew.

It collects every sentence that a page can show: from the templates, from `text("…")` and `mark("…")` in Python, and
from the labels and sentences of `schemas`. What was translated stays; what no page shows any more goes.
`--merge FILE` takes translations over from another PO file. A test compares the committed catalogues with the code.
"""

import argparse
import ast
import importlib
import io
import pkgutil
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from string import Formatter

from babel.messages.catalog import Catalog, Message
from babel.messages.pofile import read_po, write_po
from jinja2.ext import extract_from_ast

import schemas
from schemas.catalogue import Entry
from schemas.reports import Bound
from worker.web.console.languages import ENGLISH, LOCALE, PATTERNS, codes
from worker.web.console.render import HERE, environment

ROOT = Path(__file__).parents[1]
WIDTH = 120
_VALUES = re.compile(r"\{[^}]*\}|%\(\w+\)[sd]")
Key = tuple[str | None, str | tuple[str, str]]
"""A message's context, and its English: of one with a plural both forms."""


@dataclass(frozen=True, slots=True)
class Found:
    """A message, and the file that shows it."""

    key: Key
    path: str

    @property
    def english(self) -> str:
        """The message; of one with a plural its first form."""
        words = self.key[1]
        return words if isinstance(words, str) else words[0]


def collect() -> list[Found]:
    """Every message that a page can show. One of values alone says the same in every language."""
    found = [*_in_templates(), *_in_python(), *_in_schemas()]
    return [one for one in found if re.search("[^\\W\\d_]", _VALUES.sub("", one.english))] + [*_patterns()]


def _in_templates() -> Iterator[Found]:
    found = environment(ENGLISH)
    for path in sorted((HERE / "templates").glob("*.html")):
        tree = found.parse(path.read_text())
        for _, function, given in extract_from_ast(tree, babel_style=False):
            words = [word for word in ((given,) if isinstance(given, str) else given or ()) if word is not None]
            if len(words) < 1 + function.endswith("pgettext") + ("ng" in function or "np" in function):
                continue  # its words are in a variable, which is marked where it is made
            context = words.pop(0) if function.endswith("pgettext") else None
            yield Found((context, (words[0], words[1]) if function.startswith("n") else words[0]), _relative(path))


def _in_python() -> Iterator[Found]:
    for path in sorted((ROOT / "worker").rglob("*.py")):
        source = path.read_text()
        if "worker.texts" in source:
            yield from (Found((None, template), _relative(path)) for template in templates_in(ast.parse(source)))


def templates_in(tree: ast.Module) -> Iterator[str]:
    """The sentences that a module gives to `text` or `mark` of `worker.texts`."""
    names = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "worker.texts"
        for alias in node.names
        if alias.name in ("text", "mark")
    }
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant)):
            continue
        if isinstance(node.func, ast.Name) and node.func.id in names and isinstance(node.args[0].value, str):
            yield node.args[0].value


def _in_schemas() -> Iterator[Found]:
    for module in sorted(found.name for found in pkgutil.iter_modules(schemas.__path__)):
        for value in vars(importlib.import_module(f"schemas.{module}")).values():
            for entry in value.values() if isinstance(value, dict) else ():
                if isinstance(entry, Entry | Bound):
                    yield Found((None, entry.label), f"schemas/{module}.py")
                if isinstance(entry, Entry) and entry.sentence:
                    yield Found((None, entry.sentence), f"schemas/{module}.py")


def _patterns() -> Iterator[Found]:
    yield from (Found((context, pattern), "worker/web/console/languages.py") for context, pattern in PATTERNS.items())


def _relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def path_of(code: str) -> Path:
    """The catalogue of a language."""
    return LOCALE / code / "LC_MESSAGES" / "messages.po"


def read(path: Path, code: str) -> Catalog:
    """A PO file.

    Raises:
        babel.messages.pofile.PoFileError: a line is not as PO files have it.
    """
    with path.open("rb") as file:
        return read_po(file, locale=code, abort_invalid=True)


def update(code: str, known: Catalog, found: list[Found]) -> Catalog:
    """A catalogue with exactly the messages that were found, and the translations that are known."""
    made = Catalog(locale=code, fuzzy=False)
    for one in found:
        context, words = one.key
        old = known.get(words if isinstance(words, str) else words[0], context)
        translated = (
            old.string if old and not old.fuzzy and bool(old.pluralizable) == isinstance(words, tuple) else None
        )
        made.add(words, translated, locations=[(one.path, 0)], context=context)
    return made


def merge(into: Catalog, other: Catalog) -> Iterator[str]:
    """Take over what `into` lacks. Tells what both translate, and differently."""
    for message in other:
        if not message.id or not _is_translated(message):
            continue
        own = into.get(message.id if isinstance(message.id, str) else message.id[0], message.context)
        if own is None or not _is_translated(own):
            into.delete(message.id if isinstance(message.id, str) else message.id[0], message.context)
            into.add(message.id, message.string, context=message.context)
        elif own.string != message.string:
            yield f"{message.id!r}: {own.string!r} stays, not {message.string!r}"


def as_file(code: str, made: Catalog) -> bytes:
    """A catalogue as a file: by message, without dates and line numbers, so that a change shows nothing but itself."""
    head = (
        'msgid ""\nmsgstr ""\n"Content-Type: text/plain; charset=UTF-8\\n"\n'
        f'"Language: {code}\\n"\n"Plural-Forms: {made.plural_forms}\\n"\n\n'
    )
    file = io.BytesIO(head.encode())
    file.seek(0, io.SEEK_END)
    write_po(file, made, width=WIDTH, omit_header=True, sort_output=True, ignore_obsolete=True, include_lineno=False)
    return file.getvalue()


def faults_of(message: Message) -> Iterator[str]:
    """What is wrong with a translation: it is missing, not certain, or has other placeholders than the English."""
    if not _is_translated(message):
        yield "is not translated"
        return
    forms = [message.string] if isinstance(message.string, str) else list(message.string or ())
    english = [message.id] if isinstance(message.id, str) else list(message.id)
    if message.fuzzy:
        yield "is fuzzy"
    known = set().union(*map(placeholders, english))
    for form in forms:
        differing = placeholders(form) ^ known if len(forms) == 1 else placeholders(form) - known
        if differing:
            yield f"has other placeholders: {sorted(differing)}"


def placeholders(sentence: str) -> set[str]:
    """The values in a sentence, of both kinds: `%(name)s` of the templates and `{name}` of Python."""
    found = set(re.findall(r"(?<!%)%\(\w+\)[sd]", sentence))
    try:
        return found | {f"{{{name}}}" for _, name, _, _ in Formatter().parse(sentence) if name}
    except ValueError:  # a brace that is none of Python's
        return found


def _is_translated(message: Message) -> bool:
    forms = [message.string] if isinstance(message.string, str) else list(message.string or ())
    return bool(forms) and all(forms)


def main() -> None:
    """Write every catalogue; exit 1 if something is not translated."""
    parser = argparse.ArgumentParser(prog="python -m ops.texts", description=__doc__)
    parser.add_argument("--language", default="de", help="the language of the merged files; it is added if it is new")
    parser.add_argument("--merge", nargs="*", default=[], type=Path, metavar="FILE", help="other PO files")
    given = parser.parse_args()
    found, missing = collect(), 0
    for code in sorted({*codes(), given.language} - {ENGLISH}):
        path_of(code).parent.mkdir(parents=True, exist_ok=True)
        known = read(path_of(code), code) if path_of(code).exists() else Catalog(locale=code)
        for path in given.merge if code == given.language else ():
            for conflict in merge(known, read(path, code)):
                print(f"{path}: {conflict}")
        made = update(code, known, found)
        path_of(code).write_bytes(as_file(code, made))
        faults = [(message, fault) for message in made if message.id for fault in faults_of(message)]
        for message, fault in faults:
            print(f"{code}: {message.id!r} {fault}")
        missing += len(faults)
        print(f"{code}: {len(made)} messages, {len(faults)} faults")
    sys.exit(1 if missing else 0)


if __name__ == "__main__":
    main()
