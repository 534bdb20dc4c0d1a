"""Webhooks that go out, over HTTP: who is told, of what, and whether it arrived."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Response

from schemas import answers, webhooks
from worker.ids import next_cursor, parse_cursor
from worker.ledger import webhooks as ledger
from worker.web.auth import Approver, Operator, Viewer
from worker.web.context import Context, Cursor, Limit, RowId
from worker.web.problems import describes
from worker.webhooks import deliveries

router = APIRouter(prefix="/v1/webhooks", tags=["webhooks that go out"], responses=describes())


@router.get("")
def list_webhooks(context: Context, who: Viewer) -> answers.Page[webhooks.Endpoint]:
    """Every endpoint, disabled ones included, newest first. Role: viewer."""
    with context.database.begin() as connection:
        found = ledger.endpoints(connection, who.organisation_id)
    return answers.Page(items=[webhooks.Endpoint.model_validate(item) for item in found], next_cursor=None)


@router.post("", status_code=201)
def create_webhook(
    context: Context, who: Approver, request: webhooks.EndpointRequest, response: Response
) -> webhooks.NewEndpoint:
    """Let an address be told from now on; the secret is shown once. Role: approver."""
    made = deliveries.create(
        context.database,
        context.settings,
        organisation_id=who.organisation_id,
        url=request.url,
        events=request.events,
        actor=who.actor,
    )
    response.headers["Cache-Control"] = "no-store"
    shown = webhooks.Endpoint.model_validate(made.endpoint)
    return webhooks.NewEndpoint(**shown.model_dump(), secret=made.secret)


@router.post("/{webhook_id}/disable", responses=describes(404))
def disable_webhook(context: Context, who: Approver, webhook_id: RowId) -> webhooks.Endpoint:
    """Send an endpoint nothing any more. Role: approver."""
    found = deliveries.disable(
        context.database, organisation_id=who.organisation_id, endpoint_id=webhook_id, actor=who.actor
    )
    return webhooks.Endpoint.model_validate(found)


@router.post("/{webhook_id}/test", responses=describes(404))
def test_webhook(context: Context, who: Operator, webhook_id: RowId) -> webhooks.Delivery:
    """Send a `test` event now; the answer says what came back. Role: operator."""
    sent = deliveries.send_test(
        context.database, context.settings, organisation_id=who.organisation_id, endpoint_id=webhook_id
    )
    return webhooks.Delivery.model_validate(sent)


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
) -> answers.Page[webhooks.Delivery]:
    """What an endpoint was and will be told, newest first. Role: viewer."""
    with context.database.begin() as connection:
        found = ledger.deliveries(
            connection, who.organisation_id, webhook_id, state=state, before=parse_cursor(cursor), limit=limit
        )
    return answers.Page(
        items=[webhooks.Delivery.model_validate(item) for item in found], next_cursor=next_cursor(found, limit)
    )


@router.post("/deliveries/{delivery_id}/replay", responses=describes(404, 409))
def replay_delivery(context: Context, who: Operator, delivery_id: RowId) -> webhooks.Delivery:
    """Send a delivery again that failed or arrived, under the same `webhook-id`. Role: operator."""
    found = deliveries.replay(
        context.database, organisation_id=who.organisation_id, delivery_id=delivery_id, actor=who.actor
    )
    return webhooks.Delivery.model_validate(found)
