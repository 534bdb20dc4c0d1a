"""`/scim/v2/Users` (RFC 7644 §3): what of a learner may be seen and changed."""

import re
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import ValidationError
from scim2_models import Context as ScimContext
from scim2_models import InvalidValueException, ListResponse, NotFoundException, ResponseParameters

from worker.ledger import scim_users as ledger
from worker.ledger.scim_users import Learner
from worker.people import scim_users
from worker.web.auth import Caller, Scim
from worker.web.context import Context, Services
from worker.web.scim import changes, filtering
from worker.web.scim.documents import Body, base_of, described
from worker.web.scim.errors import MEDIA_TYPE, PREFIX
from worker.web.scim.resources import MOST, User, shown, user

router = APIRouter(prefix=f"{PREFIX}/Users", tags=["SCIM 2.0"])
root = APIRouter(prefix=PREFIX, tags=["SCIM 2.0"])

IfMatch = Annotated[str | None, Header(max_length=1000)]
_USER = {
    "schemas": ["urn:ietf:params:scim:schemas:core:2.0:User"],
    "userName": "anna@example.org",
    "externalId": "4711",
}
_PATCH = {
    "schemas": ["urn:ietf:params:scim:api:messages:2.0:PatchOp"],
    "Operations": [{"op": "replace", "value": {"active": False}}],
}
_SEARCH = {
    "schemas": ["urn:ietf:params:scim:api:messages:2.0:SearchRequest"],
    "filter": 'userName eq "anna@example.org"',
}


@router.get("", **described(200, 400))
def list_users(
    context: Context,
    who: Scim,
    request: Request,
    filter: Annotated[str | None, Query()] = None,  # noqa: A002 - RFC 7644 §3.4.2.2
    start_index: Annotated[str | None, Query(alias="startIndex")] = None,
    count: Annotated[str | None, Query()] = None,
    attributes: Annotated[str | None, Query()] = None,
    excluded: Annotated[str | None, Query(alias="excludedAttributes")] = None,
) -> JSONResponse:
    """Users by a filter over userName, externalId, id, displayName and active, by id. Role: scim."""
    chosen = _chosen(_split(attributes), _split(excluded))
    return _found(context, who.organisation_id, request, filter, start_index, count, chosen)


@root.post("/.search", operation_id="search_all", **described(200, 400, example=_SEARCH))
@router.post("/.search", **described(200, 400, example=_SEARCH))
def search_users(context: Context, who: Scim, request: Request, body: Body) -> JSONResponse:
    """The same with the question in the body (RFC 7644 §3.4.3). Role: scim."""
    given = {name.lower(): value for name, value in body.items()}
    wanted = given.get("filter")
    if wanted is not None and not isinstance(wanted, str):
        raise InvalidValueException(detail="filter: is text")
    chosen = _chosen(given.get("attributes"), given.get("excludedattributes"))
    start, count = given.get("startindex"), given.get("count")
    return _found(context, who.organisation_id, request, wanted, start, count, chosen)


@router.post("", **described(201, 409, example=_USER))
def create_user(context: Context, who: Scim, request: Request, body: Body) -> JSONResponse:
    """Make a learner, or revive a deleted one: that is a reactivation. Role: scim."""
    learner = scim_users.create(
        context.database, organisation_id=who.organisation_id, actor=who.actor, wanted=changes.created(body)
    )
    answer = _answer(learner, request, status=201)
    answer.headers["Location"] = f"{base_of(request)}/Users/{learner.id}"
    return answer


@router.get("/{user_id}", **described(200, 304, 400, 404))
def show_user(
    context: Context,
    who: Scim,
    request: Request,
    user_id: str,
    attributes: Annotated[str | None, Query()] = None,
    excluded: Annotated[str | None, Query(alias="excludedAttributes")] = None,
    if_none_match: IfMatch = None,
) -> Response:
    """One user, active or not. Role: scim."""
    learner = scim_users.show(context.database, who.organisation_id, _number(user_id))
    if if_none_match is not None and _matches(if_none_match)(scim_users.version(learner)):
        return Response(status_code=304, headers={"ETag": scim_users.version(learner)})
    return _answer(learner, request, _chosen(_split(attributes), _split(excluded)))


