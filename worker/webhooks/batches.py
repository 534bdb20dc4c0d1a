"""Batches of the feed for webhooks: CloudEvents as an array, in order, each at least once.

An endpoint has a place in the feed, which moves once a batch has arrived. So it gets one batch at a time, and a batch
that failed is sent again before anything that follows it. A process that dies between the two sends it again.
"""

import json
from datetime import timedelta

import structlog

from schemas.feed import BATCH_MEDIA_TYPE
from worker.config import Settings
from worker.database import Database, notify_after_commit
from worker.errors import ConflictError, GoneError, NotFoundError
from worker.ledger import feed, webhook_batches, webhook_endpoints
from worker.ledger.feed import Page, Place
from worker.ledger.webhook_batches import ClaimedBatch
from worker.ledger.webhook_endpoints import EndpointRecord
from worker.telemetry import metrics
from worker.texts import text
from worker.webhooks import endpoints, safe_post
from worker.webhooks.endpoints import webhook_seal
from worker.webhooks.signing import CANNOT_DECRYPT, open_secrets, rest_seconds, signed_headers

log = structlog.get_logger(__name__)

MOST_EVENTS = 500
"""Events of one batch, about 250 kB."""
PATIENCE = timedelta(days=3)
"""An endpoint that has failed for so long is paused."""
_LEASE = timedelta(seconds=60)


def send_next(database: Database, settings: Settings) -> bool:
    """Send one batch that is due. False: none is."""
    claimed = database.run(lambda connection: webhook_batches.claim(connection, lease=_LEASE))
    if claimed is None:
        return False
    before = Place.parse(claimed.feed_cursor) if claimed.feed_cursor else Place()
    try:
        with database.begin() as connection:
            page = feed.read(connection, claimed.organisation_id, before, limit=MOST_EVENTS, types=claimed.events)
    except GoneError as error:
        because = str(error)
        database.run(lambda connection: webhook_batches.pause(connection, claimed, because=because))
        log.warning("webhook.paused", endpoint_id=claimed.endpoint_id, because=because)
        return True
    if not page.events:
        database.run(lambda connection: webhook_batches.advance(connection, claimed, page.place, arrived=False))
        return True
    _send(database, settings, claimed, before, page)
    return True


def resume(
    database: Database, *, organisation_id: int, endpoint_id: int, after: str | None, actor: str
) -> EndpointRecord:
    """Send an endpoint that was paused again, batches from its place or from another one: that is also a replay.

    `after`: a cursor, or `latest`; None: go on where it was.

    Raises:
        InvalidInputError: `after` is not a cursor of the feed.
        NotFoundError: this organisation has no such endpoint.
        ConflictError: it is disabled, or wants no events of the feed.
    """
    place = Place.parse(after) if after is not None and after != feed.LATEST else None
    with database.begin() as connection:
        found = webhook_endpoints.find_endpoint(connection, organisation_id, endpoint_id)
        if found is None:
            raise NotFoundError(text("there is no webhook {endpoint_id} in this organisation", endpoint_id=endpoint_id))
        if place is not None:
            feed.read(connection, organisation_id, place, limit=1)  # refuses a place that is no more
        if after == feed.LATEST:
            place = feed.find_end(connection, organisation_id)
        if not webhook_batches.resume(connection, organisation_id, endpoint_id, place):
            raise ConflictError(
                text("webhook {endpoint_id} is disabled, or wants no events of enrolments", endpoint_id=endpoint_id)
            )
        endpoints.audit(connection, found, actor, "resume", **({} if after is None else {"after": after}))
        notify_after_commit(connection)
        found = webhook_endpoints.find_endpoint(connection, organisation_id, endpoint_id)
    assert found is not None  # noqa: S101 - for the type checker
    log.info("webhook.resumed", endpoint_id=endpoint_id, organisation_id=organisation_id)
    return found


def _send(database: Database, settings: Settings, claimed: ClaimedBatch, before: Place, page: Page) -> None:
    answer = _post(settings, claimed, before, page)
    fields = {"endpoint_id": claimed.endpoint_id, "events": len(page.events), "status": answer.status}
    if answer.ok:
        database.run(lambda connection: webhook_batches.advance(connection, claimed, page.place, arrived=True))
        metrics.WEBHOOK_ATTEMPTS.labels("delivered").inc()
        log.info("webhook.batch_delivered", **fields)
        return
    rest = timedelta(seconds=answer.retry_after or rest_seconds(claimed.failures))
    because = f"it has failed for {PATIENCE.days} days, last with {answer.error or f'HTTP {answer.status}'}"
    paused = database.run(
        lambda connection: webhook_batches.record_failure(
            connection, claimed, because=because, gone=answer.status == 410, rest=rest, patience=PATIENCE
        )
    )
    metrics.WEBHOOK_ATTEMPTS.labels("failed").inc()
    log.warning("webhook.batch_not_delivered", **fields, error=answer.error, paused=paused)


def _post(settings: Settings, claimed: ClaimedBatch, before: Place, page: Page) -> safe_post.Answer:
    secrets = open_secrets(webhook_seal(settings), claimed.secret, claimed.previous_secret)
    if not secrets:
        return safe_post.Answer(error=CANNOT_DECRYPT)
    body = json.dumps([event.model_dump(mode="json") for event in page.events], separators=(",", ":"))
    # The same id for the same batch, however often it is sent.
    ends = "-".join(f"{place.position}-{place.enrolment_id}" for place in (before, page.place))
    headers = signed_headers(secrets, f"batch_{claimed.endpoint_id}-{ends}", body, media_type=BATCH_MEDIA_TYPE)
    return safe_post.post(claimed.url, headers, body.encode(), allow_private=settings.webhooks_allow_private)
