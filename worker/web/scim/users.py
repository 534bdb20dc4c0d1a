"""`/scim/v2/Users` (RFC 7644 §3): which attributes of a learner can be read and changed."""

from typing import Annotated

from fastapi import APIRouter, Header, Request, Response

from worker.web.auth import Scim
from worker.web.context import Context
from worker.web.scim.answers import Body, ScimRoute, described
from worker.web.scim.errors import MESSAGE, PREFIX, USER

router = APIRouter(prefix=f"{PREFIX}/Users", tags=["SCIM 2.0"], route_class=ScimRoute)
root = APIRouter(prefix=PREFIX, tags=["SCIM 2.0"], route_class=ScimRoute)

Tags = Annotated[str | None, Header(max_length=1000)]
_USER = {"schemas": [USER], "userName": "anna@example.org", "externalId": "4711"}
_PATCH = {"schemas": [f"{MESSAGE}:PatchOp"], "Operations": [{"op": "replace", "value": {"active": False}}]}
_SEARCH = {"schemas": [f"{MESSAGE}:SearchRequest"], "filter": 'userName eq "anna@example.org"'}
_SELECTED = ("attributes", "excludedAttributes")


@router.get("", **described(200, 400, query=("filter", "startIndex", "count", *_SELECTED)))
def list_users(context: Context, who: Scim, request: Request) -> Response:
    """Users by a filter over userName, externalId, id, displayName and active, by id."""
    from worker.web.scim import acts

    return acts.list_all(context, who, request)


@root.post("/.search", operation_id="search_all", **described(200, 400, example=_SEARCH))
@router.post("/.search", **described(200, 400, example=_SEARCH))
def search_users(context: Context, who: Scim, request: Request, body: Body) -> Response:
    """The same with the question in the body (RFC 7644 §3.4.3)."""
    from worker.web.scim import acts

    return acts.search(context, who, request, body)


@router.post("", **described(201, 409, example=_USER))
def create_user(context: Context, who: Scim, request: Request, body: Body) -> Response:
    """Create a learner, or revive a deleted one: that is a reactivation."""
    from worker.web.scim import acts

    return acts.create(context, who, request, body)


@router.get("/{user_id}", **described(200, 304, 400, 404, query=_SELECTED))
def show_user(context: Context, who: Scim, request: Request, user_id: str, if_none_match: Tags = None) -> Response:
    """One user, active or not."""
    from worker.web.scim import acts

    return acts.show(context, who, request, user_id, if_none_match)


@router.put("/{user_id}", **described(200, 404, 409, 412, example=_USER))
def replace_user(
    context: Context, who: Scim, request: Request, user_id: str, body: Body, if_match: Tags = None
) -> Response:
    """Replace a user; without `active` that stays. True to false is a deactivation."""
    from worker.web.scim import acts

    return acts.replace(context, who, request, user_id, body, if_match)


@router.patch("/{user_id}", **described(200, 404, 409, 412, example=_PATCH))
def patch_user(
    context: Context, who: Scim, request: Request, user_id: str, body: Body, if_match: Tags = None
) -> Response:
    """Change a user, all operations or none. `active` true to false is a deactivation."""
    from worker.web.scim import acts

    return acts.patch(context, who, request, user_id, body, if_match)


@router.delete("/{user_id}", **described(204, 404, 412))
def delete_user(context: Context, who: Scim, user_id: str, if_match: Tags = None) -> Response:
    """A deactivation; the user is absent from now on, the learner's row stays."""
    from worker.web.scim import acts

    return acts.delete(context, who, user_id, if_match)
