"""Whom the examples of a plan are about: pages show names where the API has ids alone."""

from schemas import answers
from worker.ledger import outcomes
from worker.ledger.outcomes import EnrolmentNames
from worker.web.console.view import View


def find_names(view: View, plan: answers.Plan | None) -> dict[int, EnrolmentNames]:
    """The learners of a plan's examples, by enrolment."""
    if plan is None:
        return {}
    examples = [*plan.samples.values(), *(held.samples for held in plan.waiting)]
    ids = list({one.enrolment_id for found in examples for one in found})
    if not ids:
        return {}
    with view.database.begin() as connection:
        return outcomes.find_names(connection, view.organisation_id, ids)
