"""`/metrics` in Prometheus' text format: what this command counts, and what waits in the database at the scrape.

No token is needed, as usual where Prometheus scrapes inside a cluster or on loopback: the metrics are sums over all
organisations, without names or personal data. A proxy in front should block the path. While the database is away the
rest is still answered.
"""

import math
from collections.abc import Iterator, Mapping

from fastapi import APIRouter, Response
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from sqlalchemy import Connection

from schemas.catalogue import LetterCode
from worker.database import Database
from worker.faults import is_passing
from worker.ledger import gauges, heard, leader, processes
from worker.reports.reader import ReplicaState, ReportReader
from worker.telemetry import metrics as own
from worker.web.context import Context

router = APIRouter(tags=["health"])

_KINDS = ("web", "worker", "relay")
_MOST = f", counted up to {gauges.GAUGED_AT_MOST:,}"


@router.get(
    "/metrics",
    response_class=Response,
    responses={
        200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "Prometheus' text format."}
    },
)
def metrics(context: Context) -> Response:
    """Requests, events and errors, work that waits and work that failed. No token is needed."""
    return Response(own.exposition(_Waiting(context.database, context.pools.reader)), media_type=own.CONTENT_TYPE)


class _Waiting(Collector):
    """What the database knows, read in one transaction."""

    def __init__(self, database: Database, reader: ReportReader) -> None:
        self._database, self._reader = database, reader

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """No gauges in advance, so that registering does not query the database."""
        return iter(())

    def collect(self) -> Iterator[GaugeMetricFamily]:
        found: list[GaugeMetricFamily] = []
        try:
            with self._database.begin() as connection:
                found = [*_work(connection), *_letters(connection), *_processes(connection)]
            found += _replica(self._reader)
        except Exception as error:
            if not is_passing(error):
                raise
        yield _one("withdrawals_database_up", "Whether the database answered this scrape", int(bool(found)))
        yield from found


def _work(connection: Connection) -> Iterator[GaugeMetricFamily]:
    due, age = gauges.due_chunks(connection)
    yield _one("withdrawals_due_chunks", f"Chunks that are due and not claimed{_MOST}", due)
    yield _one("withdrawals_oldest_due_seconds", "Seconds since the oldest due chunk is due", age)
    lanes = {own.LANES[lane]: found for lane, found in gauges.due_by_lane(connection).items()}
    chunks, ages = ({lane: found[n] for lane, found in lanes.items()} for n in (0, 1))
    yield _labelled("withdrawals_lane_due_chunks", f"Due chunks of a lane{_MOST}", "lane", chunks)
    yield _labelled("withdrawals_lane_oldest_due_seconds", "Seconds since the oldest of them is due", "lane", ages)
    yield _labelled(
        "withdrawals_claimed_chunks",
        f"Chunks in the hands of workers, by whether the lease runs{_MOST}",
        "lease",
        gauges.claimed_chunks(connection),
    )
    events, events_age = gauges.waiting_events(connection)
    yield _one("withdrawals_inbox_events", f"Events that are accepted and not applied yet{_MOST}", events)
    yield _one("withdrawals_inbox_oldest_seconds", "Seconds since the oldest event in the inbox came in", events_age)
    silent = len(heard.list_silent(connection))
    yield _one(
        "withdrawals_silent_sources", "Sources of HR events that were not heard for longer than their limit", silent
    )
    feed = gauges.feed(connection)
    yield _one("withdrawals_feed_unseen_seconds", "Seconds since the oldest event that no reader sees yet", feed.unseen)
    yield _one("withdrawals_feed_unsent_seconds", "Seconds since the oldest event for a webhook", feed.unsent)
    yield _one("withdrawals_webhooks_paused", "Webhooks that get no events until they are resumed", feed.paused)


def _letters(connection: Connection) -> Iterator[GaugeMetricFamily]:
    held, letters = gauges.held_jobs(connection), gauges.open_letters(connection)
    yield _labelled(
        "withdrawals_held_jobs",
        f"Jobs that wait for a second person{_MOST}",
        "cause",
        {cause: held.get(cause, 0) for cause in gauges.HELD_BECAUSE},
    )
    yield _one(
        "withdrawals_held_oldest_seconds",
        "Seconds since the oldest held job could have begun",
        gauges.held_seconds(connection),
    )
    yield _labelled(
        "withdrawals_open_dead_letters",
        f"Dead letters that wait for support{_MOST}",
        "code",
        {code: letters.get(code, 0) for code in LetterCode},
    )
    yield _labelled(
        "withdrawals_webhook_deliveries",
        f"Deliveries that are on their way or were given up{_MOST}",
        "state",
        gauges.deliveries(connection),
    )
    yield _labelled(
        "withdrawals_notification_messages",
        f"Messages to people that are on their way or have failed{_MOST}",
        "state",
        gauges.messages(connection),
    )


def _processes(connection: Connection) -> Iterator[GaugeMetricFamily]:
    threads = processes.worker_threads(connection, at_least=0)
    yield _one("withdrawals_worker_threads", "Worker threads seen in the last 15 s", threads)
    known = processes.count_by_state(connection)
    states = GaugeMetricFamily(
        "withdrawals_processes",
        "Processes by their heartbeats: running, or lost, silent for over 7 s without having signed off",
        labels=["kind", "state"],
    )
    for kind in _KINDS:
        for state in ("running", "lost"):
            states.add_metric([kind, state], known.get(kind, {}).get(state, 0))
    yield states
    leads = leader.read(connection)
    if leads.seconds_since_seen is not None:
        yield _one(
            "withdrawals_relay_seen_seconds",
            "Seconds since the heartbeat of the relay that leads",
            leads.seconds_since_seen,
        )
    yield _labelled(
        "withdrawals_relay_step_failures",
        "Failures in a row of a step of the relay's rounds, from the third on",
        "step",
        {**dict.fromkeys(leader.ESSENTIAL, 0), **{found.step: found.failures for found in leads.failing}},
    )


def _replica(reader: ReportReader) -> Iterator[GaugeMetricFamily]:
    state = reader.state() or ReplicaState(None)
    lag = math.nan if state.lag is None else state.lag
    yield _one("withdrawals_replica_lag_seconds", "Seconds that the replica may be behind; NaN while not known", lag)
    left = int(bool(state.reason))
    yield _one("withdrawals_replica_left", "Whether there is a replica that reports are not read from", left)


def _one(name: str, meaning: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, meaning, value=value)


def _labelled(name: str, meaning: str, label: str, values: Mapping[str, float]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, meaning, labels=[label])
    for value, count in values.items():
        family.add_metric([value], count)
    return family
