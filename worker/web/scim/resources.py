"""The one resource there is, and how the service describes itself (RFC 7643 §5 to §7)."""

from typing import Annotated, Any

from scim2_models import (
    URN,
    AuthenticationScheme,
    Bulk,
    CaseExact,
    ChangePassword,
    Context,
    ETag,
    Filter,
    Meta,
    Mutability,
    Patch,
    Required,
    Resource,
    ResourceType,
    ResponseParameters,
    Schema,
    ServiceProviderConfig,
    Sort,
    Uniqueness,
)

from worker.ledger.scim_users import Learner
from worker.people import scim_users

MOST = 1000
"""Users on a page at the most."""


class User(Resource[Any]):
    """A learner's account."""

    __schema__ = URN("urn:ietf:params:scim:schemas:core:2.0:User")

    external_id: Annotated[str | None, Mutability.immutable, CaseExact.true] = None
    """The person's id in the HR system; cannot be changed."""
    user_name: Annotated[str | None, Uniqueness.server, Required.true] = None
    """The learner's address; unique in the organisation, in any case."""
    display_name: str | None = None
    """The learner's name."""
    active: bool | None = None
    """False withdraws every active enrolment of the learner in this organisation."""


def user(learner: Learner, base: str) -> User:
    """A learner as SCIM shows it; `base` is the address of the service."""
    known = scim_users.account(learner)
    meta = Meta(
        resource_type="User",
        created=learner.created_at,
        last_modified=learner.changed_at,
        location=f"{base}/Users/{learner.id}",
        version=scim_users.version(learner),
    )
    return User(
        id=str(learner.id),
        external_id=known.external_id,
        user_name=known.user_name,
        display_name=known.display_name,
        active=known.active,
        meta=meta,
    )


def shown(resource: User, chosen: ResponseParameters[Any] | None = None) -> dict[str, Any]:
    """A user as JSON, with the attributes that were asked for."""
    return resource.model_dump(scim_ctx=Context.RESOURCE_QUERY_RESPONSE, response_parameters=chosen)


def schemas(base: str) -> list[Schema]:
    """What `/Schemas` lists: of a user just what is kept."""
    found = User.to_schema()
    found.meta = Meta(resource_type="Schema", location=f"{base}/Schemas/{found.id}")
    return [found]


def resource_types(base: str) -> list[ResourceType]:
    """What `/ResourceTypes` lists."""
    found = ResourceType.from_resource(User)
    found.meta = Meta(resource_type="ResourceType", location=f"{base}/ResourceTypes/User")
    return [found]


def config(base: str) -> ServiceProviderConfig:
    """What the service can do."""
    return ServiceProviderConfig(
        patch=Patch(supported=True),
        bulk=Bulk(supported=False, max_operations=0, max_payload_size=0),
        filter=Filter(supported=True, max_results=MOST),
        change_password=ChangePassword(supported=False),
        sort=Sort(supported=False),
        etag=ETag(supported=True),
        authentication_schemes=[
            AuthenticationScheme(
                type=AuthenticationScheme.Type.oauthbearertoken,
                name="Bearer token",
                description="A token of role `scim`, made with `withdrawals tokens create`.",
                primary=True,
            )
        ],
        meta=Meta(
            resource_type="ServiceProviderConfig",
            location=f"{base}/ServiceProviderConfig",
        ),
    )
