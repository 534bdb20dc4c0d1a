"""HR sources: created, rotated, disabled. Which of them sent a request is found in `source_requests.py`."""

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import structlog
from sqlalchemy import Connection

from schemas.sources import RefusedRequests, Source
from worker.access.memory import forget_all
from worker.config import Settings
from worker.database import Database
from worker.errors import ConflictError, InvalidInputError, NotFoundError, unknown_value
from worker.ledger import hr_sources, jobs
from worker.ledger.hr_sources import RegisteredSource
from worker.people.source_secrets import API_KEYS, check_api, check_secret, new_secret, source_seal
from worker.records import Seen
from worker.rules import ROSTER
from worker.texts import text

log = structlog.get_logger(__name__)

KINDS = {
    "standard": "/hooks/hr",
    "okta": "/hooks/okta",
    "bamboohr": "/hooks/bamboohr",
    "hibob": "/hooks/hibob",
    "personio": "/hooks/personio",
    "finch": "/hooks/finch",
    "security-events": "/hooks/security-events",
}
"""The kinds of sources, each with the path under which its sources send."""
POLICIES = ("withdraw", "hold", "ignore")
RESERVED = ("cli", "scim", "api", "console", ROSTER)
"""Names of the other doors through which requests come."""
MAX_GRACE_HOURS = 8760
_LATELY = timedelta(days=7)
"""For how long requests that were refused are shown."""
NAME = re.compile(r"[a-z][a-z0-9-]{0,62}")
"""What a source may be called: it is part of the URL."""


@dataclass(frozen=True, slots=True)
class NewSecret:
    """A source with a secret that cannot be shown again."""

    source: RegisteredSource
    secret: str


def create(
    database: Database,
    settings: Settings,
    *,
    organisation_id: int,
    name: str,
    kind: str,
    actor: str,
    on_deactivate: str = "withdraw",
    grace_hours: int = 0,
    secret: str | None = None,
    api_key: str | None = None,
    api_url: str | None = None,
) -> NewSecret:
    """Let an HR system send events. `secret`: one that the HR system made; None: make a new one.

    `api_key`: with which the kinds of `API_KEYS` are asked about each event; `api_url`: another address than the usual.

    Raises:
        InvalidInputError: name, kind, policy, grace period, secret or API key is wrong; the message says which.
        ConflictError: a live source of the organisation has this name.
        SettingsError: there is no key to seal the secret with.
    """
    if not NAME.fullmatch(name) or name in RESERVED:
        raise InvalidInputError(
            text(
                "name: it is part of the URL. Use up to 63 lower-case letters, digits and hyphens, starting with "
                "a letter. Reserved: {reserved}.",
                reserved=", ".join(RESERVED),
            )
        )
    if kind not in KINDS:
        raise unknown_value("kind", kind, KINDS)
    _check_policy(on_deactivate, grace_hours)
    secret = check_secret(kind, secret) if secret is not None else new_secret(kind)
    sealed = source_seal(settings).seal(secret.encode())
    if api_key is not None or api_url is not None or kind in API_KEYS:
        api_key, api_url = check_api(settings, kind, api_key, api_url)

    def work(connection: Connection) -> RegisteredSource:
        made = hr_sources.insert_source(
            connection,
            organisation_id=organisation_id,
            name=name,
            kind=kind,
            on_deactivate=on_deactivate,
            grace_hours=grace_hours,
            secret=sealed,
            created_by=actor,
            api_key=api_key,
            api_url=api_url,
        )
        if made is None:
            for known, secrets_of_known in hr_sources.find_by_name(connection, kind, name):
                if secrets_of_known[0] == sealed:  # the answer to the first commit was lost
                    return known
            raise ConflictError(
                text("name: a source {name!r} exists. Rotate its secret, or disable it first.", name=name)
            )
        _audit(connection, made, actor, "create", kind=kind, on_deactivate=on_deactivate, grace_hours=grace_hours)
        return made

    source = database.run(work)
    log.info("source.created", source_id=source.id, organisation_id=organisation_id, kind=kind)
    return NewSecret(source, secret)


def rotate(
    database: Database,
    settings: Settings,
    *,
    organisation_id: int,
    source_id: int,
    actor: str,
    keep_hours: int = 72,
    secret: str | None = None,
    seen: Seen | None = None,
) -> NewSecret:
    """Give a source a new secret. The one before is accepted for `keep_hours` more, so that no event is lost.

    `seen`: when the secret was last replaced, as the caller knows it. A form that is sent twice would otherwise end the
    secret that the HR system still uses.

    Raises:
        NotFoundError: there is no such live source in this organisation.
        InvalidInputError: the secret or `keep_hours` is wrong.
        ConflictError: the secret was replaced since the caller saw it.
    """
    if not 0 <= keep_hours <= MAX_GRACE_HOURS:
        raise InvalidInputError(text("keep_hours: must be from 0 to {most}", most=MAX_GRACE_HOURS))
    kind = next((item.kind for item in list_sources(database, organisation_id) if item.id == source_id), "standard")
    secret = check_secret(kind, secret) if secret is not None else new_secret(kind)
    sealed = source_seal(settings).seal(secret.encode())

    def work(connection: Connection) -> RegisteredSource:
        source, newest_secret = hr_sources.lock(connection, organisation_id, source_id) or (None, None)
        if source is None:
            raise NotFoundError(text("there is no live source {source_id} in this organisation", source_id=source_id))
        if newest_secret == sealed:  # the answer to the first commit was lost
            return source
        if seen is not None and seen.at != source.rotated_at:
            raise ConflictError(
                text("the secret was replaced meanwhile; its history says by whom. Nothing was changed now.")
            )
        _audit(connection, source, actor, "rotate", keep_hours=keep_hours)
        return hr_sources.rotate(
            connection, organisation_id, source_id, secret=sealed, keep=timedelta(hours=keep_hours)
        )

    source = database.run(work)
    forget_all()
    log.info("source.rotated", source_id=source.id, organisation_id=organisation_id)
    return NewSecret(source, secret)


