"""`withdrawals up --demo`: the Open University's data to try the console with, and dead letters for support.

Unlike the replay, it submits one job for each Series, which takes seconds instead of a minute. The last presentations
are left untouched, so that there are learners to withdraw. Every request for the pathway's module is a dead letter.
"""

from collections import defaultdict

from sqlalchemy import Connection, text

from ops.demo import oulad
from schemas.control import BrakeSetting
from schemas.jobs import JobRequest
from worker.config import Settings
from worker.database import Database
from worker.jobs import brake
from worker.jobs.submit import Requester, submit
from worker.ledger import jobs

ORGANISATION = "Open University demo"
UNTOUCHED = "2014J"
"""The presentation without any request, except for the pathway's module."""
SHARE = 0.4
"""Brake limit, as a share of the learners. The jobs withdraw a quarter of them at once."""
_LAST = "demo-without-a-day"
_ACTOR = "demo:registry"
_BASE = text("""
SELECT o.id, (SELECT min(e.id) - 1 FROM lms.enrolments e WHERE e.organisation_id = o.id)
FROM lms.organisations o WHERE o.name = :name""")


def load(current: Settings) -> bool:
    """Load the data and submit its jobs, once. Returns whether this call did it.

    Every step can be repeated, so the next start completes one that was killed.
    """
    database, owner = Database(current, pool_size=1), Database(current, pool_size=1, as_owner=True)
    try:
        with owner.begin() as connection:
            connection.execute(text("SELECT pg_advisory_xact_lock(hashtext(:name))"), {"name": ORGANISATION})
            known = connection.execute(_BASE, {"name": ORGANISATION}).one_or_none()
            if known is not None and _is_submitted(connection, known[0]):
                return False
            rows = oulad.registrations()
            organisation_id, base = known or oulad.load(connection, ORGANISATION, rows)
        brake.set_limits(
            database, organisation_id=organisation_id, wanted=BrakeSetting(share=SHARE), actor="demo:approver"
        )
        _submit_jobs(database, organisation_id, base, rows)
    finally:
        database.close()
        owner.close()
    return True


def _is_submitted(connection: Connection, organisation_id: int) -> bool:
    """Whether the last of its jobs exists. All others are submitted before it."""
    return jobs.find_by_key(connection, organisation_id=organisation_id, door="api", key=_LAST) is not None


def _submit_jobs(database: Database, organisation_id: int, base: int, rows: list[oulad.Registration]) -> None:
    """One job for each Series with learners who unregistered, and one for those without a known day."""
    by_series: dict[str, list[int]] = defaultdict(list)
    rest = []
    for row in rows:
        if row.series.endswith(UNTOUCHED) and not row.owned:
            continue
        if row.day is not None:
            by_series[row.series].append(base + row.number)
        elif row.withdrawn:
            rest.append(base + row.number)
    for series, ids in sorted(by_series.items()):
        requester = Requester(organisation_id, _ACTOR, "api", f"demo-{series}")
        submit(database, requester, JobRequest(reason="learner_declined", enrolment_ids=ids))
    submit(
        database,
        Requester(organisation_id, _ACTOR, "api", _LAST),
        JobRequest(reason="enrolment_error", source="correction", enrolment_ids=rest),
    )
