"""Where each command is. Its module is imported when the command is called.

To import all of them takes longer than most commands run, and a supervisor starts many processes.
"""

import functools
from importlib import import_module
from typing import Any

import typer.main
from typer.core import TyperGroup

from worker.garbage import loading

_ALONE = {
    "up": ("demo", "up"),
    "processes": ("web", "worker", "relay", "config", "doctor"),
    "data": ("load", "migrate", "grants"),
    "check": ("check",),
    "prune": ("prune", "retention"),
    "drill": ("drill",),
    "jobs": ("submit", "deactivate", "reactivate"),
    "bulk": ("bulk",),
    "reconcile": ("reconcile",),
    "explain": ("explain",),
    "find": ("find",),
    "events": ("events",),
}
"""Modules with commands that stand alone: `register(app)` adds them."""
_GROUPS = {
    "approvals": ("approvals",),
    "audit": ("audit",),
    "jobs": ("jobs", "watch", "reinstate", "control"),
    "brake": ("brake",),
    "dead-letters": ("dead_letters", "desk", "letter_acts"),
    "keys": ("keys",),
    "person": ("person",),
    "policies": ("policies",),
    "protection": ("protection",),
    "receipts": ("receipts",),
    "members": ("members",),
    "notifications": ("notifications",),
    "report": ("report", "attestation", "report_schedules"),
    "rosters": ("rosters",),
    "sessions": ("sessions",),
    "sources": ("sources",),
    "tokens": ("tokens",),
    "views": ("saved_views",),
    "webhooks": ("webhooks",),
}
"""Groups of commands: the first module has the `group`, the others add to it by `register(group)`."""
_MODULES = {command: module for module, commands in _ALONE.items() for command in commands}
NAMES = (*_MODULES, *_GROUPS)
"""Every first word, in the order of `--help`."""


class OnDemand(TyperGroup):
    """The first word of a command line."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Every name."""
        return list(NAMES)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command or group of a name; None if there is none."""
        if cmd_name in NAMES:
            return _load(cmd_name)
        self.commands.update({name: _load(name) for name in NAMES})  # what the message compares a misspelt word with
        return None


@functools.cache
@loading()
def _load(name: str) -> Any:
    if name in _GROUPS:
        first, *others = (import_module(f"ops.cli.{module}") for module in _GROUPS[name])
        for module in others:
            module.register(first.group)
        found = typer.main.get_group(first.group)
        found.name = name
        return found
    app = typer.Typer()
    import_module(f"ops.cli.{_MODULES[name]}").register(app)
    return typer.main.get_group(app).commands[name]
