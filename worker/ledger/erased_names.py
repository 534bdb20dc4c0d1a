"""The rows that name a person who is erased: what stands in the way, the pseudonym in their place, notes about them.

What other rows say about the person in words is `erased_texts.py`.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, or_, select, text, update

from worker.ledger import erased_texts, findable
from worker.ledger.erased_texts import Words
from worker.ledger.erasures import Erasure
from worker.ledger.fragments import LIVE, UNFINISHED, sql_list
from worker.models import audit
from worker.rules import ACTIVE

ERASED_TEXT = "[erased]"
"""What stands in place of a note about the person alone."""

# What `withdrawals.jobs` and the others still have to do with a person. None of it may be erased under way.
_IN_THE_WAY = text(f"""
SELECT 'job ' || j.id || ' is ' || j.state FROM withdrawals.jobs j
WHERE j.organisation_id = :organisation AND j.finished_at IS NULL
    AND (j.learner_external_id = :person OR j.deactivated_external_id = :person)
UNION SELECT 'job ' || j.id || ', which they asked for, is ' || j.state FROM withdrawals.jobs j
WHERE j.organisation_id = :organisation AND j.finished_at IS NULL AND j.requested_by ILIKE ANY (:mentions)
UNION SELECT 'job ' || c.job_id || ' has not decided an enrolment of theirs' FROM withdrawals.chunks c
WHERE c.organisation_id = :organisation AND c.state IN ({sql_list(UNFINISHED)})
    AND (c.learner_external_id = :person OR c.enrolment_ids && CAST(:enrolments AS bigint[]))
UNION SELECT 'dead letter ' || d.id || ' is ' || d.state FROM withdrawals.dead_letters d
WHERE d.organisation_id = :organisation AND d.state IN ({sql_list(LIVE)})
    AND (d.learner_external_id = :person OR d.enrolment_id = ANY(CAST(:enrolments AS bigint[])))
UNION SELECT 'protection ' || p.id || ' is in force' FROM withdrawals.protections p
WHERE p.organisation_id = :organisation AND p.ends_at > now()
    AND (p.learner_external_id = :person OR p.enrolment_id = ANY(CAST(:enrolments AS bigint[])))
UNION SELECT 'receipt ' || r.id || ' waits in the inbox' FROM withdrawals.receipts r
WHERE r.organisation_id = :organisation AND r.waiting AND r.external_id = :person
UNION SELECT 'roster ' || r.id || ', which names them, is being applied' FROM withdrawals.rosters r
JOIN withdrawals.roster_lines t ON t.roster_id = r.id AND t.external_id = :person
WHERE r.organisation_id = :organisation AND r.state = 'accepted'
UNION SELECT 'enrolment ' || e.id || ' is ' || e.status FROM lms.enrolments e
WHERE e.organisation_id = :organisation AND e.id = ANY(CAST(:enrolments AS bigint[]))
    AND e.status IN ({sql_list(ACTIVE)})
UNION SELECT 'learner ' || l.id || ' is active on the platform' FROM lms.learners l
WHERE l.organisation_id = :organisation AND l.external_id = :person AND l.active
ORDER BY 1 LIMIT 50
""")


_LIKE = re.compile(r"[%_\\]")


def list_obstacles(
    connection: Connection, organisation_id: int, external_id: str, enrolment_ids: Sequence[int], words: Words
) -> list[str]:
    """What is not settled about a person, up to 50 findings in words."""
    values = {
        "organisation": organisation_id,
        "person": external_id,
        "enrolments": list(enrolment_ids),
        "mentions": ["%" + _LIKE.sub(r"\\\g<0>", variant) + "%" for variant in words.variants],
    }
    return list(connection.scalars(_IN_THE_WAY, values))


_ON_THE_PLATFORM = text("""
SELECT l.email, l.display_name, coalesce(array_agg(e.id) FILTER (WHERE e.id IS NOT NULL), '{}') AS enrolment_ids
FROM lms.learners l LEFT JOIN lms.enrolments e ON e.learner_id = l.id AND e.organisation_id = l.organisation_id
WHERE l.organisation_id = :organisation AND l.external_id = :person GROUP BY l.id, l.email, l.display_name
""")


@dataclass(frozen=True, slots=True)
class OnThePlatform:
    """What the platform still has of a person."""

    email: str | None = None
    display_name: str | None = None
    enrolment_ids: tuple[int, ...] = ()


def find_on_platform(connection: Connection, organisation_id: int, external_id: str) -> OnThePlatform:
    """The person's learner; empty: the platform has none."""
    row = connection.execute(_ON_THE_PLATFORM, {"organisation": organisation_id, "person": external_id}).one_or_none()
    return OnThePlatform(row.email, row.display_name, tuple(row.enrolment_ids)) if row else OnThePlatform()


