"""Withdraw in bulk: a selection from a list, or a file; the plan; the confirmation.

The selection stands in the address of the plan, so that going back, loading again and a link do no harm. Only the
confirmation writes, with the plan's hash and the key that came with the page.
"""

from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Form, Query, UploadFile
from starlette.responses import Response

from schemas import answers
from schemas.catalogue import Outcome, Reason
from schemas.jobs import FileRequest, JobRequest
from worker.errors import InvalidInputError, PlanDriftedError, PlanExpiredError, PlanMismatchError
from worker.jobs import csv_input, plan, submit
from worker.ledger import series_library
from worker.web.api.submit import validated
from worker.web.console.forms import row_id
from worker.web.console.library import source_of
from worker.web.console.render import PATH
from worker.web.console.times import around, moment
from worker.web.console.view import Looking, Submitting, View
from worker.web.console.words import word

router = APIRouter(prefix=PATH, include_in_schema=False)

MEANING = {
    Outcome.WITHDRAWN: "The record shows Withdrawn; progress and history stay.",
    Outcome.ALREADY_WITHDRAWN: "Nothing changes; the first reason, time and name stay.",
    Outcome.ENROLMENT_ENDED: "Mastered or incomplete: never touched.",
    Outcome.PATHWAY_OWNED: "Not withdrawn: a Learning Pathway owns it, so it goes to support.",
    Outcome.UNKNOWN_STATUS: "Not withdrawn: its status is not known, so it goes to support.",
    Outcome.NOT_FOUND: "There is no such enrolment here; it goes to support.",
}
"""What each outcome of a plan means to whoever has to confirm it."""

_CHANGED = (PlanDriftedError, PlanExpiredError, PlanMismatchError)


@dataclass(frozen=True, slots=True)
class Selection:
    """What is to be withdrawn, as the address has it."""

    what: str
    enrolment_ids: list[int]
    series_id: int | None
    pathway_id: int | None
    status: list[str]
    learner_ids: list[int]
    enrolled_from: str
    enrolled_to: str

    @property
    def fields(self) -> list[tuple[str, object]]:
        """What a form has to carry for the same selection."""
        if self.what == "ticked":
            return [
                ("what", "ticked"),
                ("series_id", self.series_id or ""),
                *_each("enrolment_ids", self.enrolment_ids),
            ]
        several = [*_each("status", self.status), *_each("learner_ids", self.learner_ids)]
        single = {
            "series_id": self.series_id, "pathway_id": self.pathway_id,
            "enrolled_from": self.enrolled_from, "enrolled_to": self.enrolled_to,
        }  # fmt: skip
        return [("what", "all"), *((name, value) for name, value in single.items() if value), *several]

    def request(self, view: View, **more: Any) -> JobRequest:
        """The job that it asks for.

        Raises:
            InvalidInputError: nothing is selected, or a day is none.
            RequestValidationError: names the field.
        """
        if self.what == "ticked":
            if not self.enrolment_ids:
                raise InvalidInputError("Nothing is ticked; go back and tick the rows, or choose all that match.")
            return validated(JobRequest, {"enrolment_ids": self.enrolment_ids, **more})
        after, until = around(self.enrolled_from, self.enrolled_to, view.zone)
        conditions: dict[str, Any] = {
            "series_id": self.series_id, "pathway_id": self.pathway_id, "status": self.status or None,
            "learner_ids": self.learner_ids or None, "enrolled_after": after and after.isoformat(),
            "enrolled_before": until and until.isoformat(),
        }  # fmt: skip
        given = {name: value for name, value in conditions.items() if value is not None}
        return validated(JobRequest, {"filter": given, **more})


def _each(name: str, values: list[Any]) -> list[tuple[str, object]]:
    return [(name, value) for value in values]


@router.get("/withdraw")
def planned(
    view: Looking,
    what: str = "",
    enrolment_ids: Annotated[list[int] | None, Query(max_length=500)] = None,
    series_id: str = "",
    pathway_id: str = "",
    status: Annotated[list[str] | None, Query(max_length=20)] = None,
    learner_ids: Annotated[list[int] | None, Query(max_length=500)] = None,
    enrolled_from: str = "",
    enrolled_to: str = "",
    reason: str = "",
) -> Response:
    """The plan of a selection once a reason is chosen; without a selection, the form for a file."""
    if not what:
        return _file_page(view)
    selection = _selection(
        what, enrolment_ids, series_id, pathway_id, status, learner_ids, enrolled_from, enrolled_to
    )  # fmt: skip
    return _page(view, selection, reason)


@router.post("/withdraw")
def confirmed(
    view: Submitting,
    what: Annotated[str, Form()] = "",
    enrolment_ids: Annotated[list[int] | None, Form()] = None,
    series_id: Annotated[str, Form()] = "",
    pathway_id: Annotated[str, Form()] = "",
    status: Annotated[list[str] | None, Form()] = None,
    learner_ids: Annotated[list[int] | None, Form()] = None,
    enrolled_from: Annotated[str, Form()] = "",
    enrolled_to: Annotated[str, Form()] = "",
    reason: Annotated[str, Form()] = "",
    note: Annotated[str, Form()] = "",
    effective_at: Annotated[str, Form()] = "",
    plan_hash: Annotated[str, Form()] = "",
    key: Annotated[str, Form()] = "",
) -> Response:
    """Make the job that was planned; if things have changed since, show the new plan instead."""
    selection = _selection(
        what, enrolment_ids, series_id, pathway_id, status, learner_ids, enrolled_from, enrolled_to
    )  # fmt: skip
    kept = {"note": note, "effective_at": effective_at}
    try:
        wanted = selection.request(
            view, reason=reason, source=source_of(reason), note=note.strip() or None,
            plan_hash=plan_hash or None, effective_at=moment(effective_at, view.zone),
        )  # fmt: skip
        made = submit.submit(view.database, view.requester(key), wanted, chunk_size=view.settings.chunk_size)
    except _CHANGED as changed:
        return _page(view, selection, reason, error=_told(changed), error_status=409, **kept)
    except InvalidInputError as refused:
        return _page(view, selection, reason, error=str(refused), error_status=422, **kept)
    return view.go(f"{PATH}/jobs/{made.job.id}", said=f"Accepted as job {made.job.id}.")


