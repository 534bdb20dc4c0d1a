"""Scheduled reports on a page: what is made again and again, the files that it became, and the form for a new one."""

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Form
from pydantic import ValidationError
from starlette.responses import Response

from schemas.catalogue import SCHEDULES_REPORTS, SEES_NAMES
from schemas.report_schedules import Covers, Every, Report, ScheduleRequest
from worker.errors import ConflictError, InvalidInputError
from worker.ids import next_cursor, parse_cursor
from worker.ledger import report_files, report_schedules, series_library
from worker.ledger.report_schedules import ScheduleRecord
from worker.reports import schedules
from worker.reports.formats import Format
from worker.texts import text
from worker.validation_words import say_fault
from worker.web.api.report_schedules import send_file
from worker.web.console.forms import Text, parse_number, series_id_of
from worker.web.console.render import PATH
from worker.web.console.reports import CHOICES, describe_filter
from worker.web.console.view import Looking, Operating, View
from worker.web.console.words import word
from worker.web.context import RowId

router = APIRouter(prefix=f"{PATH}/reports", include_in_schema=False)

HERE = f"{PATH}/reports/schedules"
FILES = 50
_EVERY = [
    (Every.DAILY.value, text("Each day")),
    (Every.WEEKLY.value, text("Each Monday")),
    (Every.MONTHLY.value, text("On the first of each month")),
]
_COVERS = [
    (Covers.PERIOD.value, text("The day, week or month before")),
    (Covers.ALL.value, text("Everything, as it is then")),
]
_FORMATS = [("csv", "CSV"), ("xlsx", "XLSX"), ("parquet", "Parquet")]
_CONDITIONS = ("series", "reason", "source", "job_id")
_LISTS = ("status", "exclude_status", "outcome")


@router.get("/schedules")
def show(view: Looking) -> Response:
    """What is made again and again, the files that it became, and the form for a new one."""
    query = view.request.query_params
    typed = {name: query.get(name, "") for name in ("report", "every", "hour", "covers", "format", *_CONDITIONS)}
    return _page(view, typed=typed, chosen={name: query.getlist(name) for name in _LISTS})


@router.post("/schedules")
def create(
    view: Operating,
    report: Annotated[Text, Form()] = "",
    every: Annotated[Text, Form()] = "",
    hour: Annotated[Text, Form()] = "",
    covers: Annotated[Text, Form()] = "",
    format: Annotated[Text, Form()] = "",  # noqa: A002 - as the API names it
    names: Annotated[Text, Form()] = "",
    series: Annotated[Text, Form()] = "",
    reason: Annotated[Text, Form()] = "",
    source: Annotated[Text, Form()] = "",
    job_id: Annotated[Text, Form()] = "",
    status: Annotated[list[Text] | None, Form(max_length=20)] = None,
    exclude_status: Annotated[list[Text] | None, Form(max_length=20)] = None,
    outcome: Annotated[list[Text] | None, Form(max_length=20)] = None,
) -> Response:
    """Have a report made from now on. Role: operator."""
    typed = {"report": report, "every": every, "hour": hour, "covers": covers, "format": format, "names": names}
    typed |= {"series": series, "reason": reason, "source": source, "job_id": job_id}
    chosen = {"status": status or [], "exclude_status": exclude_status or [], "outcome": outcome or []}
    if names:
        view.caller.must_be(SEES_NAMES)
    try:
        conditions = {
            "series_id": series_id_of(view, series),
            "reason": reason or None,
            "source": source or None,
            "job_id": parse_number(job_id, "job_id"),
            **{name: values for name, values in chosen.items() if values},
        }
        wanted = _parse(
            report=report,
            every=every,
            hour=parse_number(hour, "hour"),
            covers=covers or None,
            format=format or None,
            names=bool(names),
            filter={name: value for name, value in conditions.items() if value is not None},
        )
        made = schedules.create(
            view.database, organisation_id=view.organisation_id, wanted=wanted, who=view.caller.person
        )
    except (InvalidInputError, ConflictError) as refused:
        status_ = 409 if isinstance(refused, ConflictError) else 422
        return _page(view, typed=typed, chosen=chosen, error=str(refused), status=status_)
    return view.go(HERE, text("Schedule {schedule} is added.", schedule=made.id))