@router.put("/{user_id}", **described(200, 404, 409, 412, example=_USER))
def replace_user(
    context: Context, who: Scim, request: Request, user_id: str, body: Body, if_match: IfMatch = None
) -> JSONResponse:
    """Replace a user; without `active` that stays. True to false is a deactivation. Role: scim."""
    return _changed(context, who, request, user_id, changes.replaced(body), if_match)


@router.patch("/{user_id}", **described(200, 404, 409, 412, example=_PATCH))
def patch_user(
    context: Context, who: Scim, request: Request, user_id: str, body: Body, if_match: IfMatch = None
) -> JSONResponse:
    """Change a user, all operations or none. `active` true to false is a deactivation. Role: scim."""
    return _changed(context, who, request, user_id, changes.patched(body), if_match)


@router.delete("/{user_id}", **described(204, 404, 412))
def delete_user(context: Context, who: Scim, user_id: str, if_match: IfMatch = None) -> Response:
    """A deactivation; the user is absent from now on, the learner's row stays. Role: scim."""
    scim_users.delete(
        context.database,
        organisation_id=who.organisation_id,
        actor=who.actor,
        learner_id=_number(user_id),
        unless=_matches(if_match),
    )
    return Response(status_code=204)


def _changed(
    context: Services, who: Caller, request: Request, user_id: str, wanted: changes.Change, if_match: str | None
) -> JSONResponse:
    learner = scim_users.change(
        context.database,
        organisation_id=who.organisation_id,
        actor=who.actor,
        learner_id=_number(user_id),
        wanted=wanted,
        unless=_matches(if_match),
    )
    return _answer(learner, request)


def _found(
    context: Services,
    organisation_id: int,
    request: Request,
    expression: str | None,
    start_index: Any,
    count: Any,
    chosen: ResponseParameters[Any] | None,
) -> JSONResponse:
    condition, values = filtering.compiled(expression)
    start = max(_whole("startIndex", start_index, 1), 1)
    limit = min(max(_whole("count", count, 100), 0), MOST)
    with context.database.begin() as connection:
        total, found = ledger.find(connection, organisation_id, condition, values, offset=start - 1, limit=limit)
    base = base_of(request)
    listed = ListResponse[User](
        total_results=total,
        start_index=start,
        items_per_page=len(found),
        resources=[user(learner, base) for learner in found],
    )
    body = listed.model_dump(scim_ctx=ScimContext.RESOURCE_QUERY_RESPONSE, response_parameters=chosen)
    return JSONResponse(body, media_type=MEDIA_TYPE)


def _answer(
    learner: Learner, request: Request, chosen: ResponseParameters[Any] | None = None, *, status: int = 200
) -> JSONResponse:
    body = shown(user(learner, base_of(request)), chosen)
    return JSONResponse(body, status, headers={"ETag": scim_users.version(learner)}, media_type=MEDIA_TYPE)


def _number(user_id: str) -> int:
    if not re.fullmatch(r"[1-9][0-9]{0,18}", user_id) or int(user_id) >= 2**63:
        raise NotFoundException(detail="there is no such user in this organisation")
    return int(user_id)


def _whole(name: str, value: Any, default: int) -> int:
    if value is None:
        return default
    if isinstance(value, bool) or not re.fullmatch(r"-?[0-9]{1,15}", str(value)):
        raise InvalidValueException(detail=f"{name}: is a whole number")
    return int(value)


def _matches(header: str | None) -> Callable[[str], bool]:
    """Whether a version is among those of an If-Match or If-None-Match header (RFC 9110 §13.1), compared weakly."""
    if header is None:
        return lambda _: True
    tags = {tag.strip().removeprefix("W/") for tag in header.split(",")}
    return lambda version: "*" in tags or version.removeprefix("W/") in tags


def _split(names: str | None) -> list[str] | None:
    return None if names is None else [name.strip() for name in names.split(",") if name.strip()]


def _chosen(attributes: Any, excluded: Any) -> ResponseParameters[Any] | None:
    if attributes is None and excluded is None:
        return None
    try:
        return ResponseParameters[Any].model_validate({"attributes": attributes, "excludedAttributes": excluded})
    except ValidationError:
        raise InvalidValueException(
            detail="attributes, excludedAttributes: names of attributes, of one of the two"
        ) from None
