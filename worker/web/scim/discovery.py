"""Discovery (RFC 7644 §4): what the service is, without a token's role being asked for more than `scim`."""

from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from scim2_models import (
    AnyResource,
    ForbiddenException,
    ListResponse,
    NotFoundException,
    Resource,
    ResourceType,
    Schema,
)
from scim2_models import Context as ScimContext

from worker.web.auth import Scim
from worker.web.scim import resources
from worker.web.scim.documents import base_of, described
from worker.web.scim.errors import MEDIA_TYPE, PREFIX

router = APIRouter(prefix=PREFIX, tags=["SCIM 2.0"])


@router.get("/ServiceProviderConfig", **described(200))
def service_provider_config(request: Request, _: Scim) -> JSONResponse:
    """What the service can do. Role: scim."""
    return _one(resources.config(base_of(request)))


@router.get("/ResourceTypes", **described(200))
def resource_types(request: Request, _: Scim) -> JSONResponse:
    """There are users. Role: scim."""
    return _list(request, ResourceType, resources.resource_types(base_of(request)))


@router.get("/ResourceTypes/{name}", **described(200, 404))
def resource_type(request: Request, _: Scim, name: str) -> JSONResponse:
    """One resource type. Role: scim."""
    return _named(resources.resource_types(base_of(request)), name)


@router.get("/Schemas", **described(200))
def schemas(request: Request, _: Scim) -> JSONResponse:
    """What is kept of a user. Role: scim."""
    return _list(request, Schema, resources.schemas(base_of(request)))


@router.get("/Schemas/{name}", **described(200, 404))
def schema(request: Request, _: Scim, name: str) -> JSONResponse:
    """One schema. Role: scim."""
    return _named(resources.schemas(base_of(request)), name)


def _one(resource: Resource[Any]) -> JSONResponse:
    return JSONResponse(resource.model_dump(scim_ctx=ScimContext.RESOURCE_QUERY_RESPONSE), media_type=MEDIA_TYPE)


def _list(request: Request, kind: type[AnyResource], found: list[AnyResource]) -> JSONResponse:
    if "filter" in request.query_params:  # RFC 7644 §4: such a request SHALL be refused
        raise ForbiddenException(detail="what describes the service is not filtered")
    listed = ListResponse[kind](  # type: ignore[valid-type]
        total_results=len(found), items_per_page=len(found), start_index=1, resources=found
    )
    return JSONResponse(listed.model_dump(scim_ctx=ScimContext.RESOURCE_QUERY_RESPONSE), media_type=MEDIA_TYPE)


def _named(found: Sequence[Resource[Any]], name: str) -> JSONResponse:
    for resource in found:
        if resource.id == name:
            return _one(resource)
    raise NotFoundException(detail="there is no such resource")
