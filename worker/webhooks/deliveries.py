"""Webhooks that go out (Standard Webhooks 1.0.0): a help desk or a chat is told what needs attention.

At least once: a delivery keeps its `webhook-id` over all its attempts, by which a receiver drops what it has.
Nothing is told but ids, codes and counts.
"""

import base64
import json
import random
import secrets
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import get_args

import structlog
from sqlalchemy import Connection
from standardwebhooks import Webhook

from schemas.webhooks import Event
from worker.access.sealing import Seal
from worker.config import Settings
from worker.database import Database
from worker.errors import ConflictError, InvalidInputError, NotFoundError
from worker.ledger import jobs, webhooks
from worker.ledger.webhooks import Delivery, Endpoint, Sending
from worker.webhooks import safe_post

log = structlog.get_logger(__name__)

EVENTS: tuple[str, ...] = get_args(Event)
MOST_ATTEMPTS = 12
"""After these a delivery has `failed` and waits for a replay: about a day and a half, with the rests below."""
_REST, _LONGEST_REST = 5.0, 4 * 3600.0
"""Seconds that an endpoint rests after its first failure, doubling up to the second, with jitter."""
_LEASE = timedelta(seconds=60)
_TURN = 10.0
"""Seconds after which a worker thread turns to something else; what is left brings a hint of its own."""


@dataclass(frozen=True, slots=True)
class NewEndpoint:
    """An endpoint with its secret, which cannot be shown again."""

    endpoint: Endpoint
    secret: str


def create(
    database: Database, settings: Settings, *, organisation_id: int, url: str, events: Sequence[str], actor: str
) -> NewEndpoint:
    """Let an address be told of events from now on.

    Raises:
        InvalidInputError: the URL cannot be used, or an event is none.
        SettingsError: there is no key to seal the secret with.
    """
    safe_post.check_url(url, allow_private=settings.webhooks_allow_private)
    wrong = [event for event in events if event not in EVENTS]
    if wrong or not events:
        found = f"{wrong[0][:40]!r} is none" if wrong else "name at least one"
        raise InvalidInputError(f"events: {found}; there are {', '.join(EVENTS)}")
    secret = "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
    sealed = _seal(settings).seal(secret.encode())

    def work(connection: Connection) -> Endpoint:
        known = webhooks.find_by_secret(connection, organisation_id, sealed)
        if known is not None:  # the answer to the first commit was lost
            return next(item for item in webhooks.endpoints(connection, organisation_id) if item.id == known)
        jobs.audit(connection, organisation_id=organisation_id, actor=actor, action="webhook.create")
        return webhooks.insert(
            connection,
            organisation_id=organisation_id,
            url=url,
            events=sorted(set(events)),
            secret=sealed,
            created_by=actor,
        )

    endpoint = database.run(work)
    log.info("webhook.created", endpoint_id=endpoint.id, organisation_id=organisation_id)
    return NewEndpoint(endpoint, secret)


def disable(database: Database, *, organisation_id: int, endpoint_id: int, actor: str) -> Endpoint:
    """Send an endpoint nothing any more; doing it again changes nothing.

    Raises:
        NotFoundError: there is no such endpoint in this organisation.
    """

    def work(connection: Connection) -> Endpoint:
        endpoint = webhooks.disable(connection, organisation_id, endpoint_id, because=f"by {actor}")
        if endpoint is None:
            raise NotFoundError(f"there is no webhook {endpoint_id} in this organisation")
        jobs.audit(connection, organisation_id=organisation_id, actor=actor, action="webhook.disable")
        return endpoint

    return database.run(work)


def send_test(database: Database, settings: Settings, *, organisation_id: int, endpoint_id: int) -> Delivery:
    """Send an endpoint a `test` event now, and see what it answers.

    Raises:
        NotFoundError: there is no such live endpoint in this organisation.
    """
    with database.begin() as connection:
        delivery_id = webhooks.write_test(connection, organisation_id, endpoint_id)
    if delivery_id is None:
        raise NotFoundError(f"there is no live webhook {endpoint_id} in this organisation")
    sending = database.run(lambda connection: webhooks.claim(connection, lease=_LEASE, delivery_id=delivery_id))
    if sending is not None:  # else a worker was faster
        _send(database, settings, sending)
    return show(database, organisation_id=organisation_id, delivery_id=delivery_id)


