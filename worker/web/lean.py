"""Routes of what comes in storms: documented by FastAPI, and called without its dependencies."""

from typing import Any

from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.routing import Match, Route
from starlette.types import Receive, Scope, Send


class LeanRoute(APIRoute):
    """A route whose endpoint takes the request alone, and reads from it what it needs.

    To solve dependencies and to find the route of an included router costs FastAPI more than all that an event or a
    small job needs. So these routes stand in the application itself. Middleware and errors are those of every route.
    """

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        match, found = Route.matches(self, scope)
        if match != Match.NONE:
            found["route"] = self
        return match, found

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] not in (self.methods or ()):
            await super().handle(scope, receive, send)  # refuses the method
            return
        response = await self.endpoint(Request(scope, receive))
        await response(scope, receive, send)


def path_parameter(name: str) -> dict[str, Any]:
    """The description of a parameter that the endpoint reads from the path."""
    return {"name": name, "in": "path", "required": True, "schema": {"title": name.title(), "type": "string"}}
