"""The rules of the domain, pure: what may be withdrawn, and what happens to what may not.

`ops/rules.md` lists them by number. `RULES` in `worker/ledger/decide.py`, which `decide.sql` runs, decides the same
for each row of a thousand; a test compares the two on real rows, for every combination of status, ownership, tenant
and person. When several jobs of one claim name the same enrolment, `decide.sql` says which of them withdraws it.
"""

from dataclasses import dataclass

from schemas.catalogue import OUTCOMES, STATUSES, Outcome, Phase, Reason, Source, Status

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
    override: bool = False,
    override_pathway: int | None = None,
) -> Outcome:
    """What a job of `organisation_id` does to `enrolment`, in the order of rule 9.

    `superseded`: the job is a deactivation and the person's newest event is another one (rule 10).
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
    if enrolment.status not in ACTIVE:
        return Outcome.UNKNOWN_STATUS
    overridden = override and override_pathway in (None, enrolment.pathway_id)
    if enrolment.pathway_id is not None and not overridden:
        return Outcome.PATHWAY_OWNED
    return Outcome.WITHDRAWN
