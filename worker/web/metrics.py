"""`/metrics` in Prometheus' text format, counted from the database at each scrape.

No token is needed, as usual where Prometheus scrapes inside a cluster or on loopback: the metrics are sums over all
organisations, without names or personal data. A proxy in front should block the path.
"""

from collections.abc import Iterator

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from schemas.catalogue import LetterCode
from worker.database import Database
from worker.ledger import gauges, leader, processes
from worker.web.context import Context
from worker.web.problems import describes

router = APIRouter(tags=["health"])


@router.get(
    "/metrics",
    response_class=Response,
    responses={
        200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "Prometheus' text format."},
        503: describes(503)[503],
    },
)
def metrics(context: Context) -> Response:
    """Gauges of work that waits and of work that failed. No token is needed."""
    registry = CollectorRegistry()
    registry.register(_Gauges(context.database))
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)


class _Gauges(Collector):
    """All gauges, read in one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """No gauges in advance, so that registering does not query the database."""
        return iter(())

    def collect(self) -> Iterator[GaugeMetricFamily]:
        with self._database.begin() as connection:
            held, letters = gauges.held_jobs(connection), gauges.open_letters(connection)
            due, age = gauges.due_chunks(connection)
            events, events_age = gauges.waiting_events(connection)
            leads = leader.read(connection)
            threads = processes.worker_threads(connection, at_least=0)
        most = f", counted up to {gauges.GAUGED_AT_MOST:,}"
        yield _labelled(
            "withdrawals_held_jobs",
            f"Jobs that wait for a second person{most}",
            "cause",
            {cause: held.get(cause, 0) for cause in gauges.HELD_BECAUSE},
        )
        yield _labelled(
            "withdrawals_open_dead_letters",
            f"Dead letters that wait for support{most}",
            "code",
            {code: letters.get(code, 0) for code in LetterCode},
        )
        yield GaugeMetricFamily("withdrawals_due_chunks", f"Chunks that are due and not claimed{most}", value=due)
        yield GaugeMetricFamily(
            "withdrawals_oldest_due_seconds", "Seconds since the oldest due chunk is due", value=age
        )
        yield GaugeMetricFamily(
            "withdrawals_inbox_events", f"Events that are accepted and not applied yet{most}", value=events
        )
        yield GaugeMetricFamily(
            "withdrawals_inbox_oldest_seconds", "Seconds since the oldest event in the inbox came in", value=events_age
        )
        yield GaugeMetricFamily("withdrawals_worker_threads", "Worker threads seen in the last 15 s", value=threads)
        if leads.seconds_since_seen is not None:
            yield GaugeMetricFamily(
                "withdrawals_relay_seen_seconds",
                "Seconds since the heartbeat of the relay that leads",
                value=leads.seconds_since_seen,
            )
        yield _labelled(
            "withdrawals_relay_step_failures",
            "Failures in a row of a step of the relay's rounds, from the third on",
            "step",
            {**dict.fromkeys(leader.ESSENTIAL, 0), **{found.step: found.failures for found in leads.failing}},
        )


def _labelled(name: str, meaning: str, label: str, values: dict[str, int]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, meaning, labels=[label])
    for value, count in values.items():
        family.add_metric([value], count)
    return family
