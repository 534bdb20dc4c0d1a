"""The rules of the domain, pure: what may be withdrawn, and what happens to what may not.

The set statements in `worker/ledger/decide.py` and `worker/ledger/reinstate.py` decide the same for a thousand
enrolments at once; tests hold them against each other on real rows, for every combination of status, ownership,
tenant and person.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Reason(StrEnum):
    """Why a learner is withdrawn; the list is closed and every withdrawal has exactly one (rule 1)."""

    NOT_REQUIRED = "not_required"
    """Enrolment no longer required."""
    USER_DEACTIVATED = "user_deactivated"
    """User Deactivated. The only reason that source `hr` may give."""
    LEARNER_DECLINED = "learner_declined"
    """User does not want to complete the enrolment."""
    ENROLMENT_ERROR = "enrolment_error"
    """Enrolment Error. The only reason that source `correction` may give."""


class Source(StrEnum):
    """Where a job came from."""

    HR = "hr"
    BULK = "bulk"
    CORRECTION = "correction"
    ADMIN = "admin"
    SUPPORT = "support"


IMPLIED_REASON = {Source.HR: Reason.USER_DEACTIVATED, Source.CORRECTION: Reason.ENROLMENT_ERROR}
"""A source that implies its reason (rule 1)."""

ACTIVE = ("waiting_to_start", "not_signed_in", "no_attempts", "in_progress")
"""The statuses that can be withdrawn (rule 2). Overdue is not a status: an overdue enrolment is active."""

ENDED = ("mastered", "incomplete")
"""The statuses that are never touched (rule 2)."""

WITHDRAWN = "withdrawn"


class Outcome(StrEnum):
    """What happened to one enrolment of a job."""

    WITHDRAWN = "withdrawn"
    ALREADY_WITHDRAWN = "already_withdrawn"
    """Success: the first reason, time and actor stay (rule 9)."""
    ENROLMENT_ENDED = "enrolment_ended"
    SUPERSEDED = "superseded"
    """A newer event of the person took this deactivation's place (rule 10)."""
    UNKNOWN_STATUS = "unknown_status"
    PATHWAY_OWNED = "pathway_owned"
    NOT_FOUND = "not_found"
    """No such enrolment in this organisation; another organisation's looks the same."""
    FAILED = "failed"
    """Given up after every retry; the letter has the error."""
    CANCELLED = "cancelled"
    REINSTATED = "reinstated"
    """Of a reinstate, as the three below: the prior status is back, nothing shows the withdrawal any more."""
    ENROLLED_AGAIN = "enrolled_again"
    """The learner has another active enrolment in the same Series and pathway, or a newer one is reinstated."""
    CHANGED_SINCE = "changed_since"
    """The enrolment is no longer what the withdrawal made it, or that was taken back already."""
    LEARNER_INACTIVE = "learner_inactive"


CLEAN = frozenset({Outcome.WITHDRAWN, Outcome.ALREADY_WITHDRAWN, Outcome.REINSTATED})
"""A job with these outcomes alone is `completed`; any other makes it `completed_with_exceptions`."""

NEEDS_SUPPORT = frozenset({Outcome.PATHWAY_OWNED, Outcome.UNKNOWN_STATUS, Outcome.NOT_FOUND, Outcome.FAILED})
"""Outcomes that refer to a dead letter."""


@dataclass(frozen=True, slots=True)
class Enrolment:
    """What a decision looks at, as the locks returned it."""

    organisation_id: int
    status: str
    pathway_id: int | None


def decide(  # noqa: PLR0911 - one return a rule, in the order of rule 9
    enrolment: Enrolment | None, *, organisation_id: int, superseded: bool = False, override: bool = False
) -> Outcome:
    """What a job of `organisation_id` does to `enrolment`, in the order of rule 9.

    `superseded`: the job is a deactivation and the person's newest event is another one (rule 10).
    `override`: an approver decided that a pathway's enrolment is to be withdrawn all the same (rule 6).
    """
    if enrolment is None or enrolment.organisation_id != organisation_id:
        return Outcome.NOT_FOUND
    if enrolment.status == WITHDRAWN:
        return Outcome.ALREADY_WITHDRAWN
    if enrolment.status in ENDED:
        return Outcome.ENROLMENT_ENDED
    if superseded:
        return Outcome.SUPERSEDED
    if enrolment.status not in ACTIVE:
        return Outcome.UNKNOWN_STATUS
    if enrolment.pathway_id is not None and not override:
        return Outcome.PATHWAY_OWNED
    return Outcome.WITHDRAWN


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """What a withdrawal wrote, or what an enrolment shows of one."""

    status: str
    withdrawn_at: datetime | None
    reason: str | None
    withdrawn_by: str | None


def decide_reinstate(
    wrote: Withdrawal | None, shows: Withdrawal | None, *, learner_active: bool, enrolled_again: bool
) -> Outcome:
    """What a reinstate does to one enrolment.

    `wrote`: by the job's current outcome, None when that is not `withdrawn` or was taken back.
    `shows`: the enrolment, None when it is gone. Whatever somebody changed since stays theirs.
    `enrolled_again`: another active enrolment has its learner, Series and pathway, or one that is newer and
    is reinstated by the same job (at most one of them can be active).
    """
    if wrote is None or shows != wrote:
        return Outcome.CHANGED_SINCE
    if not learner_active:
        return Outcome.LEARNER_INACTIVE
    return Outcome.ENROLLED_AGAIN if enrolled_again else Outcome.REINSTATED