@router.post("/withdraw/file")
def file(
    view: Submitting,
    file: UploadFile,
    reason: Annotated[str, Form()] = "",
    act: Annotated[str, Form()] = "plan",
    note: Annotated[str, Form()] = "",
    plan_hash: Annotated[str, Form()] = "",
    key: Annotated[str, Form()] = "",
) -> Response:
    """Plan a file; sent once more with the plan's hash, make the job."""
    if not reason:
        return _file_page(view, error="Choose the reason.", status=422)
    values = {"reason": reason, "source": source_of(reason), "note": note.strip() or None}
    try:
        wanted = validated(FileRequest, {**values, "plan_hash": plan_hash or None})
        with csv_input.uploaded_ids(file.file) as rows:
            if act != "withdraw":
                found = plan.of_file(view.database, view.organisation_id, wanted, rows)
                return _file_page(view, plan=found, reason=reason, file_name=file.filename or "")
            made = submit.submit_file(
                view.database, view.requester(key), wanted, rows, name=file.filename,
                chunk_size=view.settings.chunk_size,
            )  # fmt: skip
    except _CHANGED as changed:
        return _file_page(view, error=f"{_told(changed)} Show the plan again.", status=409, reason=reason)
    except InvalidInputError as refused:
        return _file_page(view, error=str(refused), status=422, reason=reason)
    return view.go(f"{PATH}/jobs/{made.job.id}", said=f"Accepted as job {made.job.id}.")


def _selection(
    what: str,
    enrolment_ids: list[int] | None,
    series_id: str,
    pathway_id: str,
    status: list[str] | None,
    learner_ids: list[int] | None,
    enrolled_from: str,
    enrolled_to: str,
) -> Selection:
    if what not in ("ticked", "all"):
        raise InvalidInputError("what: `ticked`, or `all` that match")
    numbers = row_id("Series", series_id), row_id("pathway", pathway_id)
    return Selection(what, enrolment_ids or [], *numbers, status or [], learner_ids or [], enrolled_from, enrolled_to)


def _page(
    view: View, selection: Selection, reason: str, *, error: str = "", error_status: int = 200,
    note: str = "", effective_at: str = "",
) -> Response:  # fmt: skip
    found: answers.Plan | None = None
    if reason and not (error and error_status == 422 and not selection.enrolment_ids and selection.what == "ticked"):
        try:
            wanted = selection.request(view, reason=reason, source=source_of(reason))
            found = plan.of_request(view.database, view.organisation_id, wanted)
        except InvalidInputError as refused:
            error, error_status = error or str(refused), 422
    return view.page(
        "withdraw.html", status=error_status, plan=found, reason=reason, reasons=list(Reason), error=error,
        fields=selection.fields, described=_described(view, selection), back=_back(selection), meaning=MEANING,
        note=note, effective_at=effective_at,
    )  # fmt: skip


def _file_page(view: View, *, status: int = 200, error: str = "", reason: str = "", **shown: Any) -> Response:
    shown = {"plan": None, "note": "", "file_name": "", **shown}
    return view.page(
        "withdraw_file.html", status=status, error=error, reason=reason, reasons=list(Reason), meaning=MEANING, **shown
    )


def _described(view: View, selection: Selection) -> str:
    """The selection in words."""
    with view.database.begin() as connection:
        series = selection.series_id and series_library.find_series(
            connection, view.organisation_id, selection.series_id
        )
        pathways = dict(series_library.list_pathways(connection, view.organisation_id)) if selection.pathway_id else {}
    where = f" in {series.title}" if series else ""
    if selection.what == "ticked":
        count = len(set(selection.enrolment_ids))
        return f"{count:,} ticked {'enrolment' if count == 1 else 'enrolments'}{where}."
    which = " or ".join(word(status) for status in selection.status) or "neither ended nor withdrawn"
    told = [f"All enrolments{where} that are {which}"]
    if selection.learner_ids:
        first = "the first " if len(selection.learner_ids) >= series_library.MOST_LEARNERS else ""
        told.append(f"of {first}{len(selection.learner_ids):,} learners that were found")
    if selection.pathway_id:
        told.append(f"of the Learning Pathway “{pathways.get(selection.pathway_id, selection.pathway_id)}”")
    told += [
        f"enrolled {way} {day}"
        for way, day in (("from", selection.enrolled_from), ("to", selection.enrolled_to))
        if day
    ]
    return ", ".join(told) + "."


def _back(selection: Selection) -> str:
    """The list that the selection was made in."""
    if selection.series_id is None:
        return f"{PATH}/series"
    skipped = ("what", "series_id", "enrolment_ids", "learner_ids")
    kept = [(name, value) for name, value in selection.fields if name not in skipped]
    return f"{PATH}/series/{selection.series_id}" + (f"?{urlencode(kept)}" if kept else "")


def _told(changed: Exception) -> str:
    """What is no longer as it was planned."""
    if not isinstance(changed, PlanDriftedError):
        return str(changed)
    planned, now = (
        ", ".join(f"{count:,} {word(outcome).lower()}" for outcome, count in changed.more[when].items())
        for when in ("planned", "now")
    )
    return f"Things have changed since the plan was made. Planned: {planned}. Now: {now}."
