"""The undo of a job: what it would put back, in whole or in part, and the job that does it."""

import re
from typing import Annotated, Any

from fastapi import APIRouter, Form, Query
from pydantic import StringConstraints, ValidationError
from starlette.responses import Response

from schemas.catalogue import Role
from schemas.jobs import Note, Storable
from schemas.reinstate import ReinstateFilter, ReinstateRequest
from worker.errors import InvalidInputError
from worker.jobs import reinstate
from worker.jobs.show import show
from worker.ledger import job_lists, outcomes
from worker.web.console.forms import a_row
from worker.web.console.render import PATH
from worker.web.console.times import around
from worker.web.console.view import Looking, Operating, View
from worker.web.context import RowId

router = APIRouter(prefix=f"{PATH}/jobs", include_in_schema=False)

Field = Annotated[str, StringConstraints(max_length=255, strip_whitespace=True), Storable]
Numbers = Annotated[str, StringConstraints(max_length=20_000, strip_whitespace=True), Storable]
FIELDS = ("series_id", "learner", "enrolment_ids", "enrolled_from", "enrolled_until")
"""The parts of a selection, as they stand in the address and in the form."""


@router.get("/{job_id}/undo")
def undo_page(
    view: Looking,
    job_id: RowId,
    series_id: Annotated[Field, Query()] = "",
    learner: Annotated[Field, Query()] = "",
    enrolment_ids: Annotated[Numbers, Query()] = "",
    enrolled_from: Annotated[Field, Query()] = "",
    enrolled_until: Annotated[Field, Query()] = "",
) -> Response:
    """What an undo would put back now; writes nothing. Role: operator."""
    view.caller.must_be(Role.OPERATOR)
    chosen = dict(zip(FIELDS, (series_id, learner, enrolment_ids, enrolled_from, enrolled_until), strict=True))
    return _shown(view, job_id, chosen)


@router.post("/{job_id}/undo")
def undo(
    view: Operating,
    job_id: RowId,
    key: Annotated[str, Form()] = "",
    note: Annotated[Note, Form()] = "",
    series_id: Annotated[Field, Form()] = "",
    learner: Annotated[Field, Form()] = "",
    enrolment_ids: Annotated[Numbers, Form()] = "",
    enrolled_from: Annotated[Field, Form()] = "",
    enrolled_until: Annotated[Field, Form()] = "",
) -> Response:
    """Ask for the job that puts it back; the same form again is the same job. Role: operator."""
    chosen = dict(zip(FIELDS, (series_id, learner, enrolment_ids, enrolled_from, enrolled_until), strict=True))
    made = reinstate.reinstate(
        view.database,
        view.requester(key),
        job_id,
        ReinstateRequest(filter=_part(view, chosen), note=note or None),
        chunk_size=view.settings.chunk_size,
    )
    return view.go(f"{PATH}/jobs/{made.job.id}", f"Asked for. This job takes job {job_id} back.")


def _shown(view: View, job_id: int, chosen: dict[str, str]) -> Response:
    """The form with its plan; a selection that cannot be meant is shown again, with what is wrong."""
    job = show(view.database, organisation_id=view.organisation_id, job_id=job_id)
    plan, error, names = None, "", {}
    try:
        plan = reinstate.plan(view.database, view.organisation_id, job_id, _part(view, chosen))
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
    """The selection of a form, None for the whole job.

    Raises:
        InvalidInputError: names the field that is wrong.
    """
    values: dict[str, Any] = {}
    if chosen["series_id"]:
        values["series_id"] = a_row("Series", chosen["series_id"])
    if chosen["enrolment_ids"]:
        values["enrolment_ids"] = [a_row("enrolments", one) for one in re.split(r"[\s,;]+", chosen["enrolment_ids"])]
    if chosen["learner"]:
        with view.database.begin() as connection:
            found = outcomes.find_learner_id(connection, view.organisation_id, chosen["learner"])
        if found is None:
            raise InvalidInputError("learner: nobody in this organisation has that external id")
        values["learner_ids"] = [found]
    after, before = around(chosen["enrolled_from"], chosen["enrolled_until"], view.zone)
    values |= {name: at for name, at in (("enrolled_after", after), ("enrolled_before", before)) if at}
    if not values:
        return None
    try:
        return ReinstateFilter(**values)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_context=False, include_input=False)[0]
        raise InvalidInputError(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}") from None
