"""A person's page: all that is known about them, and their protection."""

from functools import partial
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Form
from starlette.responses import Response

from schemas.catalogue import ProtectionKind, Reason
from schemas.jobs import JobRequest, Note
from schemas.protections import Lift, Protection, ProtectionRequest
from worker.dead_letters import person_history
from worker.dead_letters.person_history import MOST
from worker.errors import ConflictError, InvalidInputError, NotFoundError, OwnProtectionError
from worker.jobs import submit
from worker.ledger import enrolment_search, owned, standing
from worker.people import protections
from worker.rules import ACTIVE, WITHDRAWN
from worker.texts import text
from worker.web.api.submit import validated
from worker.web.console import acted
from worker.web.console.forms import PlatformId, Text, parse, parse_choice
from worker.web.console.library import source_of
from worker.web.console.render import PATH
from worker.web.console.view import Approving, Looking, Operating, View
from worker.web.context import RowId

router = APIRouter(prefix=PATH, include_in_schema=False)

GivenNote = Annotated[Note, Form()]


@router.get("/people")
def show(view: Looking, learner: PlatformId = "") -> Response:
    """All that is known about one person: enrolments, events, jobs, dead letters, protections, history."""
    return _page(view, learner)


@router.post("/people/withdraw")
def withdraw(
    view: Operating,
    learner: Annotated[PlatformId, Form()] = "",
    enrolment_ids: Annotated[list[int] | None, Form(max_length=MOST)] = None,
    withdrawal_reason: Annotated[Text, Form()] = "",
    withdrawal_note: GivenNote = "",
    key: Annotated[str, Form()] = "",
) -> Response:
    """Withdraw the enrolments of a learner that the page has listed as active. Role: operator."""
    typed = {"withdrawal_reason": withdrawal_reason, "withdrawal_note": withdrawal_note}
    if not withdrawal_reason:
        return _page(view, learner, error=text("withdrawal_reason: choose a reason"), status=422, typed=typed)
    wanted = validated(
        JobRequest,
        {
            "enrolment_ids": enrolment_ids or [],
            "reason": withdrawal_reason,
            "source": source_of(withdrawal_reason),
            "note": withdrawal_note or None,
        },
    )
    job = submit.submit(view.database, view.requester(key), wanted, chunk_size=view.settings.chunk_size).job
    return acted.go(view, _path(learner), job)


@router.post("/people/protect")
def protect(
    view: Operating,
    learner: Annotated[PlatformId, Form()] = "",
    enrolment: Annotated[Text, Form()] = "",
    kind: Annotated[Text, Form()] = "",
    reason: GivenNote = "",
    until: Annotated[Text, Form()] = "",
) -> Response:
    """Let nothing withdraw a learner, or one of their enrolments, from now on. Role: operator."""
    typed = {"enrolment": enrolment, "kind": kind, "reason": reason, "until": until}
    try:
        one = parse_choice(enrolment, "enrolment")
        wanted = parse(
            ProtectionRequest,
            learner_external_id=learner if one is None else None,
            enrolment_id=one,
            kind=kind,
            reason=reason,
            until=until or None,
        )
        made = view.act(partial(protections.protect, wanted=wanted))
    except (InvalidInputError, NotFoundError) as refused:
        return _page(view, learner, error=str(refused), status=422, typed=typed)
    return view.go(_path(learner), _describe(made))


@router.post("/protections/{protection_id}/lift")
def lift(
    view: Approving, protection_id: RowId, learner: Annotated[PlatformId, Form()] = "", note: GivenNote = ""
) -> Response:
    """End a protection before its time. Nobody lifts what they set. Role: approver."""
    try:
        wanted = parse(Lift, note=note)
        view.act(partial(protections.lift, protection_id=protection_id, note=wanted.note))
    except (InvalidInputError, ConflictError, OwnProtectionError) as refused:
        return _page(view, learner, error=str(refused), status=422 if isinstance(refused, InvalidInputError) else 409)
    return view.go(_path(learner), text("Lifted. What it kept back is tried again within a day."))


def _page(
    view: View, external_id: str, *, error: str = "", status: int = 200, typed: dict[str, str] | None = None
) -> Response:
    found = person_history.show(view.database, organisation_id=view.organisation_id, external_id=external_id)
    withdrawn = [one.id for one in found.enrolments if one.status == WITHDRAWN]
    with view.database.begin() as connection:
        still = standing.find_jobs(connection, view.organisation_id, withdrawn)
        active = [one for one in found.enrolments if one.status in ACTIVE]
        of_pathways = [one for one in active if one.pathway_title is not None]
        letters = owned.find_letters(connection, view.organisation_id, [one.id for one in of_pathways])
        waits = enrolment_search.find_live_request(
            connection, view.organisation_id, [one.id for one in active], learner=external_id
        )
    return view.page(
        "person.html",
        status=status,
        found=found,
        own=protections.list_own(view.database, found.live_protections, view.caller.person),
        error=error,
        typed=typed or {},
        kinds=list(ProtectionKind),
        reasons=list(Reason),
        standing=still,
        titles={one.id: one.series_title for one in found.enrolments},
        active=[one.id for one in active if one.pathway_title is None],
        owned=[(one, letters.get(one.id)) for one in of_pathways],
        nothing_open=not (waits or "dead_letters" in found.cut or any(not one.closed_at for one in found.dead_letters)),
    )


def _path(external_id: str) -> str:
    return f"{PATH}/people?{urlencode({'learner': external_id})}"


def _describe(made: Protection) -> str:
    if made.until is None:
        return text("Protected. Nothing withdraws it until an approver lifts the protection.")
    return text("Protected. Nothing withdraws it until {until:%-d %b %Y, %H:%M} UTC.", until=made.until)
