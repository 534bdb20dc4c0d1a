"""The books: the conservation formula and every invariant, each a rule over the rows of one scan.

Every rule holds at any time, also while work is running, because what belongs together commits together. So a scan
needs one snapshot and no more: the books are read in slices, each in a short transaction (decision record 0021).
"""

from collections.abc import Collection
from datetime import timedelta

from sqlalchemy import Connection, text

from worker.ledger.books import audit_chain, brake, chunks, guards, jobs, letters, platform, prunes, rosters, seals
from worker.ledger.books.rule import Rule, Scan, Violation, fill
from worker.ledger.books.slices import Slice

SCANS: tuple[Scan, ...] = (
    *jobs.SCANS,
    *brake.SCANS,
    *chunks.SCANS,
    *letters.SCANS,
    *platform.SCANS,
    *rosters.SCANS,
    *guards.SCANS,
)

RULES: dict[str, Rule] = {rule.code: rule for scan in SCANS for rule in scan.rules} | {
    rule.code: rule for rule in (*seals.RULES, *prunes.RULES, *audit_chain.RULES)
}
"""Every rule by its code."""


def scan_slice(
    connection: Connection,
    part: Slice,
    *,
    role: str,
    furthest: timedelta,
    most: int,
    without: Collection[str] = (),
) -> list[Violation]:
    """What breaks a rule in one slice, at most `most` rows of each. The caller's transaction decides on the snapshot.

    `role`: the service's role in the database. `furthest`: how far ahead the next attempt at a chunk may lie.
    `without`: codes of rules that were broken often enough; a scan that has no others is left out.
    """
    values = {"role": role, "furthest": furthest, "most": most, **part.values}
    found = []
    for scan in SCANS:
        if scan.by is part.by and not {rule.code for rule in scan.rules} <= set(without):
            rows = connection.execute(text(scan.statement(part.within)), values)
            found += [Violation(row.code, row.subject) for row in rows]
    return found


# The four terms of the formula. The chunks of person jobs stand for what those jobs accepted.
_TOTALS = """
SELECT count(*) AS jobs, coalesce(sum(CASE WHEN c.persons THEN c.own ELSE j.accepted END), 0) AS accepted,
    (SELECT count(*) FROM withdrawals.outcomes WHERE {within job_id}) AS outcomes,
    coalesce(sum(c.unfinished), 0) AS unfinished, coalesce(sum(c.closed_whole), 0) AS closed_whole
FROM withdrawals.jobs j LEFT JOIN (
    SELECT job_id, bool_or(learner_external_id IS NOT NULL) AS persons,
        sum(size) FILTER (WHERE state <> 'split') AS own,
        sum(size) FILTER (WHERE state IN ({unfinished})) AS unfinished,
        sum(size) FILTER (WHERE state IN ({closed_whole})) AS closed_whole
    FROM withdrawals.job_chunks WHERE {within job_id} GROUP BY job_id) c ON c.job_id = j.id
WHERE {within j.id}
"""


def totals(connection: Connection, part: Slice) -> dict[str, int]:
    """Both sides of the conservation formula over the jobs of a slice."""
    row = connection.execute(text(fill(_TOTALS, part.within)), part.values).mappings().one()
    return {name: int(value) for name, value in row.items()}