def show(database: Database, *, organisation_id: int, delivery_id: int) -> Delivery:
    """One delivery.

    Raises:
        NotFoundError: there is none of this id in this organisation.
    """
    with database.begin() as connection:
        found = webhooks.delivery(connection, organisation_id, delivery_id)
    if found is None:
        raise NotFoundError(f"there is no delivery {delivery_id} in this organisation")
    return found


def replay(database: Database, *, organisation_id: int, delivery_id: int, actor: str) -> Delivery:
    """Send a delivery again that failed or arrived; it keeps its `webhook-id`.

    Raises:
        NotFoundError: there is none of this id in this organisation.
        ConflictError: it is on its way, or its endpoint is disabled.
    """

    def work(connection: Connection) -> bool:
        done = webhooks.replay(connection, organisation_id, delivery_id)
        if done:
            jobs.audit(connection, organisation_id=organisation_id, actor=actor, action="webhook.replay")
            jobs.notify(connection)
        return done

    replayed = database.run(work)
    found = show(database, organisation_id=organisation_id, delivery_id=delivery_id)
    if not replayed and found.state != "due":
        raise ConflictError(f"delivery {delivery_id} is {found.state}; its webhook is disabled, or it is on its way")
    return found


class Deliverer:
    """Sends what is due; one thread of a process at a time, so that slow receivers keep no withdrawal waiting."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._settings = settings
        self._busy = threading.Lock()
        self._stopping = threading.Event()

    def stop(self) -> None:
        """Begin nothing more; what is being sent ends within seconds."""
        self._stopping.set()

    def work_off(self) -> int:
        """Send until nothing is due or the turn is over; how many attempts were made."""
        if not self._busy.acquire(blocking=False):
            return 0
        try:
            begun, sent = time.monotonic(), 0
            while not self._stopping.is_set() and time.monotonic() - begun < _TURN:
                sending = self._database.run(lambda connection: webhooks.claim(connection, lease=_LEASE))
                if sending is None:
                    break
                _send(self._database, self._settings, sending)
                sent += 1
            return sent
        finally:
            self._busy.release()


def _send(database: Database, settings: Settings, sending: Sending) -> None:
    """One attempt. Died before it is recorded: the lease runs out and it is sent again, under the same id."""
    opened = _seal(settings).open(sending.secret)
    answer = safe_post.Answer(error="the secret cannot be opened; WITHDRAWALS_SECRET_KEY has changed")
    if opened is not None:
        event = {"type": sending.type, "timestamp": _rfc3339(sending.created_at), "data": sending.data}
        body = json.dumps(event, separators=(",", ":"))
        answer = safe_post.post(
            sending.url,
            _signed(opened.decode(), f"msg_{sending.id}", body),
            body.encode(),
            allow_private=settings.webhooks_allow_private,
        )
    if answer.ok:
        database.run(lambda connection: webhooks.delivered(connection, sending, answer.status or 200))
        log.info("webhook.delivered", delivery_id=sending.id, endpoint_id=sending.endpoint_id, status=answer.status)
        return
    rest = timedelta(seconds=answer.retry_after or _rest(sending.failures))
    state = database.run(
        lambda connection: webhooks.not_delivered(
            connection, sending, status=answer.status, error=answer.error, rest=rest, most=MOST_ATTEMPTS
        )
    )
    log.warning(
        "webhook.not_delivered",
        delivery_id=sending.id,
        endpoint_id=sending.endpoint_id,
        status=answer.status,
        error=answer.error,
        state=state,
    )


def _signed(secret: str, message_id: str, body: str) -> dict[str, str]:
    now = datetime.now(UTC)
    return {
        "Content-Type": "application/json",
        "User-Agent": "withdrawals",
        "webhook-id": message_id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(secret).sign(message_id, now, body),
    }


def _rest(failures: int) -> float:
    bound = min(_LONGEST_REST, _REST * 2 ** min(failures, 20))
    return random.uniform(bound / 2, bound)  # noqa: S311 - spreads load, guards nothing


def _rfc3339(when: datetime) -> str:
    return when.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _seal(settings: Settings) -> Seal:
    return Seal(settings, "webhook-secret")
