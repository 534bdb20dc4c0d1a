"""One dead letter: what happened and why, what the platform shows now, the remedies; and the acts on it."""

from typing import Annotated, Any

from fastapi import APIRouter, Form
from starlette.responses import Response

from schemas.catalogue import LetterState
from schemas.dead_letters import Act, LetterAct
from schemas.desk import AssignRequest, NoteRequest
from worker.dead_letters import acts, decision_receipts, desk, desk_acts, diagnosis, remedies
from worker.errors import ConflictError, InvalidInputError
from worker.rules import ACTIVE
from worker.texts import text
from worker.web.console.forms import parse
from worker.web.console.letter_filter import ChosenFilter, InQuery
from worker.web.console.render import PATH
from worker.web.console.view import Looking, Operating, View
from worker.web.context import RowId

router = APIRouter(prefix=f"{PATH}/dead-letters", include_in_schema=False)

Text = Annotated[str, Form()]


@router.get("/{letter_id}")
def show(view: Looking, letter_id: RowId, wanted: InQuery) -> Response:
    """One letter with all that explains it. The filter says which ones are before and after it."""
    return _page(view, letter_id, wanted)


@router.post("/{letter_id}/act")
def act(view: Operating, letter_id: RowId, wanted: InQuery, act: Text = "", note: Text = "") -> Response:
    """Redrive, override, cascade, keep or discard."""
    if not act:
        return _page(view, letter_id, wanted, status=422, error=text("Choose what to do."), note=note)
    chosen = acts.parse_act(act)
    view.caller.must_be(acts.ACTS[chosen].role)
    subject: dict[str, Any] = {
        "organisation_id": view.organisation_id, "letter_ids": [letter_id], "actor": view.actor,
    }  # fmt: skip
    try:
        given = parse(Act, note=note.strip() or None).note
        if chosen is LetterAct.REDRIVE:
            remedies.redrive(view.database, **subject, note=given)
        elif chosen is LetterAct.DISCARD:
            remedies.discard(view.database, **subject, note=given)
        else:
            subject |= {"door": "console", "made_by": view.caller.made_by}
            remedies.resolve(view.database, **subject, remedy=chosen, note=given or "")
    except InvalidInputError as error:
        return _page(view, letter_id, wanted, status=422, error=str(error), chosen=act, note=note)
    except ConflictError as error:
        return _page(view, letter_id, wanted, status=409, error=str(error), chosen=act, note=note)
    return view.go(_path(letter_id, wanted), said=acts.ACTS[chosen].done)


@router.post("/{letter_id}/assign")
def assign(view: Operating, letter_id: RowId, wanted: InQuery, to: Text = "", name: Text = "") -> Response:
    """Let somebody look after the letter."""
    try:
        assignee = parse_assignee(view, to, name)
        desk_acts.assign(
            view.database, organisation_id=view.organisation_id, letter_ids=[letter_id], assignee=assignee,
            actor=view.actor,
        )  # fmt: skip
    except InvalidInputError as error:
        return _page(view, letter_id, wanted, status=422, error=str(error))
    except ConflictError as error:
        return _page(view, letter_id, wanted, status=409, error=str(error))
    return view.go(
        _path(letter_id, wanted),
        said=text("This letter is assigned to {assignee}.", assignee=assignee)
        if assignee
        else text("This letter is unassigned now."),
    )


@router.post("/{letter_id}/note")
def note(view: Operating, letter_id: RowId, wanted: InQuery, note: Text = "", key: Text = "") -> Response:
    """Put a note beside the letter, once however often the form is sent."""
    try:
        given = parse(NoteRequest, note=note.strip()).note
    except InvalidInputError as error:
        return _page(view, letter_id, wanted, status=422, error=str(error))
    desk_acts.note(
        view.database, organisation_id=view.organisation_id, letter_ids=[letter_id], note=given, actor=view.actor,
        key=view.requester(key).key,
    )  # fmt: skip
    return view.go(_path(letter_id, wanted), said=text("The note was added."))


def parse_assignee(view: View, to: str, name: str) -> str | None:
    """Who was chosen: the person who acts, nobody, or a name.

    Raises:
        InvalidInputError: nothing was chosen, or the name is not valid.
    """
    if to == "nobody":
        return None
    given = view.caller.name if to == "me" else name.strip() if to == "name" else ""
    if not given:
        raise InvalidInputError(text("Choose who looks after it: you, nobody, or a name."))
    return parse(AssignRequest, assignee=given).assignee


def _path(letter_id: int, wanted: ChosenFilter) -> str:
    return wanted.at(f"{PATH}/dead-letters/{letter_id}")


def _page(
    view: View,
    letter_id: int,
    wanted: ChosenFilter,
    *,
    status: int = 200,
    error: str = "",
    chosen: str = "",
    note: str = "",
) -> Response:
    letter = remedies.show(view.database, organisation_id=view.organisation_id, letter_id=letter_id)
    shown = remedies.document(letter)
    now = letter.evidence.get("now")
    siblings = list((now or {}).get("siblings", []))
    context = desk.find_letter_context(view.database, letter)
    asked = shown.diagnosis.request
    return view.page(
        "dead_letter.html",
        status=status,
        letter=shown,
        wanted=wanted,
        beside=desk.find_neighbours(view.database, view.settings, view.organisation_id, wanted.filter, letter),
        names=desk_acts.list_names(view.database, view.organisation_id),
        context=context,
        door=decision_receipts.describe_door(asked) if asked else "",
        seen=_seen(shown.diagnosis.seen_then, now, looked="now" in letter.evidence),
        weigh=diagnosis.weigh(letter),
        vain=diagnosis.list_vain_acts(letter),
        gone="now" in letter.evidence and now is None and letter.enrolment_id is not None,
        siblings=siblings,
        active=ACTIVE,
        counted=desk.COUNTED,
        moving=letter.state == LetterState.REDRIVEN,
        acts=acts.ACTS,
        error=error,
        chosen=chosen,
        note=note,
    )


_ROWS = {
    "status": text("Status"),
    "pathway_title": text("Learning Pathway"),
    "active": text("Learner active"),
    "to_decide": text("Enrolments to decide"),
    "owned": text("Of these, owned by a pathway"),
    "withdrawn_at": text("Withdrawn at"),
    "withdrawn_by": text("Requested by"),
    "withdrawal_reason": text("Reason"),
    "fault": text("What is wrong"),
    "source": text("HR source"),
    "event_id": text("Event"),
    "receipt_id": text("Receipt"),
    "received_at": text("Received at"),
    "body": text("Body, as received"),
}


def _seen(then: dict[str, Any], now: dict[str, Any] | None, *, looked: bool) -> list[tuple[str, Any, Any]]:
    """What the letter saw beside what the platform shows now: label, then, now."""
    rows: list[tuple[str, Any, Any]] = []
    for name, label in _ROWS.items():
        before, after = then.get(name), (now or {}).get(name)
        if before is None and after is None and name != "pathway_title":
            continue
        if name == "pathway_title":
            if not (then.get("status") or (now or {}).get("status")):
                continue
            before = before or (text("none") if then.get("status") else None)
            after = after or (text("none") if now else None)
        rows.append((label, before, after if looked else None))
    return rows
