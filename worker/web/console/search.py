"""Find anything: one field over learners, Series, enrolments, jobs and dead letters."""

from urllib.parse import urlencode

from fastapi import APIRouter
from starlette.responses import Response

from schemas.search import Found, FoundKind
from worker.search import find
from worker.texts import text
from worker.web.console.render import PATH
from worker.web.console.view import Looking

router = APIRouter(prefix=PATH, include_in_schema=False)

_PLACES = {
    FoundKind.ENROLMENT: "enrolments",
    FoundKind.JOB: "jobs",
    FoundKind.DEAD_LETTER: "dead-letters",
    FoundKind.SERIES: "series",
}
LABELS = {
    FoundKind.ENROLMENT: text("Enrolments"),
    FoundKind.JOB: text("Jobs"),
    FoundKind.DEAD_LETTER: text("Needs attention"),
    FoundKind.LEARNER: text("Learners"),
    FoundKind.SERIES: text("Series"),
}


@router.get("/search")
def search(view: Looking, q: str = "") -> Response:
    """What matches the words that were typed."""
    q = q.strip()[: find.LONGEST]
    answer = find.find(view.database, organisation_id=view.organisation_id, text=q) if q else None
    items = answer.items if answer else []
    kinds = dict.fromkeys(one.kind for one in items)
    groups = [(LABELS[kind], [(path_of(one), one) for one in items if one.kind is kind]) for kind in kinds]
    return view.page("search.html", q=q, groups=groups, more=bool(answer and answer.more))


def path_of(found: Found) -> str:
    """The page of what was found."""
    if found.kind is FoundKind.LEARNER:
        return f"{PATH}/people?{urlencode({'learner': found.learner_external_id})}"
    return f"{PATH}/{_PLACES[found.kind]}/{found.id}"
