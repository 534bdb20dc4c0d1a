"""The rows of the benchmark: what each measures, what it is compared with, and what it must reach."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the table. Its key is what the measurement is stored under."""

    key: str
    what: str
    unit: str
    """Of the values; a comparison is judged by the ratio of two of them."""
    against: str = ""
    """What it is compared with; empty: nothing, and the value itself is judged."""
    goal: float | None = None
    sense: Literal["at least", "at most"] = "at least"

    def reaches(self, figure: float) -> bool:
        """Whether a figure is what the row must reach; a row without a goal is only measured."""
        if self.goal is None:
            return True
        return figure >= self.goal if self.sense == "at least" else figure <= self.goal


_RECEIVER, _SQL = "the bare receiver", "set SQL by hand"
_QUEUES = {"dramatiq": "Dramatiq", "celery": "Celery", "procrastinate": "Procrastinate"}

GROUPS: dict[str, tuple[Row, ...]] = {
    "The front door": (
        Row("door.events", "HR events accepted in a storm", "/s", _RECEIVER, 0.8),
        Row("door.events.p50", "the same, median latency", "ms", _RECEIVER),
        Row("door.events.p99", "the same, 99th percentile of latency", "ms", _RECEIVER, 5, "at most"),
        Row("door.bulk.events", "HR events accepted in a storm during a bulk job", "/s", _RECEIVER),
        Row("door.bulk.p99", "the same, 99th percentile of latency", "ms", _RECEIVER, 5, "at most"),
        Row("door.bulk.drain", "last withdrawal after the last answer of that storm", "s"),
        Row("door.drain", "last withdrawal after the last answer of a storm of events", "s", goal=2, sense="at most"),
        Row("door.singles", "single API requests accepted in a storm", "/s", _RECEIVER, 0.5),
        Row("door.backlog", "single requests that were accepted, withdrawn", "/s", "plain Dramatiq", 8),
    ),
    "Bulk jobs": (
        Row("bulk.filter", "bulk job by filter", "/s", _SQL, 0.8),
        Row("bulk.file", "bulk job by file", "/s", _SQL, 0.7),
        Row("bulk.ids", "bulk jobs by ids, 100,000 in each", "/s", _SQL),
        Row("bulk.feed", "bulk job by filter, with the feed of events", "/s", "without the feed", 0.95),
        Row("bulk.dramatiq", "bulk job by filter", "/s", "plain Dramatiq", 40),
        Row("bulk.celery", "bulk job by filter", "/s", "Celery", 100),
        Row("bulk.procrastinate", "bulk job by filter", "/s", "Procrastinate", 200),
        Row("growth.large", "bulk job of 1 million", "/s", "one of 100,000"),
        Row("growth.huge", "bulk job of 10 million", "/s", "one of 1 million", 0.9),
    ),
    "An idle system": (
        Row("latency.p50", "from request to withdrawn, median", "ms"),
        Row("latency.p99", "the same, 99th percentile", "ms", goal=30, sense="at most"),
        *(
            Row(f"latency.p50.{key}", "the median", "ms", name, 1 if key == "celery" else None, "at most")
            for key, name in _QUEUES.items()
        ),
        *(Row(f"latency.p99.{key}", "the 99th percentile", "ms", name) for key, name in _QUEUES.items()),
        Row("idle.cpu", "processor time of the busiest process", "% of a core", goal=1, sense="at most"),
        Row("idle.redis", "commands of Redis", "/s"),
        Row("idle.wal", "WAL written", "kB a minute"),
    ),
    "Other work": (
        Row("acts.plan", "plan of a job by filter", "/s"),
        Row("acts.export.csv", "rows exported as CSV over HTTP", "/s"),
        Row("acts.export.xlsx", "the same as XLSX", "/s"),
        Row("acts.export.parquet", "the same as Parquet", "/s"),
        Row("acts.redrive", "dead letters redriven by a run, at 1,000 a second at the most", "/s"),
        Row("acts.keep", "dead letters kept by a run, at 1,000 a second at the most", "/s"),
        Row("acts.check", "outcomes checked by `withdrawals check`", "/s"),
    ),
    "Memory": (
        Row("memory.web", "web, after a bulk job of 1 million", "MB", goal=200, sense="at most"),
        Row("memory.worker", "worker, the same", "MB", goal=200, sense="at most"),
        Row("memory.relay", "relay, the same", "MB", goal=200, sense="at most"),
        Row("memory.export", "the largest process of an export", "MB", goal=200, sense="at most"),
    ),
}
"""The table, group by group."""

ROWS = [row for rows in GROUPS.values() for row in rows]
