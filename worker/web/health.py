"""Liveness and readiness of the web process."""

from fastapi import APIRouter
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool

from worker.database import Database
from worker.errors import describe
from worker.ledger import processes
from worker.queue.broker import HintBroker
from worker.web.context import Context

RELAY_LATE = 15.0
"""Seconds without a relay after which the service is not ready: jobs are accepted, but nothing wakes the workers."""

router = APIRouter(tags=["health"])


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """Whether the process answers. No token is needed."""
    return {"status": "ok"}


@router.get("/readyz", responses={503: {"description": "A part cannot be reached; the body says which."}})
async def readyz(context: Context) -> JSONResponse:
    """Whether database, broker and relay can be reached, each with its own answer. No token is needed."""
    found = await run_in_threadpool(readiness, context.database, context.broker)
    ready = all(part["ok"] for part in found.values())
    return JSONResponse({"status": "ready" if ready else "not_ready", **found}, status_code=200 if ready else 503)


def readiness(database: Database, broker: HintBroker) -> dict[str, dict[str, object]]:
    """Each part with `ok`, and its error if it has one."""
    found: dict[str, dict[str, object]] = {}
    age: float | None = None
    try:
        with database.begin() as connection:
            age = processes.relay_age(connection)
            takes_writes = processes.takes_writes(connection)
        found["database"] = {"ok": True} if takes_writes else {"ok": False, "error": "read-only"}
    except Exception as error:
        found["database"] = {"ok": False, "error": describe(error)[0]}
    try:
        broker.client.ping()
        found["broker"] = {"ok": True}
    except Exception as error:
        found["broker"] = {"ok": False, "error": describe(error)[0]}
    alive = age is not None and age < RELAY_LATE
    found["relay"] = {"ok": alive, "seconds_since_seen": None if age is None else round(age, 1)}
    return found
