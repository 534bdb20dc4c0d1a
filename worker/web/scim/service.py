"""SCIM's one resource, what the service says about itself, and the library's steps where we read more strictly.

`ScimService` (scim2-server) reads requests and writes responses; it stores nothing.
"""

from typing import Annotated, Any

from pydantic import ValidationError
from scim2_models import (
    URN,
    CaseExact,
    Context,
    InvalidFilterException,
    InvalidSyntaxException,
    Mutability,
    Required,
    Resource,
    ResourceType,
    ScimPolicy,
    ScimProvider,
    SearchRequest,
    ServiceProviderConfig,
    Uniqueness,
)
from scim2_server.service import ModelT, ScimService, scim_exception_of

from worker.web import body as json_body
from worker.web.scim import reading
from worker.web.scim.errors import USER

LONGEST_FILTER = 2000
"""Characters."""
_SEARCHED = {"filter", "startindex", "count", "attributes", "excludedattributes"}


class User(Resource[Any]):
    """A learner, as SCIM shows it."""

    __schema__ = URN(USER)

    external_id: Annotated[str | None, Mutability.immutable, CaseExact.true] = None
    """The person's id in the HR system; cannot be changed."""
    user_name: Annotated[str | None, Uniqueness.server, Required.true] = None
    """The learner's address; unique in the organisation, in any case."""
    display_name: str | None = None
    """The learner's name."""
    active: bool | None = None
    """False withdraws every active enrolment of the learner in this organisation."""


class UserService(ScimService):
    """Reads bodies and searches more strictly than the library does."""

    def read_body(self, model: type[ModelT], body: bytes, content_type: str | None, scim_ctx: Context) -> ModelT:
        """The validated body of a POST, PUT or PATCH.

        Raises:
            SCIMException: the body is not a JSON object, or an attribute is missing or wrong.
        """
        payload = reading.attributes(self.decode_body(body, content_type))
        try:
            with self.provider:
                return model.model_validate(payload, scim_ctx=scim_ctx)
        except ValidationError as error:
            raise scim_exception_of(error) from None

    def decode_body(self, body: bytes, content_type: str | None) -> dict[str, Any]:
        """The JSON object of a body.

        Raises:
            InvalidSyntaxException: the body is something else.
        """
        try:
            payload = json_body.parse(body)
        except json_body.NotJsonError:
            raise InvalidSyntaxException(detail="the body is not JSON") from None
        if not isinstance(payload, dict):
            raise InvalidSyntaxException(detail="the body is not an object")
        return payload

    def read_search(self, resource_types: list[ResourceType], payload: Any) -> tuple[SearchRequest[Any], Any]:
        """A validated search; an order and a cursor are ignored, as they are not supported.

        Raises:
            SCIMException: a parameter is wrong.
        """
        payload = {name: value for name, value in reading.attributes(payload).items() if name in _SEARCHED}
        if len(str(payload.get("filter"))) > LONGEST_FILTER:
            raise InvalidFilterException(detail=f"a filter may have {LONGEST_FILTER} characters")
        with self.provider:
            return super().read_search(resource_types, payload)


# Entra ID sends many attributes that are not stored here. RFC 7644 §3.3 lets a service ignore them.
SERVICE = UserService(
    ScimProvider(
        models=[User],
        policy=ScimPolicy(unknown=ScimPolicy.Unknown.ignore),
        config=ServiceProviderConfig.model_validate(
            {
                "patch": {"supported": True},
                "bulk": {"supported": False, "maxOperations": 0, "maxPayloadSize": 0},
                "filter": {"supported": True, "maxResults": 1000},
                "changePassword": {"supported": False},
                "sort": {"supported": False},
                "etag": {"supported": True},
                "pagination": {"cursor": False, "index": True, "defaultPageSize": 100, "maxPageSize": 1000},
                "authenticationSchemes": [
                    {
                        "type": "oauthbearertoken",
                        "name": "Bearer token",
                        "description": "A token of role `scim`, made with `withdrawals tokens create`.",
                        "primary": True,
                    }
                ],
            }
        ),
    )
)
USERS = SERVICE.get_resource_type("User")
