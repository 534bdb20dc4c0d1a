"""The outermost layer of the web process: a request id, one count and one duration a request, and a trace if wanted.

It stands around everything, FastAPI's own answer to an unexpected error included, and is pure ASGI: it costs each
request a few microseconds (`ops/decisions/0033`).
"""

from time import perf_counter
from typing import Any

from fastapi import FastAPI
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from worker.telemetry import metrics, request, tracing

_METHODS = frozenset(("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"))
_ID_HEADER = request.HEADER.lower().encode()


class ObservedApi(FastAPI):
    """FastAPI with this layer around it."""

    def build_middleware_stack(self) -> ASGIApp:
        return Observe(super().build_middleware_stack())


class Observe:
    """Middleware that gives each request its id, and counts and times it by the template of its route."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self._counters: dict[tuple[str, str, int], Any] = {}
        self._durations: dict[str, Any] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id = request.read_or_make(scope["headers"])
        token = request.REQUEST_ID.set(request_id.decode())
        status = 500
        started = perf_counter()

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": [*message.get("headers", ()), (_ID_HEADER, request_id)]}
            await send(message)

        try:
            if tracing.is_on():
                await self._traced(scope, receive, sending)
            else:
                await self.app(scope, receive, sending)
        finally:
            request.REQUEST_ID.reset(token)
            self._count(scope, status, perf_counter() - started)

    def _count(self, scope: Scope, status: int, seconds: float) -> None:
        route = route_of(scope)
        key = (scope["method"], route, status)
        counter = self._counters.get(key)
        if counter is None:  # finding a metric by its labels costs more than counting
            method = key[0] if key[0] in _METHODS else "other"
            counter = metrics.REQUESTS.labels(method, route, str(status))
            if method != "other":  # anybody can make up methods
                self._counters[key] = counter
        duration = self._durations.get(route)
        if duration is None:
            duration = self._durations[route] = metrics.REQUEST_SECONDS.labels(route)
        counter.inc()
        duration.observe(seconds)

    async def _traced(self, scope: Scope, receive: Receive, send: Send) -> None:
        parent = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"traceparent"), None)
        with tracing.span(scope["method"], parent=parent, server=True) as span:
            try:
                await self.app(scope, receive, send)
            finally:
                route = route_of(scope)
                span.update_name(f"{scope['method']} {route}")
                span.set_attribute("http.route", route)
                span.set_attribute("request_id", request.current() or "")


def route_of(scope: Scope) -> str:
    """The template of the route that a request was for, such as `/v1/jobs/{job_id}`; `none` where there is none."""
    return getattr(scope.get("route"), "path", None) or "none"
