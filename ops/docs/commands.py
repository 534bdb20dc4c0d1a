"""The page of the command line, from the command tree."""

from collections.abc import Iterator
from typing import Any

import typer
from typer.core import TyperArgument, TyperGroup

from ops.cli.app import app
from ops.docs.text import page, table


def make_page() -> str:
    """Every command with its arguments and options."""
    parts = []
    for path, command in _commands(typer.main.get_command(app), ()):
        shown = [found for found in command.params if not getattr(found, "hidden", False)]
        parts += [f"## withdrawals {' '.join(path)}", _words(command.help)]
        if shown:
            parts.append(table(("parameter", "meaning"), map(_parameter, shown)))
    return page(
        "Command line",
        "Every command has `--help`. Exit codes: 0 done, 1 the work found something wrong, 2 wrong use.",
        *parts,
    )


def _commands(group: Any, above: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name in group.list_commands(None):  # the tree loads a command when it is asked for
        command = group.get_command(None, name)
        if isinstance(command, TyperGroup):
            yield from _commands(command, (*above, name))
        elif not command.hidden:
            yield (*above, name), command


def _parameter(found: Any) -> tuple[str, str]:
    if isinstance(found, TyperArgument):
        name = (found.metavar or found.name or "").upper() + ("…" if found.nargs == -1 else "")
        return f"`{name}`", _words(found.help)
    meaning = _words(found.help) + (" Required." if found.required else "")
    if found.default not in (None, False, "", (), []) and not callable(found.default):
        meaning += f" Default: `{found.default}`."
    return " ".join(f"`{name}`" for name in (*found.opts, *found.secondary_opts)), meaning


def _words(text: str | None) -> str:
    return " ".join((text or "").split())
