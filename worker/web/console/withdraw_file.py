"""Withdraw from a file: what is wrong with it, its plan, and the confirmation, for which it is not sent again."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Form, UploadFile
from pydantic import StringConstraints
from starlette.responses import Response

from schemas.catalogue import Reason
from schemas.jobs import FileOptions, FileRequest, Storable
from worker.errors import ConflictError, InvalidInputError, NotFoundError
from worker.jobs.admission import SIGNED_IN
from worker.jobs.files import mend, template
from worker.jobs.files.columns import SERIES
from worker.jobs.files.faults import columns_of
from worker.jobs.show import show
from worker.jobs.submit import is_known
from worker.ledger import file_rows
from worker.texts import joined, text
from worker.web import sent_files
from worker.web.api.submit import validated
from worker.web.console import file_plans, left_out, weight
from worker.web.console.file_plans import Entered
from worker.web.console.forms import Text, parse_choice
from worker.web.console.library import source_of
from worker.web.console.plan_errors import PLAN_ERRORS, explain
from worker.web.console.plan_names import find_names
from worker.web.console.render import PATH
from worker.web.console.view import LookingAsOperator, Operating, SignedInFirst, View
from worker.web.sent_files import Sent

router = APIRouter(prefix=PATH, include_in_schema=False, route_class=SignedInFirst)

_MOST_CELLS = 6 * mend.MOST
"""A row has up to five columns that are read, and its number."""
_LONG_NUMBER = 10
"""Digits of more lines than a file can have."""
INCOMPLETE = text("The form is incomplete. Go back, reload the page, and send it again.")
_CORRECTED = text("You have corrected rows since the plan was made. Nothing was withdrawn. This is the plan now.")
Lines = Annotated[list[int] | None, Form(max_length=_MOST_CELLS)]
Taken = Annotated[str, StringConstraints(max_length=300), Storable]
Words = Annotated[list[str] | None, Form(max_length=_MOST_CELLS)]


@router.post("/withdraw/file")
def plan_or_submit_file(
    view: Operating,
    file: UploadFile | None = None,
    reason: Annotated[str, Form()] = "",
    act: Annotated[str, Form()] = "plan",
    note: Annotated[str, Form()] = "",
    plan_hash: Annotated[str, Form()] = "",
    upload: Annotated[str, Form()] = "",
    batch: Annotated[str, Form()] = "",
    faults: Annotated[str, Form()] = "refuse",
    key: Annotated[str, Form()] = "",
    typed: Annotated[Text, Form()] = "",
    line: Lines = None,
    column: Words = None,
    cell: Words = None,
    leave_out: Lines = None,
    take: Annotated[Taken, Form()] = "",
    left: Lines = None,
    corrected: Lines = None,
) -> Response:
    """Keep a file and lead to its plan; or submit the upload that the plan names, with the plan's hash.

    The form of the plan has the corrections too. A confirmation that comes with some is planned anew. One that comes
    with lines to leave out goes on: they have faults, so what it submits is the file of the plan, without these lines.

    `line`, `column` and `cell`: what was corrected in rows of the upload, one of each for each cell. `leave_out`: its
    lines to leave out. `take`: a line, and the Series code that was suggested for it. `left` and `corrected`: the lines
    that were left out and corrected before, to be shown.
    """
    if not reason:
        return file_page(view, error=text("Choose the reason."), status=422, batch=batch)
    entered = Entered(note, None, set(left or ()), set(corrected or ()))
    told: str = ""
    try:
        options = {"upload": upload or None, "batch": parse_choice(batch, "job"), "faults": faults}
        chosen = kept = validated(FileOptions, options)
        values = {"reason": reason, "source": source_of(reason), "note": note.strip() or None}
        request = validated(FileRequest, {**values, "plan_hash": plan_hash or None})
        mended = None
        if (line or leave_out or take) and chosen.upload:
            given = _by_line(line or [], column or [], cell or [])
            changes = {**given, **{number: {} for number in leave_out or ()}, **_take(take, given)}
            mended = sent_files.mend_rows(view.services, view.caller, chosen.upload, changes)
            chosen = chosen.model_copy(update={"upload": mended.upload})
            entered = entered.with_lines(mended.left_out, mended.corrected)
        sent = Sent(None if upload else file, chosen)
        if act == "withdraw" and mended and mended.corrected:
            told = _CORRECTED
        elif act == "withdraw" and not _is_typed(view, key, request, sent, typed):
            entered = replace(entered, typed=typed)
        elif act == "withdraw":
            try:
                return _submit(view, key, request, Sent(sent.file, kept, entered.left))
            except PLAN_ERRORS as changed:
                told = joined([explain(changed), text("Nothing was withdrawn. Below is the plan as it is now.")])
        planned = chosen.upload or sent_files.keep(view.services, view.caller, sent)
    except (NotFoundError, ConflictError, InvalidInputError) as refused:
        return _refused(view, refused, reason=reason, batch=batch)
    return view.go(file_plans.address(view, planned, reason=reason, batch=batch, entered=entered), told, tone="warn")


@router.get("/withdraw/file/{upload_id}/plan")
def show_plan(
    view: LookingAsOperator, upload_id: str, reason: str = "", batch: str = "", entered: str = ""
) -> Response:  # fmt: skip
    """The plan of a file that this person sent, with its rows that have a fault, to be corrected.

    `entered`: what stands in the form (`file_plans.py`).
    """
    upload = sent_files.find(view.services, view.caller, upload_id)
    if not reason:
        return file_page(view, error=text("Choose the reason."), status=422, batch=batch)
    form = file_plans.read_entered(view, upload.id, entered)
    error = ""
    try:
        sent = Sent(None, validated(FileOptions, {"upload": upload.id, "batch": parse_choice(batch, "job")}))
        request = validated(FileRequest, {"reason": reason, "source": source_of(reason)})
        planned, cells = sent_files.plan_with_values(view.services, view.caller, request, sent, door=SIGNED_IN)
    except (NotFoundError, ConflictError, InvalidInputError) as refused:
        return _refused(view, refused, reason=reason, batch=batch)
    if form.typed is not None:
        error = weight.find_objection(view, form.typed, planned.plan)
    return file_page(
        view, status=422 if error else 200, error=error, planned=planned, faulty=cells, file_name=upload.file_name,
        reason=reason, batch=batch, entered=form,
    )  # fmt: skip


def _refused(view: View, refused: Exception, **fields: Any) -> Response:
    status = 422 if isinstance(refused, InvalidInputError) else 409
    return file_page(view, error=str(refused), status=status, **fields)


def _is_typed(view: View, key: str, request: FileRequest, sent: Sent, typed: str) -> bool:
    """Whether the count of a large share was typed; true also of a smaller one, and of a form that was taken before."""
    if not weight.may_be_large(view, request.plan_hash or "") or is_known(view.database, view.requester(key)):
        return True
    now, _ = sent_files.plan_with_values(view.services, view.caller, request, sent, door=SIGNED_IN)
    return not weight.find_objection(view, typed, now.plan)


def _by_line(lines: Sequence[int], columns: Sequence[str], cells: Sequence[str]) -> dict[int, dict[str, str]]:
    if not len(lines) == len(columns) == len(cells):
        raise InvalidInputError(INCOMPLETE)
    found = defaultdict[int, dict[str, str]](dict)
    for line, column, cell in zip(lines, columns, cells, strict=True):
        found[line][column] = cell.replace("\0", "").strip()
    return found


def _take(given: str, cells: Mapping[int, dict[str, str]]) -> dict[int, dict[str, str]]:
    """The row for which a suggestion is taken, with its other cells: also one that was ticked to be left out."""
    if not given:
        return {}
    number, _, code = given.partition(" ")
    if not code or not (number.isascii() and number.isdecimal() and len(number) < _LONG_NUMBER):
        raise InvalidInputError(INCOMPLETE)
    return {int(number): {**cells.get(int(number), {}), SERIES: code}}


def _submit(view: View, key: str, request: FileRequest, sent: Sent) -> Response:
    made, result = sent_files.submit_file(view.services, view.caller, view.requester(key), request, sent)
    if not result.check.fault_count or result.upload is None:
        return view.go_on(made.job)
    rows = left_out.seal(view, result.upload, result.check)
    return view.go(f"{PATH}/withdraw/file/{result.upload}?job={made.job.id}&rows={rows}")


@router.get("/withdraw/template.xlsx")
def read_workbook_template(view: LookingAsOperator) -> Response:
    """An empty file to fill in, and on its second sheet the codes of the Series."""
    with view.database.begin() as connection:
        known = file_rows.list_series(connection, view.organisation_id, template.MOST_SERIES)
    return _send(template.as_workbook(known), "withdraw.xlsx", sent_files.MEDIA["xlsx"])


@router.get("/withdraw/template.csv")
def read_csv_template(view: LookingAsOperator) -> Response:
    """The same as CSV: the header alone."""
    return _send(template.as_csv(), "withdraw.csv", sent_files.MEDIA["csv"])


def _send(content: bytes, name: str, media: str) -> Response:
    headers = {"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"}
    return Response(content, headers=headers, media_type=media)


@router.get("/withdraw/file/{upload_id}")
def show_left_out(view: LookingAsOperator, upload_id: str, job: str = "", rows: str = "") -> Response:
    """What a job took of a file, and the rows that it has left out: as a file, with the form to send it once mended."""
    sent_files.find_faults(view.services, view.caller, upload_id)
    job_id = parse_choice(job, "job")
    made = show(view.database, organisation_id=view.organisation_id, job_id=job_id) if job_id else None
    rest = left_out.unseal(view, upload_id, rows)
    return file_page(view, left_out=upload_id, rest=rest, job=made, batch=str(job_id or ""))


@router.get("/withdraw/file/{upload_id}/faults")
def read_faults(view: LookingAsOperator, upload_id: str) -> Response:
    """The rows with faults of a file that this person sent."""
    return sent_files.send_faults(view.services, view.caller, upload_id)


def file_page(view: View, *, status: int = 200, error: str = "", **shown: Any) -> Response:
    """The form for a file, with its plan once there is one."""
    shown = {
        "planned": None,
        "faulty": [],
        "file_name": None,
        "entered": Entered(),
        "reason": "",
        "batch": "",
        "left_out": None,
        "rest": None,
        "job": None,
        **shown,
    }
    planned = shown["planned"]
    plan = planned and planned.plan
    check = planned and planned.check
    faults = list(zip(check.faults, shown["faulty"], strict=True)) if check else []
    can_mend = 0 < len(faults) <= mend.MOST and check.fault_count == len(faults) if check else False
    return view.page(
        "withdraw_file.html", status=status, error=error, reasons=list(Reason), plan=plan,
        faults=[(fault, " / ".join(columns_of(fault, check.columns)), row) for fault, row in faults],
        can_mend=can_mend and all(row.cells for _, row in faults),
        names=find_names(view, plan), large=weight.is_large_plan(view, plan), typed=shown["entered"].typed or "",
        **shown,
    )  # fmt: skip
