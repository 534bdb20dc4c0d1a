"""What each role may do, read from the code: `python -m ops.roles` writes `ops/roles.md`, and a test compares both."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from schemas.catalogue import ROLES, Role
from worker.dead_letters.acts import ACTS
from worker.web.api import openapi
from worker.web.app import add_routes
from worker.web.console.app import ROUTERS as CONSOLE_ROUTERS
from worker.web.console.view import Acting, Seeing

PAGE = Path(__file__).parent / "roles.md"
_ORDER = (Role.PRODUCER, Role.VIEWER, Role.OPERATOR, Role.APPROVER, Role.OWNER, Role.SCIM)
_LEAST_FOR_A_SESSION = Role.VIEWER
"""The console's sign-in refuses tokens below this role."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call of the service, and the least roles that may make it, of which one is enough."""

    method: str
    path: str
    summary: str
    roles: tuple[Role, ...]

    @property
    def is_open(self) -> bool:
        """Whether no token is needed."""
        return not self.roles

    def allows(self, role: Role) -> bool:
        """Whether a token of this role may make the call."""
        return self.is_open or any(role.includes(one) for one in self.roles)


def api_calls() -> list[Call]:
    """Every operation of the OpenAPI document, with the roles that its `security` names."""
    app = openapi.application()
    add_routes(app)
    return [
        Call(method.upper(), path, _summary(operation["description"]), _roles_of(operation))
        for path, methods in app.openapi()["paths"].items()
        for method, operation in methods.items()
    ]


def console_calls() -> list[Call]:
    """Every page and form of the console, with the role that its dependencies ask for."""
    return [
        Call(method, route.path, _summary(route.description), _console_roles(route.dependant))
        for router in CONSOLE_ROUTERS
        for route in router.routes
        if isinstance(route, APIRoute)
        for method in sorted(route.methods or ())
    ]


def render() -> str:
    """The whole page, as Markdown."""
    parts = [
        *[_HEAD, *_words()],
        *["", "## HTTP API", "", *_table(api_calls())],
        *["", "## Console", "", _CONSOLE, "", *_table(console_calls())],
        *["", "## Acts on dead letters", "", _ACTS, "", *_act_table(), ""],
    ]
    return "\n".join(parts)


_HEAD = """# What each role may do

Generated from the code by `python -m ops.roles`; do not edit. A test compares this page with the code, and makes each
of these calls as every role. Every call is about the organisation of the token alone: a record of another organisation
gets the same answer as one that does not exist. A producer reads its own jobs alone.
"""
_CONSOLE = """A session has the role of the token that opened it, and needs at least `viewer`. Without a session, every
page leads to the sign-in."""
_ACTS = """`resolve`, `redrive` and `discard` over HTTP, and `act` in the console, ask for the role of the act:"""
_NO = "-"


def _summary(description: str) -> str:
    """The first line, without the role, which has columns of its own."""
    return re.sub(r" (No token is needed\.|Role: .*)", "", description.splitlines()[0])


def _roles_of(operation: dict[str, Any]) -> tuple[Role, ...]:
    return tuple(Role(role) for one in operation.get("security", []) for scopes in one.values() for role in scopes)


def _console_roles(dependant: Dependant) -> tuple[Role, ...]:
    asked = [call.role for call in _calls(dependant) if isinstance(call, Seeing | Acting)]
    return (max([*asked, _LEAST_FOR_A_SESSION], key=_ORDER.index),) if asked else ()


def _calls(dependant: Dependant) -> Iterator[Any]:
    for inner in dependant.dependencies:
        yield inner.call
        yield from _calls(inner)


def _words() -> list[str]:
    return [f"- `{role}`: {ROLES[role].sentence}" for role in _ORDER]


def _table(calls: Sequence[Call]) -> list[str]:
    rows = [[f"`{call.method} {call.path}`", *(_mark(call, role) for role in _ORDER), call.summary] for call in calls]
    return _markdown(["Call", *map(str, _ORDER), "What it does"], rows)


def _act_table() -> list[str]:
    rows = [
        [f"`{act}`", *("yes" if role.includes(entry.role) else _NO for role in _ORDER), entry.summary]
        for act, entry in ACTS.items()
    ]
    return _markdown(["Act", *map(str, _ORDER), "What it does"], rows)


def _mark(call: Call, role: Role) -> str:
    return "open" if call.is_open else "yes" if call.allows(role) else _NO


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [_line(head), _line(["---"] * len(head)), *map(_line, rows)]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
