"""What a template shows that no catalogue can translate: text outside `_()`, `trans` and their like.

Two looks at each template. Its HTML: text and shown attributes with a letter that no expression made. Its expressions:
constants that read like words, in what is printed or given to a macro.
"""

import re
from collections.abc import Iterator
from html.parser import HTMLParser

import jinja2
from jinja2 import nodes

SHOWN = {"title", "aria-label", "placeholder", "alt", "label", "data-label"}
"""Attributes that people read or hear."""
UNREAD = {"code", "kbd", "script", "style", "svg"}
"""Elements whose text is data."""
GETTEXT = {"_", "gettext", "ngettext", "pgettext", "npgettext"}
_LETTER = re.compile(r"[^\W\d_]")
_WORDS = re.compile(r"^[A-Z][a-z]+(?:[ .,:;?!…].*)?$|^[\w'“(][^/#<>={}]*[a-z,;:] [A-Za-z“].*$", re.DOTALL)
_MADE = "·"
"""Stands for what an expression prints."""


def find_unmarked(environment: jinja2.Environment, source: str) -> list[str]:
    """Every unmarked text of a template, as it stands there."""
    tree = environment.parse(source)
    page = _Page()
    page.feed("".join(_skeleton(tree)))
    page.close()
    return [*page.found, *_words_in_expressions(tree)]


def _skeleton(node: nodes.Node) -> Iterator[str]:
    """The HTML of a template: all branches one after another, with a sign for each expression."""
    if isinstance(node, nodes.TemplateData):
        yield node.data
    elif isinstance(node, nodes.Output):
        for part in node.nodes:
            yield part.data if isinstance(part, nodes.TemplateData) else _MADE
    else:
        for child in node.iter_child_nodes():
            yield from _skeleton(child)


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[str] = []
        self._unread: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        submits = tag == "input" and given.get("type") in ("submit", "button")
        for name, value in attrs:
            if (name in SHOWN or (name == "value" and submits)) and _LETTER.search(value or ""):
                self.found.append(f'{name}="{value}"'.replace(_MADE, "…"))
        if tag in UNREAD:
            self._unread.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if self._unread and self._unread[-1] == tag:
            self._unread.pop()

    def handle_data(self, data: str) -> None:
        if not self._unread and _LETTER.search(data):
            self.found.append(" ".join(data.replace(_MADE, "…").split()))


def _words_in_expressions(node: nodes.Node) -> Iterator[str]:
    if isinstance(node, nodes.Const):
        if isinstance(node.value, str) and _WORDS.match(node.value):
            yield repr(node.value)
        return
    if isinstance(node, nodes.Call) and isinstance(node.node, nodes.Name) and node.node.name in GETTEXT:
        return
    if isinstance(node, nodes.Compare | nodes.Getitem | nodes.Test | nodes.TemplateData | nodes.Import | nodes.Extends):
        return
    if isinstance(node, nodes.Filter):
        yield from _words_in_expressions(node.node) if node.node is not None else ()
        return
    for child in node.iter_child_nodes():
        yield from _words_in_expressions(child)
