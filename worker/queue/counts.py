"""What a worker counts of the claims and events that it has committed. Counted after the commit, so never twice."""

from collections import Counter
from collections.abc import Mapping, Sequence

from schemas.catalogue import Outcome
from worker.ledger.inbox_sets import WaitingEvent
from worker.people.newest_events import EventResult
from worker.queue.apply import Applied
from worker.telemetry import metrics


def decided(applied: Applied, seconds: float) -> None:
    """Count a claim that was decided. `seconds`: since it was taken in hand."""
    metrics.CLAIM_SECONDS.labels("decided").observe(seconds)
    outcomes: Counter[str] = Counter()
    for item in applied.decided:
        # Below zero is what an attempt at a letter has replaced.
        outcomes.update({outcome: enrolments for outcome, enrolments in item.counts.items() if enrolments > 0})
        asked = applied.asked[item.chunk_id]
        if item.counts.get(Outcome.WITHDRAWN):
            metrics.WITHDRAWN_SECONDS.labels(metrics.LANES[asked.lane]).observe(asked.waited.total_seconds())
    for outcome, enrolments in outcomes.items():
        metrics.OUTCOMES.labels(outcome).inc(enrolments)
    metrics.ATTEMPTS.labels("decided").inc(len(applied.asked))


def failed(seconds: float) -> None:
    """Count a claim whose decision was rolled back; its chunks are counted when that is recorded."""
    metrics.CLAIM_SECONDS.labels("failed").observe(seconds)


def events_applied(events: Sequence[WaitingEvent], results: Mapping[int, EventResult]) -> None:
    """Count the events of a set of which something became."""
    for event in events:
        if event.id in results:
            seconds = max(event.waited.total_seconds(), 0.0)
            metrics.INBOX_SECONDS.labels(results[event.id].status).observe(seconds)
