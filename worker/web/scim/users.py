"""`/scim/v2/Users` (RFC 7644 §3): which attributes of a learner can be read and changed."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Annotated, Any, cast

from fastapi import APIRouter, Header, Request, Response
from scim2_models import Meta, NotFoundException, ResponseParameters, SearchRequest
from scim2_server.conditions import Conditions, EntityTags
from scim2_server.storage import SearchPage
from sqlalchemy import true

from worker.errors import InvalidInputError
from worker.ids import parse_id
from worker.ledger.scim_users import ScimUser
from worker.people import scim_users
from worker.people.scim_users import UserAttributes
from worker.web.auth import Caller, Scim
from worker.web.context import Context, Services
from worker.web.scim import filtering
from worker.web.scim.answers import Body, answer, base_of, described
from worker.web.scim.errors import MEDIA_TYPE, PREFIX
from worker.web.scim.reading import SCHEMA
from worker.web.scim.service import SERVICE, USERS, User

router = APIRouter(prefix=f"{PREFIX}/Users", tags=["SCIM 2.0"])
root = APIRouter(prefix=PREFIX, tags=["SCIM 2.0"])

Tags = Annotated[str | None, Header(max_length=1000)]
_MESSAGE = "urn:ietf:params:scim:api:messages:2.0"
_USER = {"schemas": [SCHEMA], "userName": "anna@example.org", "externalId": "4711"}
_PATCH = {"schemas": [f"{_MESSAGE}:PatchOp"], "Operations": [{"op": "replace", "value": {"active": False}}]}
_SEARCH = {"schemas": [f"{_MESSAGE}:SearchRequest"], "filter": 'userName eq "anna@example.org"'}
_SELECTED = ("attributes", "excludedAttributes")


@router.get("", **described(200, 400, query=("filter", "startIndex", "count", *_SELECTED)))
def list_users(context: Context, who: Scim, request: Request) -> Response:
    """Users by a filter over userName, externalId, id, displayName and active, by id."""
    return _search(context, who, request, SERVICE.read_search_query([USERS], request.query_params)[0])


@root.post("/.search", operation_id="search_all", **described(200, 400, example=_SEARCH))
@router.post("/.search", **described(200, 400, example=_SEARCH))
def search_users(context: Context, who: Scim, request: Request, body: Body) -> Response:
    """The same with the question in the body (RFC 7644 §3.4.3)."""
    return _search(context, who, request, SERVICE.read_search_body([USERS], body, MEDIA_TYPE)[0])


@router.post("", **described(201, 409, example=_USER))
def create_user(context: Context, who: Scim, request: Request, body: Body) -> Response:
    """Create a learner, or revive a deleted one: that is a reactivation."""
    given = cast(User, SERVICE.read_creation(USERS, body, MEDIA_TYPE))
    name = given.user_name or ""
    wanted = _written(given, UserAttributes(name, external_id=name[:255], display_name=None, active=True))
    user = scim_users.create(context.database, organisation_id=who.organisation_id, actor=who.actor, wanted=wanted)
    return answer(SERVICE.creation_response(base_of(request), _resource(user)))


@router.get("/{user_id}", **described(200, 304, 400, 404, query=_SELECTED))
def show_user(context: Context, who: Scim, request: Request, user_id: str, if_none_match: Tags = None) -> Response:
    """One user, active or not."""
    user = scim_users.show(context.database, who.organisation_id, _number(user_id))
    selected = SERVICE.read_response_parameters(USERS, request.query_params)
    conditions = Conditions(if_none_match=if_none_match)
    return answer(SERVICE.query_response(base_of(request), _resource(user), selected, conditions))


@router.put("/{user_id}", **described(200, 404, 409, 412, example=_USER))
def replace_user(
    context: Context, who: Scim, request: Request, user_id: str, body: Body, if_match: Tags = None
) -> Response:
    """Replace a user; without `active` that stays. True to false is a deactivation."""
    given = cast(User, SERVICE.read_replacement(USERS, body, MEDIA_TYPE))
    return _change(context, who, request, user_id, if_match, lambda before: _written(given, before))


@router.patch("/{user_id}", **described(200, 404, 409, 412, example=_PATCH))
def patch_user(
    context: Context, who: Scim, request: Request, user_id: str, body: Body, if_match: Tags = None
) -> Response:
    """Change a user, all operations or none. `active` true to false is a deactivation."""
    operations = SERVICE.read_patch(USERS, body, MEDIA_TYPE)

    def patch(before: UserAttributes) -> UserAttributes:
        user = User(**asdict(before))
        operations.patch(user, SERVICE.provider.policy)
        return _written(user, before)

    return _change(context, who, request, user_id, if_match, patch)


@router.delete("/{user_id}", **described(204, 404, 412))
def delete_user(context: Context, who: Scim, user_id: str, if_match: Tags = None) -> Response:
    """A deactivation; the user is absent from now on, the learner's row stays."""
    scim_users.delete(
        context.database,
        organisation_id=who.organisation_id,
        actor=who.actor,
        learner_id=_number(user_id),
        is_expected=_is_expected(if_match),
    )
    return answer(SERVICE.deletion_response())


def _search(context: Services, who: Caller, request: Request, wanted: SearchRequest[Any]) -> Response:
    condition = filtering.Conditions().visit(wanted.filter.ast) if wanted.filter else true()
    offset, limit = wanted.start_index_0 or 0, wanted.count or 0
    total, found = scim_users.search(context.database, who.organisation_id, condition, offset=offset, limit=limit)
    page = SearchPage(total, [_resource(user) for user in found])
    return answer(SERVICE.search_response(base_of(request), [USERS], page, wanted))


def _change(
    context: Services,
    who: Caller,
    request: Request,
    user_id: str,
    if_match: str | None,
    wanted: Callable[[UserAttributes], UserAttributes],
) -> Response:
    user = scim_users.change(
        context.database,
        organisation_id=who.organisation_id,
        actor=who.actor,
        learner_id=_number(user_id),
        wanted=wanted,
        is_expected=_is_expected(if_match),
    )
    return answer(SERVICE.replacement_response(base_of(request), _resource(user), ResponseParameters()))


def _written(given: User, before: UserAttributes) -> UserAttributes:
    """The attributes after a write; what cannot be absent stays when it is not given."""
    return UserAttributes(
        user_name=given.user_name or before.user_name,
        external_id=given.external_id or before.external_id,
        display_name=given.display_name,
        active=before.active if given.active is None else given.active,
    )


def _resource(user: ScimUser) -> User:
    meta = Meta(
        resource_type="User",
        created=user.created_at,
        last_modified=user.changed_at,
        version=scim_users.version(user),
    )
    return User(id=str(user.id), meta=meta, **asdict(scim_users.attributes(user)))


def _number(user_id: str) -> int:
    try:
        return parse_id(user_id, "id")
    except InvalidInputError:
        raise NotFoundException(detail="this organisation has no such user") from None


def _is_expected(if_match: str | None) -> Callable[[str], bool]:
    tags = EntityTags.parse(if_match)
    return lambda version: tags is None or tags.matches(version)
