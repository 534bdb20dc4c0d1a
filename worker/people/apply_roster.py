"""Apply what a full roster says about locked persons: the same rules as for events, but one job for all who left."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from worker.ledger import deactivations, inbox, jobs
from worker.people.apply_events import answer_what_needs_no_job, deactivate
from worker.people.newest_events import (
    LockedPeople,
    NewestEvent,
    answer_repetitions,
    change_people,
    record,
)
from worker.records import ArrivedEvent, DeactivationPolicy
from worker.rules import ROSTER, STANDING, is_in_effect


@dataclass(frozen=True, slots=True)
class RosterResult:
    """What became of a roster's line about a person; `epoch` where the roster's job is to withdraw them."""

    result: str
    epoch: int | None = None


def apply_roster(
    connection: Connection, organisation_id: int, arrived: Sequence[ArrivedEvent], people: LockedPeople, now: datetime
) -> dict[str, RosterResult]:
    """Apply what a roster says about locked persons, in the caller's transaction; the results by external id.

    As `apply_events`, but those who left get no job of their own: they are to be withdrawn by the roster's one job.
    Whoever left and has a job under way is left to that job: a roster finds what was lost, and overtakes nothing.

    Where the roster refutes a leave that had voided an announced one, the announced one is the newest again, and its
    job is made anew, as the policy of its source has it.
    """
    changes = record(connection, organisation_id, arrived, people, now)
    leaving = [change for change in changes if change.newest.deactivates]
    own = [change for change in leaving if change.newest.source == ROSTER]
    answer_repetitions(connection, organisation_id, own, {ROSTER: DeactivationPolicy()}, now)
    announced = [change for change in leaving if change.newest.source != ROSTER]
    asking = answer_what_needs_no_job(connection, organisation_id, announced, now)
    cancelled = _find_cancelled(connection, organisation_id, [change for change, _ in asking])
    jobs.audit_events(connection, organisation_id, [change.arrived for change in changes if change.new_epoch])
    change_people(connection, organisation_id, changes, people, now)
    _announce_again(connection, organisation_id, [one for one in asking if one[0].external_id not in cancelled], now)
    changed = {change.external_id: change for change in changes}
    found: dict[str, RosterResult] = {}
    left: dict[str, int] = {}
    for one in arrived:
        change, person = changed.get(one.external_id), people.persons[one.external_id]
        inactive_from = change.inactive_from if change else person.effective_at
        if not one.event.deactivates:
            found[one.external_id] = RosterResult(
                "reactivated" if change and inactive_from is None else _why_inactive(inactive_from, now)
            )
        elif is_in_effect(inactive_from, now):
            left[one.external_id] = change.epoch if change else person.epoch
        else:
            found[one.external_id] = RosterResult("newer_event")
    known = deactivations.find(connection, organisation_id, left) if left else {}
    for external_id, epoch in left.items():
        job = known.get(external_id)
        is_under_way = job is not None and job.state in STANDING
        found[external_id] = RosterResult("under_way") if is_under_way else RosterResult("withdraw", epoch)
    return found


def _find_cancelled(connection: Connection, organisation_id: int, changes: Sequence[NewestEvent]) -> set[str]:
    """Persons of whose announced leave somebody has cancelled the job: a roster does not take that back."""
    sources = {change.external_id: change.newest.source for change in changes}
    return deactivations.find_cancelled(connection, organisation_id, sources) if sources else set()


def _announce_again(
    connection: Connection,
    organisation_id: int,
    asking: Sequence[tuple[NewestEvent, DeactivationPolicy]],
    now: datetime,
) -> None:
    """Make the jobs of announced leaves anew, each with a receipt, as that of an event has."""
    made = deactivate(connection, organisation_id, asking, now) if asking else {}
    for change, _ in asking:
        result = made[change.external_id]
        inbox.insert_receipt(
            connection,
            organisation_id=organisation_id,
            door=change.arrived.door,
            key=change.arrived.key,
            request_hash=change.arrived.request_hash,
            status=result.status,
            job_id=result.job_id,
        )


def _why_inactive(inactive_from: datetime | None, now: datetime) -> str:
    """Why a roster that has somebody as active changes nothing. "known": they are active already."""
    if inactive_from is None:
        return "known"
    return "newer_event" if inactive_from <= now else "announced"
