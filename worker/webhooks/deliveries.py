"""Webhook deliveries (Standard Webhooks 1.0.0): a help desk or a chat learns what needs attention.

Each event is sent at least once. A delivery keeps its `webhook-id` over all its attempts, so a receiver can drop
duplicates. Events carry nothing but ids, codes and counts.
"""

import json
from datetime import UTC, datetime, timedelta

import structlog
from sqlalchemy import Connection

from worker.code_words import said
from worker.config import Settings
from worker.database import Database, notify_after_commit
from worker.errors import ConflictError, NotFoundError
from worker.ledger import webhook_deliveries, webhook_endpoints
from worker.ledger.webhook_deliveries import ClaimedDelivery, DeliveryRecord
from worker.slow_work import SlowWork
from worker.telemetry import metrics
from worker.texts import text
from worker.webhooks import batches, endpoints, safe_post
from worker.webhooks.endpoints import webhook_seal
from worker.webhooks.signing import CANNOT_DECRYPT, open_secrets, rest_seconds, signed_headers

log = structlog.get_logger(__name__)

MOST_ATTEMPTS = 12
"""After these, about a day and a half with the rests between, a delivery has `failed` and waits for a replay."""
_LEASE = timedelta(seconds=60)


class Deliverer(SlowWork):
    """Sends the deliveries and the batches of the feed that are due."""

    def step(self) -> int:
        """Send one delivery and one batch, if they are due; how many that were."""
        return self._send_next_delivery() + batches.send_next(self._database, self._settings)

    def _send_next_delivery(self) -> bool:
        claimed = self._database.run(lambda connection: webhook_deliveries.claim_due(connection, lease=_LEASE))
        if claimed is not None:
            _send(self._database, self._settings, claimed)
        return claimed is not None


def send_test(database: Database, settings: Settings, *, organisation_id: int, endpoint_id: int) -> DeliveryRecord:
    """Send an endpoint a `test` event now. The record says what came back.

    Raises:
        NotFoundError: this organisation has no such enabled endpoint.
    """
    with database.begin() as connection:
        delivery_id = webhook_deliveries.insert_test(connection, organisation_id, endpoint_id)
    if delivery_id is None:
        raise NotFoundError(
            text("there is no enabled webhook {endpoint_id} in this organisation", endpoint_id=endpoint_id)
        )
    claimed = database.run(lambda connection: webhook_deliveries.claim_one(connection, delivery_id, lease=_LEASE))
    if claimed is not None:  # None: a worker has claimed it already
        _send(database, settings, claimed)
    return show(database, organisation_id=organisation_id, delivery_id=delivery_id)


def show(database: Database, *, organisation_id: int, delivery_id: int) -> DeliveryRecord:
    """One delivery.

    Raises:
        NotFoundError: this organisation has no delivery with this id.
    """
    with database.begin() as connection:
        found = webhook_deliveries.find_delivery(connection, organisation_id, delivery_id)
    if found is None:
        raise NotFoundError(text("there is no delivery {delivery_id} in this organisation", delivery_id=delivery_id))
    return found


def replay(database: Database, *, organisation_id: int, delivery_id: int, actor: str) -> DeliveryRecord:
    """Send a delivery again that failed or arrived. It keeps its `webhook-id`.

    Raises:
        NotFoundError: this organisation has no delivery with this id.
        ConflictError: it is on its way, or its endpoint is disabled.
    """

    def make_due(connection: Connection) -> bool:
        replayed = webhook_deliveries.replay(connection, organisation_id, delivery_id)
        if replayed:
            _audit_replay(connection, organisation_id, delivery_id, actor)
            notify_after_commit(connection)
        return replayed

    replayed = database.run(make_due)
    found = show(database, organisation_id=organisation_id, delivery_id=delivery_id)
    if not replayed and found.state != "due":
        raise ConflictError(
            text(
                "delivery {delivery_id} is {state}: it is on its way, or its webhook is disabled",
                delivery_id=delivery_id,
                state=said(found.state),
            )
        )
    return found


def _audit_replay(connection: Connection, organisation_id: int, delivery_id: int, actor: str) -> None:
    found = webhook_deliveries.find_delivery(connection, organisation_id, delivery_id)
    endpoint = found and webhook_endpoints.find_endpoint(connection, organisation_id, found.endpoint_id)
    if endpoint:
        endpoints.audit(connection, endpoint, actor, "replay", delivery=delivery_id)


def _send(database: Database, settings: Settings, claimed: ClaimedDelivery) -> None:
    """Make one attempt. If this process dies first, the lease runs out and another sends it with the same id."""
    secrets = open_secrets(webhook_seal(settings), claimed.secret, claimed.previous_secret)
    if secrets:
        answer = _post(claimed, secrets, allow_private=settings.webhooks_allow_private)
    else:
        answer = safe_post.Answer(error=CANNOT_DECRYPT)
    fields = {"delivery_id": claimed.id, "endpoint_id": claimed.endpoint_id, "status": answer.status}
    if answer.ok:
        status = answer.status or 200
        database.run(lambda connection: webhook_deliveries.record_delivered(connection, claimed, status))
        metrics.WEBHOOK_ATTEMPTS.labels("delivered").inc()
        log.info("webhook.delivered", **fields)
        return
    rest = timedelta(seconds=answer.retry_after or rest_seconds(claimed.failures))
    state = database.run(
        lambda connection: webhook_deliveries.record_failure(
            connection, claimed, status=answer.status, error=answer.error, rest=rest, most_attempts=MOST_ATTEMPTS
        )
    )
    metrics.WEBHOOK_ATTEMPTS.labels("failed").inc()
    log.warning("webhook.not_delivered", **fields, error=answer.error, state=state)


def _post(claimed: ClaimedDelivery, secrets: list[str], *, allow_private: bool) -> safe_post.Answer:
    event = {"type": claimed.type, "timestamp": _rfc3339(claimed.created_at), "data": claimed.data}
    body = json.dumps(event, separators=(",", ":"))
    headers = signed_headers(secrets, f"msg_{claimed.id}", body)
    return safe_post.post(claimed.url, headers, body.encode(), allow_private=allow_private)


def _rfc3339(at: datetime) -> str:
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")
