"""The bare receiver: what is left of an endpoint for events when it only verifies the signature and inserts one row.

`python -m ops.bench.bare sync|asynchronous PORT`, with the service's own server and its settings, and as many
processes. Both are written as a competent person would; the benchmark compares with the faster one. Each connection
commits by itself: BEGIN and COMMIT would be two more round trips.
"""

import argparse
import asyncio
import os
import queue
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import psycopg
import uvicorn
from fastapi import Depends, FastAPI, HTTPException, Request
from standardwebhooks import Webhook, WebhookVerificationError

from worker.config import settings
from worker.web.connections import LONGEST_HEAD, MOST_CONNECTIONS, LimitedConnection

SECRET = "whsec_" + "YmVuY2gtYmVuY2gtYmVuY2gtYmVuY2g="
PATH = "/events"
TABLE = "CREATE TABLE bench_events (id text PRIMARY KEY, body text NOT NULL, received_at timestamptz DEFAULT now())"
COUNT = "SELECT count(*) FROM bench_events"
KINDS = ("sync", "asynchronous")
_INSERT = "INSERT INTO bench_events (id, body) VALUES (%s, %s) ON CONFLICT DO NOTHING"
_POOL = {"sync": 20, "asynchronous": 8}
"""Connections. As many as the service's web process for threads; more than a few only wait for the event loop."""


def make_sync() -> FastAPI:
    """An ordinary endpoint: FastAPI runs it in a thread."""
    app, webhook = _app(), Webhook(SECRET)
    pool: queue.LifoQueue[psycopg.Connection] = queue.LifoQueue()
    for _ in range(_POOL["sync"]):
        pool.put(psycopg.connect(os.environ["DATABASE_URL"], autocommit=True))

    @app.post(PATH, status_code=202)
    def receive(request: Request, body: Annotated[bytes, Depends(_body)]) -> dict[str, str]:
        _verify(webhook, request, body)
        connection = pool.get()
        try:
            connection.execute(_INSERT, [request.headers["webhook-id"], body.decode()])
        finally:
            pool.put(connection)
        return {"status": "accepted"}

    return app


def make_asynchronous() -> FastAPI:
    """An endpoint on the event loop, with asynchronous connections."""
    webhook = Webhook(SECRET)
    pool: asyncio.LifoQueue[psycopg.AsyncConnection[Any]] = asyncio.LifoQueue()

    @asynccontextmanager
    async def connected(_: FastAPI) -> AsyncIterator[None]:
        for _number in range(_POOL["asynchronous"]):
            pool.put_nowait(await psycopg.AsyncConnection.connect(os.environ["DATABASE_URL"], autocommit=True))
        yield

    app = _app(connected)

    @app.post(PATH, status_code=202)
    async def receive(request: Request) -> dict[str, str]:
        body = await request.body()
        _verify(webhook, request, body)
        connection = await pool.get()
        try:
            await connection.execute(_INSERT, [request.headers["webhook-id"], body.decode()])
        finally:
            pool.put_nowait(connection)
        return {"status": "accepted"}

    return app


def _app(lifespan: Any = None) -> FastAPI:
    app = FastAPI(lifespan=lifespan)

    @app.get("/healthz")
    def healthz() -> dict[str, str]:
        return {"status": "ok"}

    return app


async def _body(request: Request) -> bytes:
    return await request.body()


def _verify(webhook: Webhook, request: Request, body: bytes) -> None:
    try:
        webhook.verify(body, dict(request.headers))
    except WebhookVerificationError:
        raise HTTPException(401) from None


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m ops.bench.bare", description=__doc__)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("port", type=int)
    arguments = parser.parse_args()
    uvicorn.run(
        f"ops.bench.bare:make_{arguments.kind}",
        factory=True,
        host="127.0.0.1",
        port=arguments.port,
        workers=getattr(settings(), "web_processes", 1),
        http=LimitedConnection,
        ws="none",
        h11_max_incomplete_event_size=LONGEST_HEAD,
        limit_concurrency=MOST_CONNECTIONS,
        log_config=None,
        access_log=False,
        server_header=False,
    )


if __name__ == "__main__":
    main()
