"""The decision receipt of an enrolment: who asked, which rule decided, what was seen, what happened since."""

from typing import Any

from fastapi import APIRouter
from starlette.responses import Response

from schemas.desk import Asked, Decision
from worker.dead_letters import decision_receipts
from worker.ledger import enrolment_search
from worker.texts import text
from worker.web.console.render import PATH
from worker.web.console.view import Looking
from worker.web.console.words import word
from worker.web.context import RowId

router = APIRouter(prefix=f"{PATH}/enrolments", include_in_schema=False)

_SHOWN = {
    "job_id", "kind", "state", "reason", "source", "requested_by", "door", "key", "receipt_id", "note",
    "learner_external_id", "created_at", "effective_at",
}  # fmt: skip
"""What the page has a place for; whatever else a receipt comes to hold is shown under its own name."""


@router.get("/{enrolment_id}/history")
def show(view: Looking, enrolment_id: RowId) -> Response:
    """All of it on one page."""
    found = decision_receipts.explain(view.database, organisation_id=view.organisation_id, enrolment_id=enrolment_id)
    decisions = [
        (item, decision_receipts.describe_door(item.request), _more(item.request), _seen(item))
        for item in found.decisions
    ]
    with view.database.begin() as connection:
        item = enrolment_search.find_enrolment(connection, view.organisation_id, enrolment_id)
    return view.page("receipt.html", found=found, item=item, decisions=decisions)


def _more(asked: Asked) -> list[tuple[str, Any]]:
    return [
        (word(name), value)
        for name, value in asked.model_dump(mode="json").items()
        if name not in _SHOWN and value not in (None, "", [], {})
    ]


def _seen(decision: Decision) -> str | None:
    if decision.seen is None:
        return None
    pathway = decision.seen.get("pathway_title") or decision.seen.get("pathway_id")
    status = word(decision.seen.get("status"))
    if not pathway:
        return text("status {status}, no pathway", status=status)
    return text("status {status}, pathway {pathway}", status=status, pathway=pathway)
