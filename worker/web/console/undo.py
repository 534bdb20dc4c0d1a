"""The undo of a job: the plan, of all of it or a part, and the form that asks for it."""

import re
from typing import Annotated, Any

from fastapi import APIRouter, Form, Query
from pydantic import StringConstraints
from starlette.responses import Response

from schemas.jobs import Note, Storable
from schemas.reinstate import ReinstateFilter, ReinstateRequest
from worker.errors import InvalidInputError
from worker.ids import parse_id
from worker.jobs import reinstate
from worker.jobs.show import show
from worker.ledger import job_lists, outcomes
from worker.web.console.forms import PlatformId, Text, parse, parse_choice
from worker.web.console.render import PATH
from worker.web.console.times import parse_days
from worker.web.console.view import LookingAsOperator, Operating, View
from worker.web.context import RowId

router = APIRouter(prefix=f"{PATH}/jobs", include_in_schema=False)

Ids = Annotated[str, StringConstraints(max_length=20_000, strip_whitespace=True), Storable]
FIELDS = ("series_id", "learner", "enrolment_ids", "enrolled_from", "enrolled_until")
"""The conditions of a part, as the address and the form name them."""


@router.get("/{job_id}/undo")
def undo_page(
    view: LookingAsOperator,
    job_id: RowId,
    series_id: Annotated[Text, Query()] = "",
    learner: Annotated[PlatformId, Query()] = "",
    enrolment_ids: Annotated[Ids, Query()] = "",
    enrolled_from: Annotated[Text, Query()] = "",
    enrolled_until: Annotated[Text, Query()] = "",
) -> Response:
    """The plan of an undo; writes nothing. Role: operator."""
    chosen = dict(zip(FIELDS, (series_id, learner, enrolment_ids, enrolled_from, enrolled_until), strict=True))
    return _plan_page(view, job_id, chosen)


@router.post("/{job_id}/undo")
def undo(
    view: Operating,
    job_id: RowId,
    key: Annotated[str, Form()] = "",
    note: Annotated[Note, Form()] = "",
    series_id: Annotated[Text, Form()] = "",
    learner: Annotated[PlatformId, Form()] = "",
    enrolment_ids: Annotated[Ids, Form()] = "",
    enrolled_from: Annotated[Text, Form()] = "",
    enrolled_until: Annotated[Text, Form()] = "",
) -> Response:
    """Ask for the job that undoes it; the same form sent again is the same job. Role: operator."""
    chosen = dict(zip(FIELDS, (series_id, learner, enrolment_ids, enrolled_from, enrolled_until), strict=True))
    made = reinstate.reinstate(
        view.database,
        view.requester(key),
        job_id,
        ReinstateRequest(filter=_part(view, chosen), note=note or None),
        chunk_size=view.settings.chunk_size,
    )
    return view.go(f"{PATH}/jobs/{made.job.id}", f"Accepted. This job undoes job {job_id}.")


def _plan_page(view: View, job_id: int, chosen: dict[str, str]) -> Response:
    """The form with its plan; an invalid condition is shown again with its error."""
    job = show(view.database, organisation_id=view.organisation_id, job_id=job_id)
    plan, error, names = None, "", {}
    try:
        plan = reinstate.plan(view.services.pools.reports, view.organisation_id, job_id, _part(view, chosen))
    except InvalidInputError as refused:
        error = str(refused)
    with view.database.begin() as connection:
        series = outcomes.list_series(connection, view.organisation_id, job_id)
        others = job_lists.find_jobs(connection, job_lists.jobs_that_reinstate(connection, job_id))
        if plan:
            ids = [one for found in plan.samples.values() for one in found]
            names = outcomes.find_names(connection, view.organisation_id, ids)
    return view.page(
        "job_undo.html",
        status=422 if error else 200,
        job=job,
        plan=plan,
        error=error,
        series=series,
        names=names,
        chosen=chosen,
        under_way=sorted(other.id for other in others if other.finished_at is None),
    )


def _part(view: View, chosen: dict[str, str]) -> ReinstateFilter | None:
    """The part of the job that the form selects, None for the whole job.

    Raises:
        InvalidInputError: names the field that is wrong.
    """
    values: dict[str, Any] = {}
    if chosen["series_id"]:
        values["series_id"] = parse_choice(chosen["series_id"], "Series")
    if chosen["enrolment_ids"]:
        given = re.split(r"[\s,;]+", chosen["enrolment_ids"])
        values["enrolment_ids"] = [parse_id(one, "enrolments") for one in given]
    if chosen["learner"]:
        with view.database.begin() as connection:
            found = outcomes.find_learner_id(connection, view.organisation_id, chosen["learner"])
        if found is None:
            raise InvalidInputError("learner: nobody in this organisation has this external id.")
        values["learner_ids"] = [found]
    after, before = parse_days(chosen["enrolled_from"], chosen["enrolled_until"], view.zone)
    values |= {name: at for name, at in (("enrolled_after", after), ("enrolled_before", before)) if at}
    return parse(ReinstateFilter, **values) if values else None
