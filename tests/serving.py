"""The application behind a real server, for what a test client cannot do: streams, browsers."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from tests.world import eventually
from worker.config import Settings
from worker.database import Database
from worker.queue.broker import make_broker
from worker.web.app import make_app


@contextmanager
def serving(db: Database, settings: Settings) -> Iterator[str]:
    """The service behind uvicorn on a free port; its address."""
    app = make_app(db, make_broker(settings.broker_url.get_secret_value()), settings)
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_config=None, lifespan="off"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        eventually(lambda: server.started)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        app.state.watchers.stop()
        server.should_exit = True
        thread.join()
