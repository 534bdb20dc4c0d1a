"""The books of what was pruned: records say what is gone, and the jobs that are left say the same.

A prune may go on while the books are read. A record that came after the check had begun is left to the next one.
"""

from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import date

from sqlalchemy import Connection, text

from worker.ledger.books.rule import By, Rule, Violation, fill
from worker.ledger.books.slices import Slice

RULES = (
    Rule(
        "pruned-job",
        "A job whose details were pruned says another number of ids than it accepted.",
        "Compare the job's row with a backup, and with the files that its record names.",
    ),
    Rule(
        "prune-record",
        "A record of a prune is missing, or says something else than the jobs that it is about.",
        "Compare `prunes` and the jobs with a backup, and find out who may write them as their owner.",
    ),
    Rule(
        "prune-chain",
        "A record of a prune was removed or changed: it does not follow from the record before it.",
        "Compare `prunes` with a backup, and find out who may write it as its owner.",
    ),
)


def newest(connection: Connection) -> int:
    """The newest record; 0: there is none."""
    return int(connection.scalar(text("SELECT coalesce(max(id), 0) FROM withdrawals.prunes")) or 0)


_HAS_PRUNED = "SELECT EXISTS (SELECT FROM withdrawals.jobs WHERE {within id} AND prune_id IS NOT NULL)"


def without_pruned(connection: Connection, part: Slice) -> Slice:
    """The slice without jobs that were pruned: their details count as gone, also while they are being deleted."""
    if part.by is not By.JOB or not connection.scalar(text(fill(_HAS_PRUNED, part.within)), part.values):
        return part
    pruned = f"SELECT p.id FROM withdrawals.jobs p WHERE p.prune_id IS NOT NULL AND {part.within}".replace(
        "{column}", "p.id"
    )
    return replace(part, within=f"{part.within} AND {{column}} NOT IN ({pruned})")


_NUMBERS = """
SELECT prune_id, count(*) AS jobs, coalesce(sum(accepted) FILTER (WHERE learner_external_id IS NULL), 0) AS accepted
FROM withdrawals.jobs WHERE {within id} AND prune_id IS NOT NULL GROUP BY 1
"""
_COUNTS = """
SELECT j.prune_id, c.key AS outcome, sum(c.value::bigint) AS n,
    coalesce(sum(c.value::bigint) FILTER (WHERE j.learner_external_id IS NOT NULL), 0) AS of_persons
FROM withdrawals.jobs j CROSS JOIN LATERAL jsonb_each_text(j.pruned_counts) c
WHERE {within j.id} AND j.prune_id IS NOT NULL GROUP BY 1, 2
"""
_WRONG = """
SELECT j.id, j.accepted, c.n FROM withdrawals.jobs j
CROSS JOIN LATERAL (SELECT coalesce(sum(value::bigint), 0) AS n FROM jsonb_each_text(j.pruned_counts)) c
WHERE {within j.id} AND j.prune_id IS NOT NULL AND j.learner_external_id IS NULL AND c.n <> j.accepted
ORDER BY j.id LIMIT :most
"""


@dataclass(slots=True)
class PrunedJobs:
    """Jobs and outcomes by the record that they name, put together from slices."""

    jobs: Counter[int] = field(default_factory=Counter)
    counts: dict[int, Counter[str]] = field(default_factory=dict)
    accepted: int = 0
    """Ids that these jobs accepted."""

    @property
    def ids(self) -> int:
        """Ids that these jobs had an outcome for."""
        return sum(count.total() for count in self.counts.values())

    def add(self, connection: Connection, part: Slice, *, most: int) -> list[Violation]:
        """Count the pruned jobs of a slice; those that do not balance."""
        for row in connection.execute(text(fill(_NUMBERS, part.within)), part.values):
            self.jobs[row.prune_id] += row.jobs
            self.accepted += int(row.accepted)
        for row in connection.execute(text(fill(_COUNTS, part.within)), part.values):
            self.counts.setdefault(row.prune_id, Counter())[row.outcome] += int(row.n)
            self.accepted += int(row.of_persons)
        rows = connection.execute(text(fill(_WRONG, part.within)), {**part.values, "most": most})
        return [
            Violation("pruned-job", f"job {row.id}: accepted {row.accepted}, accounted for {row.n}") for row in rows
        ]


_RECORDS = text("""
SELECT p.id, p.row_count, p.counts, (SELECT coalesce(sum(w.withdrawals), 0)
    FROM withdrawals.pruned_withdrawals w WHERE w.prune_id = p.id) AS withdrawals
FROM withdrawals.prunes p WHERE p.kind = 'jobs' ORDER BY p.id
""")
_UNLINKED = text("""
SELECT p.id FROM withdrawals.prunes p LEFT JOIN withdrawals.prunes b ON b.id = p.id - 1
WHERE p.chain <> withdrawals.prune_chain(p, coalesce(b.chain, 0)) OR (b.id IS NULL AND p.id > 1) ORDER BY p.id
""")


def compare(connection: Connection, found: PrunedJobs, *, horizon: int) -> list[Violation]:
    """What the records say against all jobs. `horizon`: the newest record when the check began."""
    records = {row.id: row for row in connection.execute(_RECORDS)}
    broken = [
        Violation("prune-record", f"record {one}: named by jobs {number}, and not there")
        for one, number in sorted(found.jobs.items())
        if one not in records
    ]
    for one, row in records.items():
        counts = {outcome: n for outcome, n in found.counts.get(one, Counter()).items() if n}
        said = (row.row_count, row.counts, int(row.withdrawals))
        if one <= horizon and said != (found.jobs[one], counts, counts.get("withdrawn", 0)):
            broken.append(Violation("prune-record", f"record {one}: jobs {found.jobs[one]}, on record {row.row_count}"))
    return broken


def check_chain(connection: Connection) -> list[Violation]:
    """Records that do not follow from the one before."""
    return [Violation("prune-chain", f"record {one}") for one in connection.scalars(_UNLINKED)]


@dataclass(frozen=True, slots=True)
class PrunedDays:
    """Rows of one table that are on record as pruned, by their day."""

    found: dict[date, tuple[int, int]]
    """Number and digest."""
    busy: set[date]
    """Days of which rows were pruned since the check began: what was counted of them is not known."""


_DAYS = text("""
SELECT day, sum(row_count) AS n, bit_xor(digest) AS digest, max(id) > :horizon AS busy
FROM withdrawals.prunes WHERE kind = :table GROUP BY 1
""")


def days(connection: Connection, table: str, *, horizon: int) -> PrunedDays:
    """What is on record of a table that is sealed."""
    rows = connection.execute(_DAYS, {"table": table, "horizon": horizon}).all()
    return PrunedDays({row.day: (int(row.n), row.digest) for row in rows}, {row.day for row in rows if row.busy})
