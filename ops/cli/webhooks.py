"""Webhooks that go out: who is told what needs attention."""

from typing import Annotated, Any

import typer

from ops.cli import common
from ops.cli.common import As, AsJson, Cursor, Limit, Organisation
from schemas import webhooks
from worker.config import settings
from worker.ids import next_cursor
from worker.ledger import webhooks as ledger
from worker.webhooks import deliveries as outgoing

group = typer.Typer(
    no_args_is_help=True, help="Tell a help desk or a chat what needs attention: create, list, test, replay, disable."
)
WebhookId = Annotated[int, typer.Argument(help="The webhook's number.")]


@group.command("create")
def create(
    url: Annotated[str, typer.Option(help="https://…; a private address needs WITHDRAWALS_WEBHOOKS_ALLOW_PRIVATE.")],
    event: Annotated[list[str], typer.Option(help=f"Repeatable: {', '.join(outgoing.EVENTS)}.")],
    organisation: Organisation = None,
    acting: As = None,
    json: AsJson = False,
) -> None:
    """Let an address be told of events from now on. Its secret is shown now and never again."""
    with common.database() as db:
        made = outgoing.create(
            db,
            settings(),
            organisation_id=common.organisation_id(db, organisation),
            url=url,
            events=event,
            actor=common.actor(acting),
        )
    if json:
        common.print_json({**_endpoint(made.endpoint), "secret": made.secret})
        return
    common.out.print(made.secret, markup=False)
    common.err.print(f"webhook {made.endpoint.id}; keep the secret now, it is not shown again")


@group.command("list")
def list_webhooks(organisation: Organisation = None, json: AsJson = False) -> None:
    """List webhooks, newest first."""
    with common.database() as db:
        org = common.organisation_id(db, organisation)
        with db.begin() as connection:
            found = ledger.endpoints(connection, org)
    if json:
        common.print_json({"items": [_endpoint(item) for item in found], "next_cursor": None})
        return
    rows = [(e.id, e.url, ", ".join(e.events), e.failures or "", e.rest_until, e.disabled_because) for e in found]
    common.out.print(common.table("webhook", "url", "events", "failures", "rests until", "disabled", rows=rows))


@group.command("disable")
def disable(webhook_id: WebhookId, organisation: Organisation = None, acting: As = None, json: AsJson = False) -> None:
    """Send a webhook nothing any more."""
    with common.database() as db:
        org = common.organisation_id(db, organisation)
        found = outgoing.disable(db, organisation_id=org, endpoint_id=webhook_id, actor=common.actor(acting))
    if json:
        common.print_json(_endpoint(found))
    else:
        common.out.print(f"webhook {found.id} is disabled")


@group.command("test")
def test(webhook_id: WebhookId, organisation: Organisation = None, json: AsJson = False) -> None:
    """Send a `test` event now and say what came back; exit 1 when it did not arrive."""
    with common.database() as db:
        org = common.organisation_id(db, organisation)
        sent = outgoing.send_test(db, settings(), organisation_id=org, endpoint_id=webhook_id)
    if json:
        common.print_json(_delivery(sent))
    else:
        common.out.print(f"delivery {sent.id}: {sent.state}, {_came_back(sent)}")
    if sent.state != "delivered":
        raise typer.Exit(1)


@group.command("deliveries")
def deliveries(
    webhook_id: WebhookId,
    state: Annotated[str | None, typer.Option(help="due, sending, delivered or failed.")] = None,
    limit: Limit = None,
    cursor: Cursor = None,
    organisation: Organisation = None,
    json: AsJson = False,
) -> None:
    """List what a webhook was and will be told, newest first."""
    with common.database() as db:
        org, most = common.organisation_id(db, organisation), common.page_size(limit, json)
        with db.begin() as connection:
            found = ledger.deliveries(connection, org, webhook_id, state=state, before=cursor, limit=most)
    if json:
        cursor_of_next = next_cursor(found, most)
        common.print_json({"items": [_delivery(item) for item in found], "next_cursor": cursor_of_next})
        return
    rows = [(d.id, d.type, d.state, d.attempts, d.created_at, _came_back(d)) for d in found]
    common.out.print(common.table("delivery", "type", "state", "attempts", "created", "last answer", rows=rows))
    common.say_more(found, most)


@group.command("replay")
def replay(
    delivery_id: Annotated[int, typer.Argument(help="The delivery's number.")],
    organisation: Organisation = None,
    acting: As = None,
    json: AsJson = False,
) -> None:
    """Send a delivery again that failed or arrived, under the same webhook-id."""
    with common.database() as db:
        org = common.organisation_id(db, organisation)
        found = outgoing.replay(db, organisation_id=org, delivery_id=delivery_id, actor=common.actor(acting))
    if json:
        common.print_json(_delivery(found))
    else:
        common.out.print(f"delivery {found.id} is {found.state}")


def _endpoint(endpoint: ledger.Endpoint) -> dict[str, Any]:
    return webhooks.Endpoint.model_validate(endpoint).model_dump(mode="json")


def _delivery(delivery: ledger.Delivery) -> dict[str, Any]:
    return webhooks.Delivery.model_validate(delivery).model_dump(mode="json")


def _came_back(delivery: ledger.Delivery) -> str:
    if delivery.last_status is not None:
        return f"HTTP {delivery.last_status}"
    return delivery.last_error or "not sent yet"
