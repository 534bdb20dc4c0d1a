"""Webhook endpoints: who wants to be sent which events. Everything here is an act of a person, and is audited."""

import base64
import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import get_args
from urllib.parse import urlsplit

import structlog
from sqlalchemy import Connection

from schemas.webhooks import Event
from worker.access.sealing import Seal
from worker.config import Settings
from worker.database import Database
from worker.errors import ConflictError, InvalidInputError, NotFoundError
from worker.ledger import jobs, webhook_endpoints
from worker.ledger.webhook_endpoints import EndpointRecord
from worker.records import Seen
from worker.texts import text
from worker.webhooks import safe_post

log = structlog.get_logger(__name__)

MAX_KEEP_HOURS = 8760
EVENTS: tuple[str, ...] = get_args(Event)


@dataclass(frozen=True, slots=True)
class CreatedEndpoint:
    """An endpoint with its secret, which cannot be shown again."""

    endpoint: EndpointRecord
    secret: str


def create(
    database: Database, settings: Settings, *, organisation_id: int, url: str, events: Sequence[str], actor: str
) -> CreatedEndpoint:
    """Send events to an address from now on.

    Raises:
        InvalidInputError: the URL cannot be used, or an event is unknown.
        SettingsError: no key is set to encrypt the secret with.
    """
    safe_post.check_url(url, allow_private=settings.webhooks_allow_private)
    _check_events(events)
    secret, sealed = _new_secret(settings)

    def insert(connection: Connection) -> EndpointRecord:
        known = webhook_endpoints.find_by_secret(connection, organisation_id, sealed)
        if known is not None:  # the answer to the first commit was lost
            return known
        made = webhook_endpoints.insert_endpoint(
            connection,
            organisation_id=organisation_id,
            url=url,
            events=sorted(set(events)),
            secret=sealed,
            created_by=actor,
        )
        audit(connection, made, actor, "create", events=made.events)
        return made

    endpoint = database.run(insert)
    log.info("webhook.created", endpoint_id=endpoint.id, organisation_id=organisation_id)
    return CreatedEndpoint(endpoint, secret)


def rotate(
    database: Database,
    settings: Settings,
    *,
    organisation_id: int,
    endpoint_id: int,
    actor: str,
    keep_hours: int = 24,
    seen: Seen | None = None,
) -> CreatedEndpoint:
    """Give an endpoint a new secret. For `keep_hours` deliveries bear both signatures, so that none is refused.

    `seen`: when the secret was last replaced, as the caller knows it: a form that is sent twice replaces it once.

    Raises:
        NotFoundError: this organisation has no such enabled endpoint.
        InvalidInputError: `keep_hours` is wrong.
        ConflictError: the secret was replaced since the caller saw it.
        SettingsError: no key is set to encrypt the secret with.
    """
    if not 0 <= keep_hours <= MAX_KEEP_HOURS:
        raise InvalidInputError(text("keep_hours: must be from 0 to {most}", most=MAX_KEEP_HOURS))
    secret, sealed = _new_secret(settings)

    def work(connection: Connection) -> EndpointRecord:
        known = webhook_endpoints.find_by_secret(connection, organisation_id, sealed)
        if known is not None:  # the answer to the first commit was lost
            return known
        before = webhook_endpoints.lock(connection, organisation_id, endpoint_id)
        if before is not None and seen is not None and seen.at != before.rotated_at:
            raise ConflictError(
                text("the secret was replaced meanwhile; its history says by whom. Nothing was changed now.")
            )
        endpoint = webhook_endpoints.rotate_secret(
            connection, organisation_id, endpoint_id, secret=sealed, keep=timedelta(hours=keep_hours)
        )
        if endpoint is None:
            raise NotFoundError(
                text("there is no enabled webhook {endpoint_id} in this organisation", endpoint_id=endpoint_id)
            )
        audit(connection, endpoint, actor, "rotate", keep_hours=keep_hours)
        return endpoint

    endpoint = database.run(work)
    log.info("webhook.rotated", endpoint_id=endpoint.id, organisation_id=organisation_id)
    return CreatedEndpoint(endpoint, secret)


def disable(database: Database, *, organisation_id: int, endpoint_id: int, actor: str) -> EndpointRecord:
    """Send an endpoint nothing more. A second call changes nothing.

    Raises:
        NotFoundError: this organisation has no such endpoint.
    """

    def disable_and_audit(connection: Connection) -> EndpointRecord:
        endpoint = webhook_endpoints.disable_endpoint(connection, organisation_id, endpoint_id, because=f"by {actor}")
        if endpoint is None:
            raise NotFoundError(text("there is no webhook {endpoint_id} in this organisation", endpoint_id=endpoint_id))
        audit(connection, endpoint, actor, "disable")
        return endpoint

    return database.run(disable_and_audit)


def pause(database: Database, *, organisation_id: int, endpoint_id: int, actor: str) -> EndpointRecord:
    """Send an endpoint nothing until somebody resumes it. What happens meanwhile waits. Repeating it changes nothing.

    Raises:
        NotFoundError: this organisation has no such enabled endpoint.
    """

    def pause_and_audit(connection: Connection) -> EndpointRecord:
        endpoint = webhook_endpoints.pause_endpoint(connection, organisation_id, endpoint_id, because=f"by {actor}")
        if endpoint is None:
            raise NotFoundError(
                text("there is no enabled webhook {endpoint_id} in this organisation", endpoint_id=endpoint_id)
            )
        audit(connection, endpoint, actor, "pause")
        return endpoint

    return database.run(pause_and_audit)


def find(database: Database, organisation_id: int, endpoint_id: int) -> EndpointRecord:
    """An endpoint of an organisation, also one that is disabled.

    Raises:
        NotFoundError: this organisation has no such endpoint.
    """
    with database.begin() as connection:
        found = webhook_endpoints.find_endpoint(connection, organisation_id, endpoint_id)
    if found is None:
        raise NotFoundError(text("there is no webhook {endpoint_id} in this organisation", endpoint_id=endpoint_id))
    return found


def audit(connection: Connection, endpoint: EndpointRecord, actor: str, act: str, **detail: object) -> None:
    """Record an act on an endpoint. Its address can hold a secret, so the record has its host alone."""
    about = json.dumps({"webhook": endpoint.id, "host": urlsplit(endpoint.url).hostname, **detail})
    jobs.audit(
        connection, organisation_id=endpoint.organisation_id, actor=actor, action=f"webhook.{act}", detail=about
    )  # fmt: skip


def _new_secret(settings: Settings) -> tuple[str, str]:
    """A secret, and the same sealed."""
    secret = "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
    return secret, webhook_seal(settings).seal(secret.encode())


def webhook_seal(settings: Settings) -> Seal:
    """What encrypts the secrets of endpoints at rest."""
    return Seal(settings, "webhook-secret")


def _check_events(events: Sequence[str]) -> None:
    known = ", ".join(EVENTS)
    if not events:
        raise InvalidInputError(text("events: name at least one of {known}", known=known))
    for event in events:
        if event not in EVENTS:
            raise InvalidInputError(
                text("events: unknown value {given!r}. Use one of: {known}.", given=event[:40], known=known)
            )