# Letters first, then chunks, then persons: the order of all locks. A pseudonym that is known already is the same
# person's, erased before: what was kept then gives way, but for its epoch, which older jobs must not be ahead of.
_RENAME = {
    "dead_letters.learner_external_id": """UPDATE withdrawals.dead_letters SET learner_external_id = :pseudonym
        WHERE organisation_id = :organisation AND learner_external_id = :person""",
    "dead_letters.evidence": """UPDATE withdrawals.dead_letters SET evidence = '{}', message = NULL,
            evidence_dropped_at = coalesce(evidence_dropped_at, now())
        WHERE organisation_id = :organisation AND (evidence <> '{}' OR message IS NOT NULL)
            AND (learner_external_id = :pseudonym OR enrolment_id = ANY(CAST(:enrolments AS bigint[])))""",
    "chunks.learner_external_id": """UPDATE withdrawals.chunks SET learner_external_id = :pseudonym
        WHERE organisation_id = :organisation AND learner_external_id = :person AND job_id IN (
            SELECT id FROM withdrawals.jobs WHERE organisation_id = :organisation
                AND (learner_external_id = :person OR deactivated_external_id = :person))""",
    " of the pseudonym": """INSERT INTO withdrawals.persons AS known
            (organisation_id, external_id, epoch, active, effective_at)
        SELECT organisation_id, :pseudonym, epoch, active, effective_at FROM withdrawals.persons
        WHERE organisation_id = :organisation AND external_id = :person
        ON CONFLICT (organisation_id, external_id) DO UPDATE SET epoch = greatest(known.epoch, excluded.epoch),
            active = excluded.active, effective_at = excluded.effective_at""",
    " of before": """DELETE FROM withdrawals.person_events
        WHERE organisation_id = :organisation AND external_id = :pseudonym AND EXISTS (
            SELECT FROM withdrawals.persons WHERE organisation_id = :organisation AND external_id = :person)""",
    "person_events.external_id": """UPDATE withdrawals.person_events SET external_id = :pseudonym
        WHERE organisation_id = :organisation AND external_id = :person""",
    "persons.external_id": """DELETE FROM withdrawals.persons
        WHERE organisation_id = :organisation AND external_id = :person""",
    "jobs.learner_external_id": """UPDATE withdrawals.jobs SET learner_external_id = :pseudonym
        WHERE organisation_id = :organisation AND learner_external_id = :person""",
    "jobs.deactivated_external_id": """UPDATE withdrawals.jobs SET deactivated_external_id = :pseudonym
        WHERE organisation_id = :organisation AND deactivated_external_id = :person""",
    "protections.reason": """UPDATE withdrawals.protections SET reason = :erased,
            lift_note = CASE WHEN lift_note IS NOT NULL THEN :erased END
        WHERE organisation_id = :organisation AND (reason <> :erased OR lift_note <> :erased)
            AND (learner_external_id = :person OR enrolment_id = ANY(CAST(:enrolments AS bigint[])))""",
    "protections.learner_external_id": """UPDATE withdrawals.protections SET learner_external_id = :pseudonym
        WHERE organisation_id = :organisation AND learner_external_id = :person""",
    "scim_users.external_id": """UPDATE withdrawals.scim_users SET external_id = :pseudonym
        WHERE organisation_id = :organisation AND external_id = :person""",
    "roster_lines": """DELETE FROM withdrawals.roster_lines
        WHERE organisation_id = :organisation AND external_id = :person AND epoch IS NULL""",
    "roster_lines.external_id": """UPDATE withdrawals.roster_lines SET external_id = :pseudonym
        WHERE organisation_id = :organisation AND external_id = :person""",
    "uploads": "DELETE FROM withdrawals.uploads WHERE organisation_id = :organisation",
    # Files of reports go whole, as uploads do. One that is being made has read what was before: it is made again.
    "report_files": """DELETE FROM withdrawals.report_files
        WHERE organisation_id = :organisation AND state IN ('ready', 'failed')""",
    " of files on their way": """UPDATE withdrawals.report_files SET state = 'due', token = NULL, lease_until = NULL
        WHERE organisation_id = :organisation AND state = 'making'""",
    "findable.parts": """DELETE FROM withdrawals.findable WHERE kind = 'learner' AND platform_id IN (
            SELECT id FROM lms.learners WHERE organisation_id = :organisation AND external_id = :person)""",
}


