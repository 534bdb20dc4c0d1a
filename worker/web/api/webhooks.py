"""Outgoing webhooks over HTTP: endpoints, the events that they want, and their deliveries."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Response

from schemas import answers
from schemas.webhooks import Delivery, Endpoint, EndpointRequest, NewEndpoint, ResumeRequest, WebhookRotation
from worker.ids import next_cursor, parse_cursor
from worker.ledger import webhook_deliveries, webhook_endpoints
from worker.web.auth import Operator, Owner, Viewer
from worker.web.context import Context, Cursor, Limit, RowId
from worker.web.problems import describes
from worker.webhooks import batches, deliveries, endpoints

router = APIRouter(prefix="/v1/webhooks", tags=["outgoing webhooks"], responses=describes())


@router.get("")
def list_webhooks(context: Context, who: Viewer) -> answers.Page[Endpoint]:
    """Every endpoint, disabled ones included, newest first."""
    with context.database.begin() as connection:
        found = webhook_endpoints.list_endpoints(connection, who.organisation_id)
    return answers.Page(items=[Endpoint.model_validate(item) for item in found], next_cursor=None)


@router.post("", status_code=201)
def create_webhook(context: Context, who: Owner, request: EndpointRequest, response: Response) -> NewEndpoint:
    """Send events to an address from now on. The secret is shown only once."""
    created = endpoints.create(
        context.database,
        context.settings,
        organisation_id=who.organisation_id,
        url=request.url,
        events=request.events,
        actor=who.actor,
    )
    return _with_secret(created, response)


@router.post("/{webhook_id}/rotate", responses=describes(404))
def rotate_webhook(
    context: Context, who: Owner, webhook_id: RowId, request: WebhookRotation, response: Response
) -> NewEndpoint:
    """Give an endpoint a new secret. For some hours events bear both signatures, so that the receiver refuses none."""
    rotated = endpoints.rotate(
        context.database,
        context.settings,
        organisation_id=who.organisation_id,
        endpoint_id=webhook_id,
        actor=who.actor,
        keep_hours=request.keep_hours,
    )
    return _with_secret(rotated, response)


@router.post("/{webhook_id}/pause", responses=describes(404))
def pause_webhook(context: Context, who: Operator, webhook_id: RowId) -> Endpoint:
    """Send an endpoint nothing until somebody resumes it. What happens meanwhile waits."""
    found = endpoints.pause(
        context.database, organisation_id=who.organisation_id, endpoint_id=webhook_id, actor=who.actor
    )
    return Endpoint.model_validate(found)


@router.post("/{webhook_id}/disable", responses=describes(404))
def disable_webhook(context: Context, who: Owner, webhook_id: RowId) -> Endpoint:
    """Send an endpoint nothing more."""
    found = endpoints.disable(
        context.database, organisation_id=who.organisation_id, endpoint_id=webhook_id, actor=who.actor
    )
    return Endpoint.model_validate(found)


@router.post("/{webhook_id}/resume", responses=describes(404, 409, "cursor_gone"))
def resume_webhook(context: Context, who: Operator, webhook_id: RowId, request: ResumeRequest) -> Endpoint:
    """Go on with an endpoint that was paused. With `after`, batches of the feed from that place: also a replay."""
    found = batches.resume(
        context.database,
        organisation_id=who.organisation_id,
        endpoint_id=webhook_id,
        after=request.after,
        actor=who.actor,
    )
    return Endpoint.model_validate(found)


@router.post("/{webhook_id}/test", responses=describes(404))
def test_webhook(context: Context, who: Operator, webhook_id: RowId) -> Delivery:
    """Send a `test` event now. The response says what came back."""
    sent = deliveries.send_test(
        context.database, context.settings, organisation_id=who.organisation_id, endpoint_id=webhook_id
    )
    return Delivery.model_validate(sent)


@router.get("/{webhook_id}/deliveries")
def list_deliveries(
    context: Context,
    who: Viewer,
    webhook_id: RowId,
    state: Annotated[
        Literal["due", "sending", "delivered", "failed"] | None, Query(description="Only deliveries in this state.")
    ] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> answers.Page[Delivery]:
    """Deliveries to an endpoint, newest first."""
    with context.database.begin() as connection:
        found = webhook_deliveries.list_deliveries(
            connection, who.organisation_id, webhook_id, state=state, before=parse_cursor(cursor), limit=limit
        )
    return answers.Page(items=[Delivery.model_validate(item) for item in found], next_cursor=next_cursor(found, limit))


@router.post("/deliveries/{delivery_id}/replay", responses=describes(404, 409))
def replay_delivery(context: Context, who: Operator, delivery_id: RowId) -> Delivery:
    """Send a delivery again that failed or arrived, with the same `webhook-id`."""
    found = deliveries.replay(
        context.database, organisation_id=who.organisation_id, delivery_id=delivery_id, actor=who.actor
    )
    return Delivery.model_validate(found)


def _with_secret(made: endpoints.CreatedEndpoint, response: Response) -> NewEndpoint:
    response.headers["Cache-Control"] = "no-store"
    return NewEndpoint(**Endpoint.model_validate(made.endpoint).model_dump(), secret=made.secret)
