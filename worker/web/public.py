"""What a request looks like from outside: the caller's address, https, and the service's public name.

A proxy that ends TLS talks plain http to this process. Without this, cookies would lose `Secure`, browsers would not
be told to stay with https, links would lead inside, and all callers would share the proxy's address.
"""

from fastapi import FastAPI
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from worker.config import Settings

HSTS = "max-age=31536000"
"""RFC 6797; a year. Without includeSubDomains: other names of the domain are not ours to decide on."""


def install(app: FastAPI, settings: Settings) -> None:
    """Add both middlewares, outside of all others."""
    app.add_middleware(PublicAddress, url=settings.public_url)
    if settings.proxies:
        app.add_middleware(ProxyHeadersMiddleware, trusted_hosts=settings.proxies)


class PublicAddress:
    """Gives a request the public scheme and host, where they are set, and an answer over https its HSTS header."""

    def __init__(self, app: ASGIApp, url: str) -> None:
        """`url`: the public address; empty: that of each request."""
        self.app = app
        self._scheme, _, self._host = url.partition("://")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if self._host:
            others = [(name, value) for name, value in scope["headers"] if name != b"host"]
            scope = {**scope, "scheme": self._scheme, "headers": [*others, (b"host", self._host.encode())]}

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["Strict-Transport-Security"] = HSTS
            await send(message)

        await self.app(scope, receive, sending if scope["scheme"] == "https" else send)
