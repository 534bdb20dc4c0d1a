"""What differs from a plan that was looked at, in the words of the pages."""

from worker.code_words import count_outcome
from worker.errors import PlanDriftedError, PlanExpiredError, PlanMismatchError
from worker.texts import joined, text

PLAN_ERRORS = (PlanDriftedError, PlanExpiredError, PlanMismatchError)


def explain(changed: Exception) -> str:
    """What differs from the plan."""
    if not isinstance(changed, PlanDriftedError):
        return str(changed)
    planned, now = (
        joined((count_outcome(outcome, count) for outcome, count in changed.more[when].items()), ", ")
        for when in ("planned", "now")
    )
    return text(
        "The enrolments have changed since the plan was made. Planned: {planned}. Now: {now}.", planned=planned, now=now
    )
