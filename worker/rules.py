"""The rules of the domain, pure: what may be withdrawn, and what happens to what may not.

`ops/rules.md` lists them by number. `RULES` in `worker/ledger/decide.py`, which `decide.sql` runs, decides the same
for each row of a thousand; a test compares the two on real rows, for every combination of status, ownership, tenant
and person. When several jobs of one claim name the same enrolment, `decide.sql` says which of them withdraws it.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from schemas.catalogue import OUTCOMES, STATUSES, JobState, Outcome, Phase, Reason, Source, Status
from worker.records import DeactivationPolicy, KnownDeactivation, StoredEvent

IMPLIED_REASON = {Source.HR: Reason.USER_DEACTIVATED, Source.CORRECTION: Reason.ENROLMENT_ERROR}
"""A source that implies its reason (rule 1)."""

ACTIVE = tuple(status for status, entry in STATUSES.items() if entry.phase is Phase.ACTIVE)
"""The statuses that can be withdrawn (rule 2). Overdue is not a status: an overdue enrolment is active."""

ENDED = tuple(status for status, entry in STATUSES.items() if entry.phase is Phase.ENDED)
"""The statuses that are never touched (rule 2)."""

WITHDRAWN = Status.WITHDRAWN


CLEAN = frozenset(outcome for outcome, entry in OUTCOMES.items() if entry.clean)
"""A job with these outcomes alone is `completed`; any other makes it `completed_with_exceptions`."""

NEEDS_SUPPORT = frozenset(outcome for outcome, entry in OUTCOMES.items() if entry.needs_support)
"""Outcomes that refer to a dead letter."""


@dataclass(frozen=True, slots=True)
class Enrolment:
    """What a decision looks at, as the locks returned it."""

    organisation_id: int
    status: str
    pathway_id: int | None


def decide(  # noqa: PLR0911 - one return a rule, in the order of rule 9
    enrolment: Enrolment | None,
    *,
    organisation_id: int,
    superseded: bool = False,
    protected: bool = False,
    override: bool = False,
    override_pathway: int | None = None,
) -> Outcome:
    """What a job of `organisation_id` does to `enrolment`, in the order of rule 9.

    `superseded`: the job is a deactivation and the person's newest event is another one (rule 10).
    `protected`: a legal hold or an exemption protects the enrolment or its learner. No override breaks it (rule 11).
    `override`: an approver decided to withdraw although a Learning Pathway owns the enrolment (rule 6).
    `override_pathway`: the override is for what this pathway owns, and for no other; None: for any.
    """
    if enrolment is None or enrolment.organisation_id != organisation_id:
        return Outcome.NOT_FOUND
    if enrolment.status == WITHDRAWN:
        return Outcome.ALREADY_WITHDRAWN
    if enrolment.status in ENDED:
        return Outcome.ENROLMENT_ENDED
    if superseded:
        return Outcome.SUPERSEDED
    if protected:
        return Outcome.PROTECTED
    if enrolment.status not in ACTIVE:
        return Outcome.UNKNOWN_STATUS
    overridden = override and override_pathway in (None, enrolment.pathway_id)
    if enrolment.pathway_id is not None and not overridden:
        return Outcome.PATHWAY_OWNED
    return Outcome.WITHDRAWN


STANDING = ("scheduled", "held", "queued", "paused")
"""Stored states of a job that has not ended."""


def rank_in_source(event: StoredEvent) -> Any:
    """Where an event stands among those of its source: the sequence decides, else the time; a reactivation wins."""
    return (event.sequence is not None, event.sequence or 0, event.occurred_at, not event.deactivates)


ROSTER = "roster"
"""The source of what full rosters say about people."""


def find_newest(events: Iterable[StoredEvent]) -> StoredEvent | None:
    """The event that decides the person's state: the newest of all sources, a reactivation winning a tie.

    A roster that has somebody as active speaks about its own time: it refutes older deactivations that had taken
    effect, and does not take back a leave for a later day.
    """
    newest = _last_of(events := sorted(events, key=lambda event: event.source))
    if newest is None or newest.source != ROSTER or newest.deactivates:
        return newest
    others = (one for one in events if one is not newest)
    unrefuted = _last_of(one for one in others if not one.deactivates or one.effective_at > newest.occurred_at)
    return unrefuted if unrefuted is not None and unrefuted.deactivates else newest


def _last_of(events: Iterable[StoredEvent]) -> StoredEvent | None:
    return max(events, key=lambda event: (event.occurred_at, not event.deactivates), default=None)


def is_same_fact(before: StoredEvent | None, newest: StoredEvent, now: datetime) -> bool:
    """Whether the person was deactivated before, from the same time on, or in effect by now in both."""
    if before is None or not (before.deactivates and newest.deactivates):
        return False
    return before.effective_at == newest.effective_at or max(before.effective_at, newest.effective_at) <= now


def answers_repetition(known: KnownDeactivation, policy: DeactivationPolicy, *, same_source: bool) -> bool:
    """Whether a job for the same fact goes on answering it: what is under way, and what a second person decided."""
    holds = policy.on_deactivate == "hold"
    if same_source:
        return known.state in STANDING or holds
    # Another source decides by its own policy; but it holds nothing that was released or applied.
    return holds and known.state is not JobState.CANCELLED and (known.is_released or known.is_applied)


def is_in_effect(effective_at: datetime | None, now: datetime) -> bool:
    """Whether a person's deactivation is in effect. `effective_at`: None for a person who is active."""
    return effective_at is not None and effective_at <= now


def learner_is_active(*, person_active: bool, in_effect: bool, learner_active: bool, was_active: bool) -> bool:
    """A learner's `active` after an event.

    A deactivation in the future leaves it as it is, unless another one was in effect before (not `was_active`): then
    the newer event means that they are active until that time.
    """
    return person_active or (not in_effect and (learner_active or not was_active))
