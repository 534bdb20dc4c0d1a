"""An accepted roster, applied in steps: each is one transaction over the locked roster, and the last makes its one job.

Whoever dies within a step has done nothing, and any relay goes on. A roster that fails keeps no other from its turn
(decision record 0046).
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial

import structlog
from sqlalchemy import Connection, select

from schemas.catalogue import Reason, Source
from worker.access import erased
from worker.database import Database
from worker.faults import describe, is_passing
from worker.jobs import submit
from worker.jobs.selection import Counts, Selection, digest
from worker.ledger import freeze, jobs, roster_findings, rosters
from worker.ledger import plan as ledger_plan
from worker.ledger import roster_steps as ledger
from worker.ledger.plan import Preview
from worker.ledger.rosters import StoredRoster
from worker.people.apply_roster import apply_roster
from worker.people.newest_events import lock_people
from worker.records import ArrivedEvent, NewChunks, NewJob, StoredEvent
from worker.rules import ROSTER
from worker.telemetry import error_reports

log = structlog.get_logger(__name__)

DOOR = f"hr:{ROSTER}"
_AT_ONCE = 2_000
"""People of a roster that one transaction applies: it holds the organisation's settings for less than half a second."""


class Left(Selection):
    """The enrolments of the people of a roster who left."""

    def __init__(self, roster: StoredRoster) -> None:
        self._roster = roster

    def digest(self) -> str:
        return digest("roster", str(self._roster.id))

    def preview(self, connection: Connection, organisation_id: int) -> Preview:
        found = roster_findings.withdrawn_enrolments(self._roster.id, organisation_id).subquery()
        return ledger_plan.by_query(connection, organisation_id, select(found.c.id).distinct())

    def freeze(self, connection: Connection, chunks: NewChunks) -> Counts:
        return self.count(freeze.staged(connection, chunks))


_FIRST_RETRY, _LONGEST_RETRY = 10.0, 300.0
"""Seconds until a roster that failed is tried again: they double from the first to the longest."""
_MOST_ATTEMPTS, _MOST_PASSING = 5, 50
"""Failures in a row after which a roster is not tried again by itself: of any cause, and of one that passes (some four
hours). A database that cannot be reached counts none, because nobody can write them."""


def apply_accepted(
    database: Database, *, within: float = 1.0, chunk_size: int = 1000, go_on: Callable[[], bool] = lambda: True
) -> int:
    """Go on applying accepted rosters of all organisations, for about so many seconds; how many people were decided.

    `go_on`: asked after each step.

    They take turns, a step each. One that fails is tried again later, and after a few attempts no more: a person sees
    it, and confirms it again or sends a newer one.

    Raises:
        DBAPIError: the database cannot be reached, or takes no writes.
    """
    with database.begin() as connection:
        places = dict.fromkeys(rosters.list_due(connection), "")
    decided, until = 0, time.monotonic() + within
    while places:
        for roster_id, after in list(places.items()):
            step = _try(database, roster_id, after, chunk_size)
            decided += step.decided
            if step.ended:
                del places[roster_id]
            else:
                places[roster_id] = step.last
            if time.monotonic() > until or not go_on():
                return decided
    return decided


@dataclass(frozen=True, slots=True)
class _Step:
    decided: int
    last: str
    """The external id with which the next step goes on."""
    ended: bool
    """Whether the roster is done or has failed, or it, or what is left of it, is locked by others."""


def _try(database: Database, roster_id: int, after: str, chunk_size: int) -> _Step:
    """One step of a roster; its failure is on record, and ends its turn."""
    try:
        return database.run(partial(_step, roster_id=roster_id, after=after, chunk_size=chunk_size))
    except Exception as error:
        name, message, fingerprint = describe(error)
        passing = is_passing(error)
        record = partial(
            rosters.record_failure,
            roster_id=roster_id,
            failure=f"{name}: {message}",
            most=_MOST_PASSING if passing else _MOST_ATTEMPTS,
            first=_FIRST_RETRY,
            longest=_LONGEST_RETRY,
        )
        failure = database.run(record)
        if failure is not None:
            ids = {"roster_id": roster_id, "organisation_id": failure.organisation_id}
            log.error(
                "roster.failed" if failure.is_last else "roster.attempt_failed",
                **ids, attempts=failure.attempts, error_class=name, message=message, fingerprint=fingerprint,
            )  # fmt: skip
            if not passing:
                error_reports.report(error, "roster.attempt_failed", **ids)
        return _Step(0, "", ended=True)