def rename(
    connection: Connection, organisation_id: int, external_id: str, pseudonym: str, enrolment_ids: Sequence[int]
) -> dict[str, int]:
    """Put the pseudonym in place of the external id, and delete files on their way; rows by table and column.

    The organisation's settings are locked, and nothing about the person is unfinished.
    """
    findable.lock(connection)
    values = {
        "organisation": organisation_id,
        "person": external_id,
        "pseudonym": pseudonym,
        "enrolments": list(enrolment_ids),
        "erased": ERASED_TEXT,
    }
    rows = {name: connection.execute(text(statement), values).rowcount for name, statement in _RENAME.items()}
    return {name: n for name, n in rows.items() if n and not name.startswith(" ")}


# A job is the person's own if it names them, or decided nothing but enrolments of theirs.
_OWN_JOBS = text("""
SELECT j.id FROM withdrawals.jobs j WHERE j.organisation_id = :organisation
    AND (j.learner_external_id = :pseudonym OR j.deactivated_external_id = :pseudonym)
UNION SELECT j.id FROM withdrawals.jobs j JOIN (
    SELECT job_id, count(*) AS n FROM withdrawals.outcomes
    WHERE organisation_id = :organisation AND enrolment_id = ANY(CAST(:enrolments AS bigint[])) GROUP BY job_id
) o ON o.job_id = j.id AND o.n = j.accepted WHERE j.organisation_id = :organisation
""")
_OWN_LETTERS = text("""
SELECT id FROM withdrawals.dead_letters WHERE organisation_id = :organisation
    AND (learner_external_id = :pseudonym OR enrolment_id = ANY(CAST(:enrolments AS bigint[])))
""")
_BLANK_JOBS = text("""
UPDATE withdrawals.jobs SET note = :erased
WHERE organisation_id = :organisation AND id = ANY(CAST(:jobs AS bigint[])) AND note <> :erased
""")


def blank_notes(
    connection: Connection, organisation_id: int, erasure: Erasure, enrolment_ids: Sequence[int]
) -> dict[str, int]:
    """Erase what people wrote about the person alone: the notes of their own jobs and letters."""
    values: dict[str, Any] = {
        "organisation": organisation_id,
        "pseudonym": erasure.pseudonym,
        "enrolments": list(enrolment_ids),
        "erased": ERASED_TEXT,
    }
    own_jobs = list(connection.scalars(_OWN_JOBS, values))
    own_letters = list(connection.scalars(_OWN_LETTERS, values))
    jobs = connection.execute(_BLANK_JOBS, {**values, "jobs": own_jobs}).rowcount
    written = select(audit.c.id).where(
        audit.c.organisation_id == organisation_id,
        or_(audit.c.job_id.in_(own_jobs), audit.c.dead_letter_id.in_(own_letters)),
        audit.c.note.is_not(None),
        audit.c.note != ERASED_TEXT,
    )
    audited = list(connection.scalars(written))
    with erased_texts.under_seal(connection, "audit", erasure.id, audited):
        connection.execute(
            update(audit)
            .where(audit.c.organisation_id == organisation_id, audit.c.id.in_(audited))
            .values(note=ERASED_TEXT)
        )
    counts = {"jobs.note": jobs, "audit.note": len(audited)}
    return {name: n for name, n in counts.items() if n}
