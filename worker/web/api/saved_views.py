"""Saved views over HTTP: `/v1/views`. Everybody keeps their own, and sees those that are shared."""

from typing import Annotated

from fastapi import APIRouter, Query

from schemas import answers
from schemas.catalogue import Role
from schemas.saved_views import ListName, SavedView, ViewChange, ViewRequest
from worker.search import saved_views
from worker.web.auth import Viewer
from worker.web.context import Context, RowId
from worker.web.problems import describes

router = APIRouter(prefix="/v1/views", tags=["saved views"], responses=describes())


@router.get("")
def list_views(
    context: Context,
    who: Viewer,
    list_name: Annotated[ListName | None, Query(alias="list", description="Only views of this list.")] = None,
) -> answers.Page[SavedView]:
    """The caller's views and those that are shared with the organisation, by list and name."""
    found = saved_views.list_all(
        context.database, organisation_id=who.organisation_id, who=who.person, list_name=list_name
    )
    return answers.Page(items=found, next_cursor=None)


@router.post("", status_code=201, responses=describes(409))
def save_view(context: Context, who: Viewer, body: ViewRequest) -> SavedView:
    """Keep the filter of a list under a name."""
    return saved_views.save(context.database, organisation_id=who.organisation_id, wanted=body, who=who.person)


@router.get("/{view_id}", responses=describes(404))
def show_view(context: Context, who: Viewer, view_id: RowId) -> SavedView:
    """One view of the caller's, or a shared one."""
    return saved_views.show(context.database, organisation_id=who.organisation_id, view_id=view_id, who=who.person)


@router.patch("/{view_id}", responses=describes(404, 409))
def change_view(context: Context, who: Viewer, view_id: RowId, body: ViewChange) -> SavedView:
    """Give a view of one's own another name, filter or sharing. What is left out stays."""
    return saved_views.change(
        context.database, organisation_id=who.organisation_id, view_id=view_id, wanted=body, who=who.person
    )


@router.delete("/{view_id}", responses=describes(404, 409))
def delete_view(context: Context, who: Viewer, view_id: RowId) -> SavedView:
    """Delete a view of one's own; an owner deletes any that is shared. The answer is what was deleted."""
    return saved_views.delete(
        context.database,
        organisation_id=who.organisation_id,
        view_id=view_id,
        who=who.person,
        any_shared=who.role.includes(Role.OWNER),
    )