def _step(connection: Connection, *, roster_id: int, after: str, chunk_size: int) -> _Step:
    roster = rosters.lock_due(connection, roster_id)
    if roster is None:
        return _Step(0, "", ended=True)
    lines = ledger.list_undecided(connection, roster.id, after=after, most=_AT_ONCE)
    if lines:
        decided = _apply(connection, roster, lines)
        if decided and roster.failure is not None:
            rosters.clear_failure(connection, roster.id)
        return _Step(decided, lines[-1][0], ended=False)
    if after and ledger.list_undecided(connection, roster.id, after="", most=1):
        return _Step(0, "", ended=True)
    job_id = _make_job(connection, roster, chunk_size)
    rosters.finish(connection, roster.id, job_id)
    log.info("roster.done", roster_id=roster.id, organisation_id=roster.organisation_id, job_id=job_id)
    return _Step(0, "", ended=True)


def _apply(connection: Connection, roster: StoredRoster, lines: list[tuple[str, int | None, bool]]) -> int:
    """Apply lines of a locked roster; how many. Those whose person somebody else has locked are left for later."""
    organisation_id = roster.organisation_id
    sealed_key = jobs.lock_settings(connection, organisation_id)
    gone = erased.find(connection, organisation_id, sealed_key, [external_id for external_id, _, _ in lines])
    about = {external_id: (line, active) for external_id, line, active in lines if external_id not in gone}
    people = lock_people(connection, organisation_id, list(about), skip_taken=True)
    now = max(jobs.database_now(connection), roster.as_of)
    unchanged = [
        external_id
        for external_id, person in people.persons.items()
        if about[external_id][1] and person.active and people.learners.active.get(external_id, True)
    ]
    if unchanged:
        ledger.record_active(connection, organisation_id, unchanged, roster.as_of)
    others = people.persons.keys() - set(unchanged)
    arrived = [_arrived(roster, external_id, *about[external_id], now) for external_id in sorted(others)]
    results = apply_roster(connection, organisation_id, arrived, people, now) if arrived else {}
    ledger.settle(
        connection,
        roster.id,
        {external_id: (one.result, one.epoch) for external_id, one in results.items() if one.result != "known"},
        [*gone, *unchanged, *(external_id for external_id, one in results.items() if one.result == "known")],
    )
    return len(people.persons) + len(gone)


def _arrived(roster: StoredRoster, external_id: str, line: int | None, active: bool, now: datetime) -> ArrivedEvent:
    kind = "user.reactivated" if active else "user.deactivated"
    return ArrivedEvent(
        external_id,
        StoredEvent(ROSTER, kind, None, roster.as_of, roster.as_of),
        now,
        actor=DOOR,
        door=DOOR,
        key=f"{roster.id}:{line or 'missing'}",
        request_hash=b"",
    )


def _make_job(connection: Connection, roster: StoredRoster, chunk_size: int) -> int | None:
    """The one job of a roster that was applied; None: there is nothing to withdraw."""
    organisation_id = roster.organisation_id
    # Without the organisation's settings, for which its events wait: who comes back meanwhile has another epoch than
    # the line, and is superseded when the chunk is decided.
    if not ledger.stage_left(connection, organisation_id, roster.id):
        return None
    new = NewJob(
        organisation_id=organisation_id,
        requested_by=roster.accepted_by or DOOR,
        door=DOOR,
        key=f"roster:{roster.id}",
        request_hash=submit.hash_body({"roster": roster.id, "sha256": roster.sha256}),
        reason=Reason.USER_DEACTIVATED,
        source=Source.HR,
        note=f"Roster {roster.id} of {roster.as_of:%Y-%m-%d %H:%M}Z",
        file_name=roster.file_name or f"roster {roster.id}",
    )
    return submit.logged(submit.accept(connection, new, Left(roster), chunk_size=chunk_size)).job.id
