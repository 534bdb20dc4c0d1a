"""`withdrawals up --demo`: the Open University's data to click through, with jobs that support has to finish.

Not the replay: what was asked for stands in a job for each Series, which takes seconds instead of a minute. The
last presentations are left as they were, with learners to withdraw; so is nothing of the pathway, all of whose
requests wait as dead letters.
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
LEFT = "2014J"
"""The presentation that nobody has asked anything of, but for the pathway's module."""
SHARE = 0.4
"""Of the learners: the jobs withdraw a quarter of them at once, which an approver allows beforehand."""
_LAST = "demo-without-a-day"
_ACTOR = "demo:registry"
_BASE = text("""
SELECT o.id, (SELECT min(e.id) - 1 FROM lms.enrolments e WHERE e.organisation_id = o.id)
FROM lms.organisations o WHERE o.name = :name""")


def load(current: Settings) -> bool:
    """Load the data and submit its jobs, unless that was done before; whether it was done now.

    Every step can be repeated: a start that was killed half-way is finished by the next one.
    """
    database, owner = Database(current, pool_size=1), Database(current, pool_size=1, as_owner=True)
    try:
        with owner.begin() as connection:
            connection.execute(text("SELECT pg_advisory_xact_lock(hashtext(:name))"), {"name": ORGANISATION})
            known = connection.execute(_BASE, {"name": ORGANISATION}).one_or_none()
            if known is not None and _asked(connection, known[0]):
                return False
            rows = oulad.registrations()
            organisation_id, base = known or oulad.load(connection, ORGANISATION, rows)
        brake.set_limits(
            database, organisation_id=organisation_id, wanted=BrakeSetting(share=SHARE), actor="demo:approver"
        )
        _ask(database, organisation_id, base, rows)
    finally:
        database.close()
        owner.close()
    return True


def _asked(connection: Connection, organisation_id: int) -> bool:
    """Whether the last of its jobs is there, before which all others were submitted."""
    return jobs.find_by_key(connection, organisation_id=organisation_id, door="api", key=_LAST) is not None


def _ask(database: Database, organisation_id: int, base: int, rows: list[oulad.Registration]) -> None:
    """A job for each Series of those who unregistered; one for those of whom no day is known."""
    by_series: dict[str, list[int]] = defaultdict(list)
    rest = []
    for row in rows:
        if row.series.endswith(LEFT) and not row.owned:
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
