"""Outgoing webhooks: where events are sent to, and whether they arrived."""

from typing import Annotated, Any

import typer

from ops.cli import common
from ops.cli.common import As, AsJson, Cursor, Limit, Organisation
from schemas.webhooks import Delivery, Endpoint
from worker.config import settings
from worker.ledger import webhook_deliveries, webhook_endpoints
from worker.ledger.webhook_deliveries import DeliveryRecord
from worker.ledger.webhook_endpoints import EndpointRecord
from worker.webhooks import batches, deliveries, endpoints

group = typer.Typer(
    no_args_is_help=True,
    help="Send events to other systems: create, list, rotate, test, replay, pause, resume, disable.",
)
WebhookId = Annotated[int, typer.Argument(help="The webhook's id.")]


@group.command("create")
def create(
    url: Annotated[str, typer.Option(help="https://…; private addresses need WITHDRAWALS_WEBHOOKS_ALLOW_PRIVATE.")],
    event: Annotated[list[str], typer.Option(help=f"Repeat it for several: {', '.join(endpoints.EVENTS)}.")],
    organisation: Organisation = None,
    acting: As = None,
    json: AsJson = False,
) -> None:
    """Send events to an address from now on. Its secret is shown only now."""
    with common.database() as db:
        created = endpoints.create(
            db,
            settings(),
            organisation_id=common.organisation_id(db, organisation),
            url=url,
            events=event,
            actor=common.actor(acting),
        )
    said = f"Webhook {created.endpoint.id} created."
    common.print_secret(created.secret, _endpoint_document(created.endpoint), json, said=said)


@group.command("list")
def list_webhooks(organisation: Organisation = None, json: AsJson = False) -> None:
    """List webhooks, newest first."""
    with common.in_organisation(organisation) as (db, org), db.begin() as connection:
        found = webhook_endpoints.list_endpoints(connection, org)
    common.print_list(
        found,
        json,
        columns=("webhook", "url", "events", "failures", "rests until", "two secrets until", "paused or disabled"),
        row=lambda e: (
            e.id,
            e.url,
            ", ".join(e.events),
            e.failures or "",
            e.rest_until,
            e.previous_until,
            _why_nothing(e),
        ),
        document=_endpoint_document,
    )


@group.command("rotate")
def rotate(
    webhook_id: WebhookId,
    keep_hours: Annotated[
        int, typer.Option(help="Hours for which events are signed with the secret before, too.")
    ] = 24,
    organisation: Organisation = None,
    acting: As = None,
    json: AsJson = False,
) -> None:
    """Give a webhook a new secret. For some hours events bear both signatures, so that the receiver refuses none."""
    with common.database() as db:
        rotated = endpoints.rotate(
            db,
            settings(),
            organisation_id=common.organisation_id(db, organisation),
            endpoint_id=webhook_id,
            actor=common.actor(acting),
            keep_hours=keep_hours,
        )
    said = f"Webhook {rotated.endpoint.id} has a new secret."
    common.print_secret(rotated.secret, _endpoint_document(rotated.endpoint), json, said=said)


@group.command("disable")
def disable(webhook_id: WebhookId, organisation: Organisation = None, acting: As = None, json: AsJson = False) -> None:
    """Send a webhook nothing more."""
    with common.in_organisation(organisation) as (db, org):
        found = endpoints.disable(db, organisation_id=org, endpoint_id=webhook_id, actor=common.actor(acting))
    common.print_record(_endpoint_document(found), json, said=f"Webhook {found.id} is disabled.")


@group.command("pause")
def pause(webhook_id: WebhookId, organisation: Organisation = None, acting: As = None, json: AsJson = False) -> None:
    """Send a webhook nothing until somebody resumes it. What happens meanwhile waits."""
    with common.in_organisation(organisation) as (db, org):
        found = endpoints.pause(db, organisation_id=org, endpoint_id=webhook_id, actor=common.actor(acting))
    common.print_record(_endpoint_document(found), json, said=f"Webhook {found.id} is paused.")


@group.command("resume")
def resume(
    webhook_id: WebhookId,
    after: Annotated[
        str | None, typer.Option(help="A cursor of the feed, or latest. Default: go on where it was.")
    ] = None,
    organisation: Organisation = None,
    acting: As = None,
    json: AsJson = False,
) -> None:
    """Go on with a webhook that was paused; with --after, batches of the feed from that place, also what arrived."""
    with common.in_organisation(organisation) as (db, org):
        found = batches.resume(db, organisation_id=org, endpoint_id=webhook_id, after=after, actor=common.actor(acting))
    where = "" if found.feed_cursor is None else f" It gets what follows {found.feed_cursor}."
    common.print_record(_endpoint_document(found), json, said=f"Webhook {found.id} goes on.{where}")


@group.command("test")
def test(webhook_id: WebhookId, organisation: Organisation = None, json: AsJson = False) -> None:
    """Send a `test` event now and show what came back. Exit code 1: it did not arrive."""
    with common.in_organisation(organisation) as (db, org):
        sent = deliveries.send_test(db, settings(), organisation_id=org, endpoint_id=webhook_id)
    common.print_record(_delivery_document(sent), json, said=f"delivery {sent.id}: {sent.state}, {_last_answer(sent)}")
    if sent.state != "delivered":
        raise typer.Exit(1)


@group.command("deliveries")
def list_deliveries(
    webhook_id: WebhookId,
    state: Annotated[str | None, typer.Option(help="due, sending, delivered or failed.")] = None,
    limit: Limit = None,
    cursor: Cursor = None,
    organisation: Organisation = None,
    json: AsJson = False,
) -> None:
    """List the deliveries to a webhook, newest first."""
    with common.in_organisation(organisation) as (db, org):
        most = common.page_size(limit, json)
        with db.begin() as connection:
            found = webhook_deliveries.list_deliveries(
                connection, org, webhook_id, state=state, before=cursor, limit=most
            )
    common.print_list(
        found,
        json,
        columns=("delivery", "type", "state", "attempts", "created", "last answer"),
        row=lambda d: (d.id, d.type, d.state, d.attempts, d.created_at, _last_answer(d)),
        document=_delivery_document,
        most=most,
    )


@group.command("replay")
def replay(
    delivery_id: Annotated[int, typer.Argument(help="The delivery's id.")],
    organisation: Organisation = None,
    acting: As = None,
    json: AsJson = False,
) -> None:
    """Send a delivery again that failed or arrived, with the same webhook-id."""
    with common.in_organisation(organisation) as (db, org):
        found = deliveries.replay(db, organisation_id=org, delivery_id=delivery_id, actor=common.actor(acting))
    common.print_record(_delivery_document(found), json, said=f"Delivery {found.id} is {found.state}.")


def _endpoint_document(endpoint: EndpointRecord) -> dict[str, Any]:
    return Endpoint.model_validate(endpoint).model_dump(mode="json")


def _delivery_document(delivery: DeliveryRecord) -> dict[str, Any]:
    return Delivery.model_validate(delivery).model_dump(mode="json")


def _why_nothing(endpoint: EndpointRecord) -> str:
    if endpoint.disabled_because is not None:
        return f"disabled: {endpoint.disabled_because}"
    return f"paused: {endpoint.paused_because}" if endpoint.paused_because is not None else ""


def _last_answer(delivery: DeliveryRecord) -> str:
    if delivery.last_status is not None:
        return f"HTTP {delivery.last_status}"
    return delivery.last_error or "not sent yet"
