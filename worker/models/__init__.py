"""The tables: the platform's own (`lms`) and the ledger's (`withdrawals`), as typed metadata for composed statements.

The migrations make the tables, with their checks, indexes and triggers; a test compares this metadata with a migrated
database. Large set statements are SQL text in `worker/ledger/`; what is composed of conditions is built from here.
"""

from worker.models.access import logout_tokens, members, sessions, sign_in_links, tokens
from worker.models.base import Ids, Instant, metadata
from worker.models.books import audit, audit_days, erased_rows, erasures, pruned_withdrawals, prunes, seals
from worker.models.letters import dead_letters, run_letters, runs
from worker.models.lms import enrolments, learners, organisations, pathways, resource_access, series
from worker.models.outgoing import (
    deliveries,
    endpoints,
    feed,
    notice_scans,
    notices,
    notification_messages,
    notification_targets,
)
from worker.models.people import (
    person_events,
    persons,
    receipts,
    roster_lines,
    rosters,
    scim_users,
    silence_limits,
    sources,
)
from worker.models.reports import report_files, report_parts, report_schedules
from worker.models.safeguards import (
    acts_alone,
    approvals,
    brake_series,
    brake_volume,
    limit_proposals,
    organisation_settings,
    protections,
)
from worker.models.upkeep import findable, leader, processes, saved_views
from worker.models.work import (
    attempts,
    batch_jobs,
    chunks,
    file_lines,
    job_chunks,
    jobs,
    letter_chunks,
    outcomes,
    upload_parts,
    uploads,
)

__all__ = [
    "Ids", "Instant", "acts_alone", "approvals", "attempts", "audit", "audit_days", "batch_jobs", "brake_series",
    "brake_volume", "chunks", "dead_letters", "deliveries", "endpoints", "enrolments", "erased_rows", "erasures",
    "feed", "file_lines", "findable", "job_chunks", "jobs", "leader", "learners", "letter_chunks", "limit_proposals",
    "logout_tokens", "members", "metadata", "notice_scans", "notices", "notification_messages", "notification_targets",
    "organisation_settings", "organisations", "outcomes", "pathways", "person_events", "persons", "processes",
    "protections", "pruned_withdrawals", "prunes", "receipts", "report_files", "report_parts", "report_schedules",
    "resource_access", "roster_lines", "rosters", "run_letters", "runs", "saved_views", "scim_users", "seals",
    "series", "sessions", "sign_in_links", "silence_limits", "sources", "tokens", "upload_parts", "uploads",
]  # fmt: skip
