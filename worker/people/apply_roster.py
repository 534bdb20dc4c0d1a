"""Apply what a full roster says about locked persons: the same rules as for events, but one job for all who left."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from worker.ledger import deactivations, jobs
from worker.people.newest_events import LockedPeople, answer_repetitions, change_states, record, sync_learners
from worker.records import ArrivedEvent, DeactivationPolicy
from worker.rules import STANDING, is_in_effect


@dataclass(frozen=True, slots=True)
class RosterResult:
    """What became of a roster's line about a person; `epoch` where the roster's job is to withdraw them."""

    result: str
    epoch: int | None = None


def apply_roster(
    connection: Connection, organisation_id: int, arrived: Sequence[ArrivedEvent], people: LockedPeople, now: datetime
) -> dict[str, RosterResult]:
    """Apply what a roster says about locked persons, in the caller's transaction; the results by external id.

    As `apply_events`, but nobody gets a job of their own: those who left are to be withdrawn by the roster's one job.
    Whoever left and has a job under way is left to that job: a roster finds what was lost, and overtakes nothing.
    """
    changes = record(connection, organisation_id, arrived, people, now)
    leaving = [change for change in changes if change.newest.deactivates]
    policies = dict.fromkeys((change.newest.source for change in leaving), DeactivationPolicy())
    answer_repetitions(connection, organisation_id, leaving, policies, now)
    jobs.audit_events(connection, organisation_id, [change.arrived for change in changes if change.new_epoch])
    change_states(connection, organisation_id, changes)
    sync_learners(connection, organisation_id, changes, people, now)
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


def _why_inactive(inactive_from: datetime | None, now: datetime) -> str:
    """Why a roster that has somebody as active changes nothing. "known": they are active already."""
    if inactive_from is None:
        return "known"
    return "newer_event" if inactive_from <= now else "announced"
