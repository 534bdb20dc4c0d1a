"""Liveness and readiness of the web process."""

from fastapi import APIRouter
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool

from worker.database import Database
from worker.faults import describe
from worker.ledger import gauges, leader, processes
from worker.ledger.leader import ESSENTIAL, Leader
from worker.queue.hints import Hints
from worker.web.context import Context

router = APIRouter(tags=["health"])


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """Whether the process answers. No token is needed."""
    return {"status": "ok"}


@router.get("/readyz", responses={503: {"description": "A part cannot be reached; the body says which."}})
async def readyz(context: Context) -> JSONResponse:
    """Whether database, broker and the relay that leads work, each with its own answer. No token is needed.

    `inbox`: events that are accepted and not applied yet; however many, they do not make it unready.
    `degraded`, with 200: requests are accepted, but the broker does not answer, so that they wait, or a step of the
    relay's rounds fails again and again; the parts say which.
    """
    found = await run_in_threadpool(readiness, context.database, context.broker)
    ready = all(part["ok"] for name, part in found.items() if name != "broker")
    degraded = bool(found["relay"]["failing"]) or not found["broker"]["ok"]
    status = ("degraded" if degraded else "ready") if ready else "not_ready"
    return JSONResponse({"status": status, **found}, status_code=200 if ready else 503)


def readiness(database: Database, broker: Hints) -> dict[str, dict[str, object]]:
    """Each part with `ok`, and its error if it has one."""
    found: dict[str, dict[str, object]] = {}
    leads = Leader(None)
    try:
        with database.begin() as connection:
            leads = leader.read(connection)
            takes_writes = processes.takes_writes(connection)
            waiting, seconds = gauges.waiting_events(connection)
        found["database"] = {"ok": True} if takes_writes else {"ok": False, "error": "read-only"}
        found["inbox"] = {"ok": True, "waiting": waiting, "oldest_seconds": round(seconds, 1)}
    except Exception as error:
        found["database"] = {"ok": False, "error": describe(error)[0]}
    try:
        broker.ping()
        found["broker"] = {"ok": True}
    except Exception as error:
        found["broker"] = {"ok": False, "error": describe(error)[0]}
    age = leads.seconds_since_seen
    found["relay"] = {
        "ok": leads.does_its_work,
        "seconds_since_seen": None if age is None else round(age, 1),
        "failing": [
            {
                "step": step.step,
                "failures": step.failures,
                "since": step.since.isoformat(),
                "error_class": step.error_class,
                "fingerprint": step.fingerprint,
                "work_stops": step.step in ESSENTIAL,
            }
            for step in leads.failing
        ],
    }
    return found
