"""Confirmation by weight: one click for one learner, the count on the button for many, and for a large share of the
organisation the count has to be typed.

A click is too little for what concerns a tenth of the people. The server asks for it, so it holds without a script.
"""

from schemas import answers
from schemas.catalogue import Outcome
from worker.errors import InvalidInputError
from worker.jobs import brake, plan
from worker.texts import text
from worker.web.console.view import View

LARGE_SHARE = 0.1
"""Of the organisation's learners."""
LEAST = 50
"""Fewer learners are never a large share: in a small organisation the count on the button is enough."""


def is_large(view: View, learners: int) -> bool:
    """Whether an act concerns so many learners that its count has to be typed."""
    if learners < LEAST:
        return False
    return learners >= LARGE_SHARE * brake.show(view.database, organisation_id=view.organisation_id).population


def may_be_large(view: View, plan_hash: str) -> bool:
    """Whether a plan that was looked at withdraws so much that it has to be looked at again; without a plan, always."""
    counts = plan.read_counts(view.organisation_id, plan_hash) if plan_hash else None
    return counts is None or counts.get(Outcome.WITHDRAWN, 0) >= LEAST


def check(view: View, typed: str, *, enrolments: int, learners: int) -> None:
    """Refuse an act that concerns a large share of the organisation and whose count was not typed.

    Raises:
        InvalidInputError: names the field.
    """
    if typed.replace(",", "").replace(".", "").replace(" ", "") != str(enrolments) and is_large(view, learners):
        raise InvalidInputError(text("Number of enrolments: type {enrolments:,} to confirm", enrolments=enrolments))


def is_large_plan(view: View, planned: answers.Plan | None) -> bool:
    """`is_large` for the plan of a withdrawal."""
    return planned is not None and is_large(view, planned.brake_forecast.learners)


def check_plan(view: View, typed: str, planned: answers.Plan | None) -> None:
    """`check` for the plan of a withdrawal.

    Raises:
        InvalidInputError: names the field.
    """
    if planned is not None:
        enrolments = planned.outcomes.get(Outcome.WITHDRAWN, 0)
        check(view, typed, enrolments=enrolments, learners=planned.brake_forecast.learners)


def find_objection(view: View, typed: str, planned: answers.Plan | None) -> str:
    """Why a confirmation with this count is refused (`check_plan`); empty if it is not."""
    try:
        check_plan(view, typed, planned)
    except InvalidInputError as refused:
        return str(refused)
    return ""
