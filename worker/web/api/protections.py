"""Protections over HTTP: `/v1/protections`. One is lifted before its end by somebody who did not set it."""

from typing import Annotated

from fastapi import APIRouter, Query

from schemas import answers
from schemas.jobs import ExternalId
from schemas.protections import Lift, Protection, ProtectionPolicy, ProtectionRequest
from worker.ids import next_cursor, parse_cursor
from worker.people import protections
from worker.web.auth import Approver, Operator, Owner, Viewer
from worker.web.context import Context, Cursor, Limit, RowId
from worker.web.problems import describes

router = APIRouter(prefix="/v1/protections", tags=["protections"], responses=describes())


@router.get("")
def list_protections(
    context: Context,
    who: Viewer,
    live: Annotated[bool, Query(description="Only those in force now.")] = False,
    learner_external_id: Annotated[ExternalId | None, Query(description="Also those of their enrolments.")] = None,
    enrolment_id: Annotated[int | None, Query(ge=1, le=2**63 - 1, description="Also those of its learner.")] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> answers.Page[Protection]:
    """Protections, newest first, also those that have ended."""
    found = protections.list_protections(
        context.database,
        organisation_id=who.organisation_id,
        live=live,
        learner_external_id=learner_external_id,
        enrolment_id=enrolment_id,
        before=parse_cursor(cursor),
        limit=limit,
    )
    return answers.Page(items=found, next_cursor=next_cursor(found, limit))


@router.post("", status_code=201, responses=describes(404, 409))
def add_protection(context: Context, who: Operator, body: ProtectionRequest) -> Protection:
    """Let nothing withdraw a learner or an enrolment from now on; the same request again has the same answer."""
    return protections.protect(context.database, organisation_id=who.organisation_id, wanted=body, who=who.person)


@router.get("/policy")
def show_policy(context: Context, who: Viewer) -> ProtectionPolicy:
    """Whether a withdrawal that a protection kept back becomes a dead letter."""
    return protections.read_policy(context.database, organisation_id=who.organisation_id)


@router.put("/policy")
def set_policy(context: Context, who: Owner, body: ProtectionPolicy) -> ProtectionPolicy:
    """Change that from now on. Letters that are open stay open."""
    return protections.set_policy(context.database, organisation_id=who.organisation_id, wanted=body, who=who.person)


@router.get("/{protection_id}", responses=describes(404))
def show_protection(context: Context, who: Viewer, protection_id: RowId) -> Protection:
    """One protection, and what became of it."""
    return protections.show(context.database, organisation_id=who.organisation_id, protection_id=protection_id)


@router.post("/{protection_id}/lift", responses=describes(404, 409, "second_person"))
def lift_protection(context: Context, who: Approver, protection_id: RowId, body: Lift) -> Protection:
    """End a protection before its time. Nobody lifts what they set. What it kept back is tried again within a day."""
    return protections.lift(
        context.database,
        organisation_id=who.organisation_id,
        protection_id=protection_id,
        who=who.person,
        note=body.note,
    )
