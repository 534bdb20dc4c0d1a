"""What the endpoints of `/scim/v2/Users` do, with the library."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any, cast

from fastapi import Request, Response
from scim2_models import Meta, NotFoundException, ResponseParameters, SearchRequest
from scim2_server.conditions import Conditions, EntityTags
from scim2_server.storage import SearchPage
from sqlalchemy import true

from worker.errors import InvalidInputError
from worker.ids import parse_id
from worker.ledger.scim_users import ScimUser
from worker.people import scim_users
from worker.people.scim_users import UserAttributes
from worker.web.auth import Caller
from worker.web.context import Services
from worker.web.scim import filtering
from worker.web.scim.answers import answer, base_of
from worker.web.scim.errors import MEDIA_TYPE
from worker.web.scim.service import SERVICE, USERS, User


def list_all(context: Services, who: Caller, request: Request) -> Response:
    """Users by a filter over userName, externalId, id, displayName and active, by id."""
    return _search(context, who, request, SERVICE.read_search_query([USERS], request.query_params)[0])


def search(context: Services, who: Caller, request: Request, body: bytes) -> Response:
    """The same with the question in the body (RFC 7644 §3.4.3)."""
    return _search(context, who, request, SERVICE.read_search_body([USERS], body, MEDIA_TYPE)[0])


def create(context: Services, who: Caller, request: Request, body: bytes) -> Response:
    """Create a learner, or revive a deleted one: that is a reactivation."""
    given = cast(User, SERVICE.read_creation(USERS, body, MEDIA_TYPE))
    name = given.user_name or ""
    wanted = _written(given, UserAttributes(name, external_id=name[:255], display_name=None, active=True))
    user = scim_users.create(context.database, organisation_id=who.organisation_id, actor=who.actor, wanted=wanted)
    return answer(SERVICE.creation_response(base_of(request), _resource(user)))


def show(context: Services, who: Caller, request: Request, user_id: str, if_none_match: str | None) -> Response:
    """One user, active or not."""
    user = scim_users.show(context.database, who.organisation_id, _number(user_id))
    selected = SERVICE.read_response_parameters(USERS, request.query_params)
    conditions = Conditions(if_none_match=if_none_match)
    return answer(SERVICE.query_response(base_of(request), _resource(user), selected, conditions))


def replace(
    context: Services, who: Caller, request: Request, user_id: str, body: bytes, if_match: str | None
) -> Response:
    """Replace a user; without `active` that stays. True to false is a deactivation."""
    given = cast(User, SERVICE.read_replacement(USERS, body, MEDIA_TYPE))
    return _change(context, who, request, user_id, if_match, lambda before: _written(given, before))


def patch(
    context: Services, who: Caller, request: Request, user_id: str, body: bytes, if_match: str | None
) -> Response:
    """Change a user, all operations or none. `active` true to false is a deactivation."""
    operations = SERVICE.read_patch(USERS, body, MEDIA_TYPE)

    def patched(before: UserAttributes) -> UserAttributes:
        user = User(**asdict(before))
        operations.patch(user, SERVICE.provider.policy)
        return _written(user, before)

    return _change(context, who, request, user_id, if_match, patched)


def delete(context: Services, who: Caller, user_id: str, if_match: str | None) -> Response:
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