@router.post("/schedules/{schedule_id}/pause")
def pause(view: Operating, schedule_id: RowId) -> Response:
    """Make nothing until it is resumed. Role: operator."""
    return _act(view, schedules.pause, schedule_id, text("Schedule {schedule} is paused.", schedule=schedule_id))


@router.post("/schedules/{schedule_id}/resume")
def resume(view: Operating, schedule_id: RowId) -> Response:
    """Go on from the next time that it is due. Role: operator."""
    return _act(view, schedules.resume, schedule_id, text("Schedule {schedule} goes on.", schedule=schedule_id))


@router.post("/schedules/{schedule_id}/run")
def run(view: Operating, schedule_id: RowId) -> Response:
    """Make the file once more, now. Role: operator."""
    return _act(view, schedules.make_now, schedule_id, text("The file is made now. It will stand in the list below."))


@router.post("/schedules/{schedule_id}/delete")
def delete(view: Operating, schedule_id: RowId) -> Response:
    """End it, and delete the files that it became. Role: operator."""
    return _act(
        view,
        schedules.delete,
        schedule_id,
        text("Schedule {schedule} and its files are deleted.", schedule=schedule_id),
    )


@router.get("/files/{file_id}")
def read_file(view: Looking, file_id: RowId) -> Response:
    """The content of a file. One with names and e-mail addresses: operator and above."""
    return send_file(view.services, view.caller, file_id)


def _act(view: View, act: Callable[..., ScheduleRecord], schedule_id: int, said: str) -> Response:
    try:
        act(view.database, organisation_id=view.organisation_id, schedule_id=schedule_id, who=view.caller.person)
    except ConflictError as refused:
        return _page(view, error=str(refused), status=409)
    return view.go(HERE, said)


def _parse(**values: Any) -> ScheduleRequest:
    given = {name: value for name, value in values.items() if value is not None}
    try:
        return ScheduleRequest.model_validate(given)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        field = word(fault["loc"][-1] if fault["loc"] else "form")
        raise InvalidInputError(say_fault(field, fault)) from None


def _page(
    view: View,
    *,
    error: str = "",
    status: int = 200,
    typed: dict[str, str] | None = None,
    chosen: dict[str, list[str]] | None = None,
) -> Response:
    organisation_id = view.organisation_id
    before = parse_cursor(view.request.query_params.get("cursor"))
    with view.database.begin() as connection:
        found = report_schedules.list_schedules(connection, organisation_id)
        files = report_files.list_files(connection, organisation_id, before=before, limit=FILES)
        titles = {
            one.filter["series_id"]: series_library.find_code(connection, organisation_id, one.filter["series_id"])
            for one in found
            if "series_id" in one.filter
        }
    return view.page(
        "reports_schedules.html",
        status=status,
        tab="schedules",
        given={},
        found=[(one, _describe(one, titles)) for one in found],
        files=files,
        next_cursor=next_cursor(files, FILES),
        error=error,
        typed=typed or {},
        chosen=chosen or {},
        everies=_EVERY,
        coverings=_COVERS,
        formats=_FORMATS,
        reports=[(one.value, word(one.value)) for one in Report],
        keep_days=view.settings.report_keep_days,
        format_labels=dict(_FORMATS),
        every_labels=dict(_EVERY),
        may_schedule=view.may(SCHEDULES_REPORTS),
        sees_names=view.may(SEES_NAMES),
        known_formats=list(Format),
        **CHOICES,
    )


def _describe(one: ScheduleRecord, codes: dict[int, str | None]) -> list[tuple[str, str]]:
    """The conditions of a schedule for a person; its Series by code."""
    given = {name: value if isinstance(value, list) else [str(value)] for name, value in one.filter.items()}
    if "series_id" in given:
        given["series"] = [codes[one.filter["series_id"]] or str(one.filter["series_id"])]
        del given["series_id"]
    return describe_filter(given)
