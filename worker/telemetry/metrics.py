"""What each process counts by itself, in Prometheus' terms. What waits in the database is read at a scrape instead.

Labels are bounded: routes, codes, lanes, kinds; never an organisation, a person or an id. The sums over all processes
of a command are shown, however many there are (`shared.py`). `ops/metrics.md` lists every metric.
"""

import importlib.metadata
import os
import platform
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector

from schemas.catalogue import Outcome, ReceiptStatus
from worker.telemetry import shared

disable_created_metrics()  # type: ignore[no-untyped-call] # a series more for each, which only some processes can show
CONTENT_TYPE = CONTENT_TYPE_LATEST
OWN = CollectorRegistry()
"""The metrics of this process."""
_OF_WAITING = (0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 300, 900, 3600, 6 * 3600, 24 * 3600)
_OF_WORK = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
LANES = ("hr", "letters", "bulk")
"""Names of the lanes, by their number."""

BUILD = Gauge(
    "withdrawals_build_info", "The release that runs; the value is 1", ["version", "python"],
    registry=OWN, multiprocess_mode="livemax",
)  # fmt: skip
REQUESTS = Counter(
    "withdrawals_http_requests", "Requests that were answered", ["method", "route", "status"], registry=OWN
)
REQUEST_SECONDS = Histogram(
    "withdrawals_http_request_seconds", "Time until a request was answered", ["route"], registry=OWN, buckets=_OF_WORK
)
EVENTS = Counter("withdrawals_events", "HR events that were answered", ["kind", "status"], registry=OWN)
REFUSED = Counter("withdrawals_sign_ins_refused", "Calls without a live token or signature", ["door"], registry=OWN)
INBOX_SECONDS = Histogram(
    "withdrawals_inbox_seconds", "Time from the receipt of an event until it was applied", ["status"],
    registry=OWN, buckets=_OF_WAITING,
)  # fmt: skip
ATTEMPTS = Counter("withdrawals_attempts", "Attempts at chunks, by how they ended", ["result"], registry=OWN)
CLAIM_SECONDS = Histogram(
    "withdrawals_claim_seconds", "Time to decide a claim, retries included", ["result"], registry=OWN, buckets=_OF_WORK
)
OUTCOMES = Counter("withdrawals_outcomes", "Outcomes of enrolments", ["outcome"], registry=OWN)
WITHDRAWN_SECONDS = Histogram(
    "withdrawals_withdrawn_seconds",
    "Time until a chunk was withdrawn, from its request, or from when it fell due or was released", ["lane"],
    registry=OWN, buckets=_OF_WAITING,
)  # fmt: skip
WEBHOOK_ATTEMPTS = Counter("withdrawals_webhook_attempts", "Deliveries that were tried", ["result"], registry=OWN)
NOTIFICATION_ATTEMPTS = Counter(
    "withdrawals_notification_attempts", "Messages to people that were tried", ["result"], registry=OWN
)
HINTS = Counter("withdrawals_relay_hints", "Hints that were sent to workers", ["queue"], registry=OWN)
STEPS = Counter("withdrawals_relay_steps", "Steps of the relay's rounds", ["step", "result"], registry=OWN)
LEADS = Gauge(
    "withdrawals_relay_leads", "Whether this relay leads", ["kind"], registry=OWN, multiprocess_mode="livemax"
)
POOL = Gauge(
    "withdrawals_pool_connections", "Database connections: in use, and the most that there may be", ["pool", "state"],
    registry=OWN, multiprocess_mode="livesum",
)  # fmt: skip
BEAT = Gauge(
    "withdrawals_heartbeat_timestamp_seconds",
    "Last heartbeat of a process: of its thread, and the last that the database took", ["kind", "of"],
    registry=OWN, multiprocess_mode="liveall",
)  # fmt: skip

_samples: dict[object, Callable[[], None]] = {}
_sampling = threading.Lock()


def begin(kind: str) -> None:
    """Show what a process counts from the start, at 0: a rate needs a first value. `kind`: `web`, `worker`, `relay`."""
    BUILD.labels(importlib.metadata.version("withdrawals"), platform.python_version()).set(1)
    if kind == "web":
        for door in ("api", "console", "hook", "scim"):
            REFUSED.labels(door)
        for status in (ReceiptStatus.ACCEPTED, ReceiptStatus.IGNORED, ReceiptStatus.INVALID):
            EVENTS.labels("standard", status)
    if kind == "worker":
        for outcome in Outcome:
            OUTCOMES.labels(outcome)
        for lane in LANES:
            WITHDRAWN_SECONDS.labels(lane)
        for result in ("decided", "failed", "given_back"):
            ATTEMPTS.labels(result)
        for result in ("decided", "failed"):
            CLAIM_SECONDS.labels(result)
        for result in ("delivered", "failed"):
            WEBHOOK_ATTEMPTS.labels(result)
            NOTIFICATION_ATTEMPTS.labels(result)
        INBOX_SECONDS.labels(ReceiptStatus.ACCEPTED)
    if kind == "relay":
        LEADS.labels("relay").set(0)
        ATTEMPTS.labels("vanished")


def sample_with(owner: object, read: Callable[[], None]) -> None:
    """Call `read` before every scrape, and at every heartbeat for the scrapes that another process answers."""
    with _sampling:
        _samples[owner] = read


def forget(owner: object) -> None:
    """Call what `owner` gave no more."""
    with _sampling:
        _samples.pop(owner, None)


def sample() -> None:
    """Read what is not counted as it happens."""
    with _sampling:
        reads = list(_samples.values())
    for read in reads:
        read()


def beat(kind: str, *, of: str) -> None:
    """Note a heartbeat. `of`: `thread`, it runs; `database`, it was recorded."""
    BEAT.labels(kind, of).set(time.time())


def exposition(*more: Any) -> bytes:
    """All metrics of this command in Prometheus' text format. `more`: collectors of what is read at the scrape."""
    sample()
    registry = CollectorRegistry()
    path = os.environ.get(shared.DIRECTORY)
    if path:
        shared.drop_dead(Path(path))
        MultiProcessCollector(registry, path)  # type: ignore[no-untyped-call]
    else:
        registry.register(OWN)
    for collector in more:
        registry.register(collector)
    return generate_latest(registry)
