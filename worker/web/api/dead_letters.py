"""Single dead letters over HTTP: list, show, act on one. `/v1/dead-letters`."""

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import ConfigDict, Field

from schemas import answers
from schemas.dead_letters import Act, LetterFilter, LetterOrder, Resolution
from worker.dead_letters import acts, desk, remedies
from worker.web.auth import Operator, Viewer
from worker.web.context import Context, RowId, Services
from worker.web.problems import WITH_BODY, describes

router = APIRouter(prefix="/v1/dead-letters", tags=["dead letters"], responses=describes())


class LetterQuery(LetterFilter):
    """The filter with a page; other parameters are ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    sort: Annotated[
        LetterOrder,
        Field(description="`due`: live ones first, the longest overdue at the top. Else by their numbers."),
    ] = "due"
    limit: Annotated[int, Field(ge=1, le=1000, description="Items on a page at the most.")] = 50
    cursor: Annotated[
        str | None, Field(max_length=40, description="Where to go on: `next_cursor` of the page before.")
    ] = None


@router.get("")
def list_dead_letters(
    context: Context, who: Viewer, query: Annotated[LetterQuery, Query()]
) -> answers.Page[answers.DeadLetter]:
    """Dead letters that match: live ones first, the longest overdue at the top; then closed ones. Or as `sort` says."""
    found = desk.list_letters(
        context.database,
        context.settings,
        who.organisation_id,
        query.filter,
        cursor=query.cursor,
        limit=query.limit,
        sort=query.sort,
    )
    return answers.Page(items=[remedies.document(letter) for letter in found.items], next_cursor=found.next_cursor)


@router.get("/{letter_id}", responses=describes(404))
def show_dead_letter(context: Context, who: Viewer, letter_id: RowId) -> answers.DeadLetter:
    """One dead letter with its history, what the platform shows now, and the remedies."""
    return show_letter(context, who.organisation_id, letter_id)


@router.post("/{letter_id}/redrive", responses=describes(*WITH_BODY, 404, 409))
def redrive_dead_letter(
    context: Context, who: Operator, letter_id: RowId, act: Act | None = None
) -> answers.DeadLetter:
    """Try again. If there is nothing left to do, this resolves the letter."""
    remedies.redrive(
        context.database,
        organisation_id=who.organisation_id,
        letter_ids=[letter_id],
        actor=who.actor,
        note=act.note if act else None,
    )
    return show_letter(context, who.organisation_id, letter_id)


@router.post("/{letter_id}/resolve", responses=describes(*WITH_BODY, 404, 409, "second_person"))
def resolve_dead_letter(
    context: Context, who: Operator, letter_id: RowId, resolution: Resolution
) -> answers.DeadLetter:
    """Decide a letter by one of its remedies. Role: operator for `keep`, approver for `override` and `cascade`."""
    remedy = acts.parse_act(resolution.remedy, among=acts.RESOLUTIONS, name="remedy")
    who.must_be(acts.ACTS[remedy].role)
    remedies.resolve(
        context.database,
        organisation_id=who.organisation_id,
        letter_ids=[letter_id],
        remedy=remedy,
        actor=who.actor,
        door="api",
        note=resolution.note,
        made_by=who.made_by,
    )
    return show_letter(context, who.organisation_id, letter_id)


@router.post("/{letter_id}/discard", responses=describes(*WITH_BODY, 404, 409))
def discard_dead_letter(
    context: Context, who: Operator, letter_id: RowId, act: Act | None = None
) -> answers.DeadLetter:
    """Close a letter without an answer; what was not done stays undone."""
    remedies.discard(
        context.database,
        organisation_id=who.organisation_id,
        letter_ids=[letter_id],
        actor=who.actor,
        note=act.note if act else None,
    )
    return show_letter(context, who.organisation_id, letter_id)


def show_letter(context: Services, organisation_id: int, letter_id: int) -> answers.DeadLetter:
    """A letter as it is after an act, as over HTTP."""
    return remedies.document(remedies.show(context.database, organisation_id=organisation_id, letter_id=letter_id))
