"""Find anything over HTTP: `/v1/search`."""

from typing import Annotated

from fastapi import APIRouter, Query

from schemas.search import SearchAnswer
from worker.search import find
from worker.web.auth import Viewer
from worker.web.context import Context
from worker.web.problems import describes

router = APIRouter(prefix="/v1/search", tags=["search"], responses=describes())
Words = Annotated[
    str,
    Query(max_length=find.LONGEST, description="Parts of words in any order, or a number. Accents do not count."),
]


@router.get("")
def search(context: Context, who: Viewer, q: Words) -> SearchAnswer:
    """Find learners, Series, enrolments, jobs and dead letters by parts of words or by a number."""
    return find.find(context.database, organisation_id=who.organisation_id, text=q)