def set_api(
    database: Database,
    settings: Settings,
    *,
    organisation_id: int,
    source_id: int,
    actor: str,
    api_key: str,
    api_url: str | None = None,
) -> RegisteredSource:
    """Give a source another API key. `api_url`: None: the usual address.

    Raises:
        NotFoundError: there is no such live source in this organisation.
        InvalidInputError: its kind has no API that is asked, or the key or the URL is wrong.
    """

    def work(connection: Connection) -> RegisteredSource:
        source, _ = hr_sources.lock(connection, organisation_id, source_id) or (None, None)
        if source is None:
            raise NotFoundError(text("there is no live source {source_id} in this organisation", source_id=source_id))
        sealed, address = check_api(settings, source.kind, api_key, api_url)
        _audit(connection, source, actor, "set_api")
        return hr_sources.set_api(connection, organisation_id, source_id, api_key=sealed, api_url=address)

    source = database.run(work)
    log.info("source.api_set", source_id=source.id, organisation_id=organisation_id)
    return source


def set_policy(
    database: Database,
    *,
    organisation_id: int,
    source_id: int,
    actor: str,
    on_deactivate: str,
    grace_hours: int,
) -> RegisteredSource:
    """Say what the deactivations of a source do that are applied from now on (decision record 0069).

    Jobs that were made already keep their time, and stay held where they are. Repeating it changes nothing.

    Raises:
        NotFoundError: there is no such live source in this organisation.
        InvalidInputError: the policy or the grace period is wrong.
    """
    _check_policy(on_deactivate, grace_hours)

    def work(connection: Connection) -> RegisteredSource:
        source, _ = hr_sources.lock(connection, organisation_id, source_id) or (None, None)
        if source is None:
            raise NotFoundError(text("there is no live source {source_id} in this organisation", source_id=source_id))
        if (source.on_deactivate, source.grace_hours) == (on_deactivate, grace_hours):
            return source
        before = {"on_deactivate": source.on_deactivate, "grace_hours": source.grace_hours}
        after = {"on_deactivate": on_deactivate, "grace_hours": grace_hours}
        _audit(connection, source, actor, "set_policy", before=before, after=after)
        return hr_sources.set_policy(
            connection, organisation_id, source_id, on_deactivate=on_deactivate, grace_hours=grace_hours
        )

    source = database.run(work)
    forget_all()
    log.info("source.policy_set", source_id=source.id, organisation_id=organisation_id)
    return source


def disable(database: Database, *, organisation_id: int, source_id: int, actor: str) -> RegisteredSource:
    """Accept nothing from a source any more; repeating it changes nothing.

    Raises:
        NotFoundError: there is no such source in this organisation.
    """

    def work(connection: Connection) -> RegisteredSource:
        source = hr_sources.disable(connection, organisation_id, source_id)
        if source is None:
            raise NotFoundError(text("there is no source {source_id} in this organisation", source_id=source_id))
        _audit(connection, source, actor, "disable")
        return source

    source = database.run(work)
    forget_all()
    log.info("source.disabled", source_id=source.id, organisation_id=organisation_id)
    return source


def find(database: Database, organisation_id: int, source_id: int) -> RegisteredSource:
    """A source of an organisation, also one that is disabled.

    Raises:
        NotFoundError: there is no such source in this organisation.
    """
    with database.begin() as connection:
        found = hr_sources.find(connection, organisation_id, source_id)
    if found is None:
        raise NotFoundError(text("there is no source {source_id} in this organisation", source_id=source_id))
    return found


def show(source: RegisteredSource) -> Source:
    """A source as it is shown, with the path to which it sends."""
    known = {name: getattr(source, name) for name in Source.model_fields if name not in ("path", "refused")}
    return Source(**known, path=f"{KINDS[source.kind]}/{source.name}", refused=_show_refused(source))


def _show_refused(source: RegisteredSource) -> RefusedRequests | None:
    since, last_at = source.refused_since, source.refused_at
    if since is None or last_at is None or last_at < datetime.now(UTC) - _LATELY:
        return None
    return RefusedRequests(signature=source.refused_signature, time=source.refused_time, since=since, last_at=last_at)


def list_sources(database: Database, organisation_id: int) -> list[RegisteredSource]:
    """Every source of an organisation, newest first, without secrets."""
    with database.begin() as connection:
        return hr_sources.list_sources(connection, organisation_id)


def _check_policy(on_deactivate: str, grace_hours: int) -> None:
    if on_deactivate not in POLICIES:
        raise unknown_value("on_deactivate", on_deactivate, POLICIES)
    if not 0 <= grace_hours <= MAX_GRACE_HOURS:
        raise InvalidInputError(text("grace_hours: must be from 0 to {most}", most=MAX_GRACE_HOURS))


def _audit(connection: Connection, source: RegisteredSource, actor: str, act: str, **detail: object) -> None:
    about = json.dumps({"source": source.name, "id": source.id, **detail})
    jobs.audit(
        connection, organisation_id=source.organisation_id, actor=actor, action=f"source.{act}", detail=about
    )  # fmt: skip
