"""Markdown of generated pages."""

from collections.abc import Iterable, Sequence

_NOTE = "<!-- Made by `python -m ops.docs` from the code. Do not edit. -->"


def page(title: str, *parts: str) -> str:
    """A whole page; its parts are separated by an empty line."""
    return "\n\n".join([_NOTE, f"# {title}", *(part for part in parts if part)]) + "\n"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table whose cells are Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(_cell(cell) for cell in line)} |" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
