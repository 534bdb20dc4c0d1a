"""The undo of a job: the plan, of all of it or a part, and the form that asks for it."""

import re
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Form, Query
from pydantic import StringConstraints
from starlette.responses import Response

from schemas.jobs import Note, Storable
from schemas.reinstate import ReinstateFilter, ReinstateRequest
from worker.errors import ConflictError, InvalidInputError, PrunedError
from worker.ids import parse_id
from worker.jobs import reinstate
from worker.jobs.show import show
from worker.jobs.submit import is_known
from worker.ledger import job_lists, outcomes
from worker.texts import text
from worker.web.console import acted, weight
from worker.web.console.forms import PlatformId, Text, parse, parse_choice
from worker.web.console.render import PATH
from worker.web.console.sign_in import path_inside
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
    typed: Annotated[Text, Form()] = "",
) -> Response:
    """Ask for the job that undoes it; the same form sent again is the same job. Role: operator."""
    chosen = dict(zip(FIELDS, (series_id, learner, enrolment_ids, enrolled_from, enrolled_until), strict=True))
    who, part = view.requester(key), _part(view, chosen)
    job = show(view.database, organisation_id=view.organisation_id, job_id=job_id)
    if job.outcomes.get("withdrawn", 0) >= weight.LEAST and not is_known(view.database, who):
        now = reinstate.plan(view.services.pools.reports, view.organisation_id, job_id, part)
        try:
            weight.check(view, typed, enrolments=now.outcomes.get("reinstated", 0), learners=now.learners)
        except InvalidInputError as refused:
            return _plan_page(view, job_id, chosen, error=str(refused), typed=typed)
    made = reinstate.reinstate(
        view.database,
        who,
        job_id,
        ReinstateRequest(filter=part, note=note or None),
        chunk_size=view.settings.chunk_size,
    )
    return view.go(f"{PATH}/jobs/{made.job.id}", text("Accepted. This job undoes job {job}.", job=job_id))


@router.post("/{job_id}/take-back")
def take_back(
    view: Operating,
    job_id: RowId,
    key: Annotated[str, Form()] = "",
    enrolment_ids: Annotated[list[int] | None, Form(max_length=200)] = None,
    back: Annotated[str, Form(max_length=2000)] = PATH,
) -> Response:
    """Take back at once what a job withdrew of one learner; of more, show the plan first. Role: operator."""
    part = ReinstateFilter(enrolment_ids=enrolment_ids) if enrolment_ids else None
    who = view.requester(key)
    try:
        planned = reinstate.plan(view.database, view.organisation_id, job_id, part)
        if not planned.accepted and not is_known(view.database, who):
            return view.go(path_inside(back), text("Nothing is left to reinstate."), tone="warn")
        if planned.learners > 1:
            query = urlencode({"enrolment_ids": " ".join(map(str, enrolment_ids))}) if enrolment_ids else ""
            return view.go(f"{PATH}/jobs/{job_id}/undo" + (f"?{query}" if query else ""))
        made = reinstate.reinstate(
            view.database,
            who,
            job_id,
            ReinstateRequest(filter=part),
            chunk_size=view.settings.chunk_size,
        )
    except (ConflictError, PrunedError) as refused:
        return view.go(path_inside(back), text("Nothing was reinstated: {why}", why=str(refused)), tone="warn")
    return acted.go(view, path_inside(back), made.job)


def _plan_page(view: View, job_id: int, chosen: dict[str, str], *, error: str = "", typed: str = "") -> Response:
    """The form with its plan; an invalid condition is shown again with its error."""
    job = show(view.database, organisation_id=view.organisation_id, job_id=job_id)
    plan, names = None, {}
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
        large=plan is not None and weight.is_large(view, plan.learners),
        typed=typed,
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
            raise InvalidInputError(text("learner: nobody in this organisation has this external id."))
        values["learner_ids"] = [found]
    after, before = parse_days(chosen["enrolled_from"], chosen["enrolled_until"], view.zone)
    values |= {name: at for name, at in (("enrolled_after", after), ("enrolled_before", before)) if at}
    return parse(ReinstateFilter, **values) if values else None
