"""Discovery (RFC 7644 §4): what the service is and can do. Role: scim, as everywhere under `/scim/v2`."""

from fastapi import APIRouter, Request, Response

from worker.web.auth import Scim
from worker.web.scim.answers import ScimRoute, answer, base_of, described, library
from worker.web.scim.errors import PREFIX

router = APIRouter(prefix=PREFIX, tags=["SCIM 2.0"], route_class=ScimRoute)


@router.get("/ServiceProviderConfig", **described(200))
def service_provider_config(request: Request, _: Scim) -> Response:
    """What the service can do."""
    return answer(library().service_provider_config(f"{base_of(request)}/ServiceProviderConfig", {}))


@router.get("/ResourceTypes", **described(200))
def resource_types(request: Request, _: Scim) -> Response:
    """Which resources there are: users."""
    return answer(library().resource_types(f"{base_of(request)}/ResourceTypes", request.query_params))


@router.get("/ResourceTypes/{name}", **described(200, 404))
def resource_type(request: Request, _: Scim, name: str) -> Response:
    """One resource type."""
    return answer(library().resource_type(f"{base_of(request)}/ResourceTypes/{name}", name, {}))


@router.get("/Schemas", **described(200))
def schemas(request: Request, _: Scim) -> Response:
    """Which attributes of a user are stored."""
    return answer(library().schemas(f"{base_of(request)}/Schemas", request.query_params))


@router.get("/Schemas/{name}", **described(200, 404))
def schema(request: Request, _: Scim, name: str) -> Response:
    """One schema."""
    return answer(library().schema(f"{base_of(request)}/Schemas/{name}", name, {}))
