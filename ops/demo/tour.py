"""`withdrawals up --demo`: the Open University's data to try the console with, and dead letters for support.

Unlike the replay, it submits one job for each Series, which takes seconds instead of a minute. The last presentations
are left untouched, so that there are learners to withdraw. Every request for the pathway's module is a dead letter.
One job waits for a second person: a policy holds bulk requests, such as scripts send, from a hundred learners on.
"""

from collections import defaultdict
from contextlib import suppress

from sqlalchemy import Connection, text

from ops.demo import oulad
from schemas.approvals import PolicyRequest, Rule
from schemas.catalogue import GuardedAct, Role, Source
from schemas.control import BrakeSetting
from schemas.jobs import JobRequest
from worker.access import policies
from worker.access.persons import Actor
from worker.config import Settings
from worker.database import Database
from worker.errors import InvalidInputError
from worker.jobs import brake
from worker.jobs.submit import Requester, submit
from worker.ledger import jobs

ORGANISATION = "Open University demo"
UNTOUCHED = "2014J"
"""The presentation without any request, except for the pathway's module."""
SHARE = 0.4
"""Brake limit, as a share of the learners. The jobs withdraw a quarter of them at once."""
PEOPLE = (("olivia", Role.OWNER), ("paul", Role.APPROVER))
"""Who can sign in: she has asked for the job that waits, he can release it."""
WAITING = "EEE-2014J"
"""Of this Series she asks to withdraw who has never begun, 159 learners."""
ALONE = 100
"""So many learners of bulk requests need nobody else."""
_NOTE = "They have never begun. Please look at the list before they are withdrawn."
_HELD, _LAST = "demo-never-begun", "demo-without-a-day"
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
        _limit_bulk(database, organisation_id)
        _submit_jobs(database, organisation_id, base, rows)
    finally:
        database.close()
        owner.close()
    return True


def _is_submitted(connection: Connection, organisation_id: int) -> bool:
    """Whether the last of its jobs exists. All others are submitted before it."""
    return jobs.find_by_key(connection, organisation_id=organisation_id, door="api", key=_LAST) is not None


def _limit_bulk(database: Database, organisation_id: int) -> None:
    """Hold large bulk requests. Nobody else could approve it yet, so the rule applies at once."""
    rule = Rule(act=GuardedAct.WITHDRAW, source=Source.BULK, alone_up_to=ALONE)
    wanted = PolicyRequest(rules=[rule], note="Scripts may be wrong.")
    with suppress(InvalidInputError):  # a start that was killed has set it
        policies.replace(database, organisation_id=organisation_id, wanted=wanted, who=Actor("demo:owner"))


def _submit_jobs(database: Database, organisation_id: int, base: int, rows: list[oulad.Registration]) -> None:
    """One job for each Series with learners who unregistered, one that waits, and one for those without a known day."""
    by_series: dict[str, list[int]] = defaultdict(list)
    rest, waiting = [], []
    for row in rows:
        if row.series == WAITING and row.status in ("waiting_to_start", "not_signed_in"):
            waiting.append(base + row.number)
        if row.series.endswith(UNTOUCHED) and not row.owned:
            continue
        if row.day is not None:
            by_series[row.series].append(base + row.number)
        elif row.withdrawn:
            rest.append(base + row.number)
    for series, ids in sorted(by_series.items()):
        requester = Requester(organisation_id, _ACTOR, "api", f"demo-{series}")
        submit(database, requester, JobRequest(reason="learner_declined", source="admin", enrolment_ids=ids))
    olivia, _ = PEOPLE[0]
    submit(
        database,
        Requester(organisation_id, f"token:{olivia}", "api", _HELD),
        JobRequest(reason="not_required", source="bulk", enrolment_ids=waiting, note=_NOTE),
    )
    submit(
        database,
        Requester(organisation_id, _ACTOR, "api", _LAST),
        JobRequest(reason="enrolment_error", source="correction", enrolment_ids=rest),
    )
