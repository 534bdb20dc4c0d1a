"""Dead letters over HTTP: look, understand, act on one. `/v1/dead-letters`."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query

from schemas import answers
from schemas.dead_letters import Act, Code, LetterFilter, Resolution, Source, State, Word
from schemas.jobs import Moment
from worker.dead_letters import desk, remedies
from worker.web.auth import Operator, Viewer
from worker.web.context import Context, Cursor, Limit, RowId, Services
from worker.web.problems import WITH_BODY, describes

router = APIRouter(prefix="/v1/dead-letters", tags=["dead letters"], responses=describes())

_FIELDS = LetterFilter.model_fields


def _filter(
    code: Annotated[Code | None, Query()] = None,
    state: Annotated[State | None, Query()] = None,
    job_id: Annotated[int | None, Query(ge=1, le=2**63 - 1, description=_FIELDS["job_id"].description)] = None,
    source: Annotated[Source | None, Query(description=_FIELDS["source"].description)] = None,
    fingerprint: Annotated[Word | None, Query()] = None,
    assignee: Annotated[Word | None, Query(description=_FIELDS["assignee"].description)] = None,
    older_than: Annotated[Moment | None, Query(description=_FIELDS["older_than"].description)] = None,
    changed: Annotated[bool | None, Query(description=_FIELDS["changed"].description)] = None,
    overdue: Annotated[bool | None, Query(description=_FIELDS["overdue"].description)] = None,
) -> LetterFilter:
    return LetterFilter(
        code=code,
        state=state,
        job_id=job_id,
        source=source,
        fingerprint=fingerprint,
        assignee=assignee,
        older_than=older_than,
        changed=changed,
        overdue=overdue,
    )


Wanted = Annotated[LetterFilter, Depends(_filter)]
"""A filter of dead letters, from the query."""


@router.get("")
def list_dead_letters(
    context: Context, who: Viewer, wanted: Wanted, limit: Limit = 50, cursor: Cursor = None
) -> answers.Page[answers.DeadLetter]:
    """Dead letters that match: live ones first, the longest overdue at the top; then closed ones. Role: viewer."""
    found = desk.list_letters(
        context.database, context.settings, who.organisation_id, wanted, cursor=cursor, limit=limit
    )
    return answers.Page(items=[remedies.document(letter) for letter in found.items], next_cursor=found.next_cursor)


@router.get("/{letter_id}", responses=describes(404))
def show_dead_letter(context: Context, who: Viewer, letter_id: RowId) -> answers.DeadLetter:
    """One dead letter with its history, what the platform shows now, and the remedies. Role: viewer."""
    return _shown(context, who.organisation_id, letter_id)


@router.post("/{letter_id}/redrive", responses=describes(*WITH_BODY, 404, 409))
def redrive_dead_letter(
    context: Context, who: Operator, letter_id: RowId, act: Act | None = None
) -> answers.DeadLetter:
    """Try again; what has become moot closes the letter. Role: operator."""
    remedies.redrive(
        context.database,
        organisation_id=who.organisation_id,
        letter_ids=[letter_id],
        actor=who.actor,
        note=act.note if act else None,
    )
    return _shown(context, who.organisation_id, letter_id)


@router.post("/{letter_id}/resolve", responses=describes(*WITH_BODY, 404, 409))
def resolve_dead_letter(
    context: Context, who: Operator, letter_id: RowId, resolution: Resolution
) -> answers.DeadLetter:
    """Decide a letter by one of its remedies. Role: operator for `keep`, approver for any other."""
    who.must_be(remedies.role_for(resolution.remedy))
    remedies.resolve(
        context.database,
        organisation_id=who.organisation_id,
        letter_ids=[letter_id],
        remedy=resolution.remedy,
        actor=who.actor,
        note=resolution.note,
    )
    return _shown(context, who.organisation_id, letter_id)


@router.post("/{letter_id}/discard", responses=describes(*WITH_BODY, 404, 409))
def discard_dead_letter(
    context: Context, who: Operator, letter_id: RowId, act: Act | None = None
) -> answers.DeadLetter:
    """Close a letter without an answer; what was not done stays not done. Role: operator."""
    remedies.discard(
        context.database,
        organisation_id=who.organisation_id,
        letter_ids=[letter_id],
        actor=who.actor,
        note=act.note if act else None,
    )
    return _shown(context, who.organisation_id, letter_id)


def _shown(context: Services, organisation_id: int, letter_id: int) -> answers.DeadLetter:
    return remedies.document(remedies.show(context.database, organisation_id=organisation_id, letter_id=letter_id))
