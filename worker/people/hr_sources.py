"""HR sources: made, rotated, disabled; and which of them a request comes from."""

import base64
import re
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta

import structlog
from sqlalchemy import Connection

from worker.access.sealing import Seal
from worker.config import Settings
from worker.database import Database
from worker.errors import ConflictError, InvalidInputError, NotFoundError
from worker.ledger import hr_sources, jobs
from worker.ledger.hr_sources import Source

log = structlog.get_logger(__name__)

KINDS = {
    "standard": "Standard Webhooks, at /hooks/hr/",
    "okta": "Okta event hooks, at /hooks/okta/",
    "bamboohr": "BambooHR webhooks, at /hooks/bamboohr/",
}
PATHS = {"standard": "/hooks/hr", "okta": "/hooks/okta", "bamboohr": "/hooks/bamboohr"}
POLICIES = ("withdraw", "hold", "ignore")
RESERVED = ("cli", "scim", "api", "console")
"""Names of the other doors that events of persons come through."""
MOST_GRACE_HOURS = 8760
_NAME = re.compile(r"[a-z][a-z0-9-]{0,62}")
_NUMBER = re.compile(r"[0-9]{1,18}")
_UNKNOWN = "whsec_" + base64.b64encode(b"nobody has this secret, it is for show").decode()


@dataclass(frozen=True, slots=True)
class NewSecret:
    """A source with a secret that cannot be shown again."""

    source: Source
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
) -> NewSecret:
    """Let an HR system send events. `secret`: the one that it has made itself; None: a new one.

    Raises:
        InvalidInputError: name, kind, policy, grace period or secret is wrong; names which.
        ConflictError: a live source of the organisation has this name.
        SettingsError: there is no key to seal the secret with.
    """
    if not _NAME.fullmatch(name) or name in RESERVED:
        raise InvalidInputError(
            "name: stands in the URL: a letter, then letters, digits and hyphens, at most 63, all small; "
            f"not {', '.join(RESERVED)}"
        )
    if kind not in KINDS:
        raise InvalidInputError(f"kind: {kind[:40]!r} is none; use {', '.join(KINDS)}")
    if on_deactivate not in POLICIES:
        raise InvalidInputError(f"on_deactivate: {on_deactivate[:40]!r} is none; use {', '.join(POLICIES)}")
    if not 0 <= grace_hours <= MOST_GRACE_HOURS:
        raise InvalidInputError(f"grace_hours: between 0 and {MOST_GRACE_HOURS}")
    secret = _checked(kind, secret) if secret is not None else _new_secret(kind)
    sealed = seal(settings).seal(secret.encode())

    def work(connection: Connection) -> Source:
        made = hr_sources.insert(
            connection,
            organisation_id=organisation_id,
            name=name,
            kind=kind,
            on_deactivate=on_deactivate,
            grace_hours=grace_hours,
            secret=sealed,
            created_by=actor,
        )
        if made is None:
            for known, its_secrets in hr_sources.candidates(connection, kind, name):
                if its_secrets[0] == sealed:  # the answer to the first commit was lost
                    return known
            raise ConflictError(f"name: a source {name!r} exists; rotate its secret, or disable it first")
        jobs.audit(connection, organisation_id=organisation_id, actor=actor, action="source.create")
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
) -> NewSecret:
    """Give a source a new secret; the one before stays good for `keep_hours`, so that nothing is lost meanwhile.

    Raises:
        NotFoundError: there is no such live source in this organisation.
        InvalidInputError: the secret or the hours are wrong.
    """
    if not 0 <= keep_hours <= MOST_GRACE_HOURS:
        raise InvalidInputError(f"keep_hours: between 0 and {MOST_GRACE_HOURS}")
    kind = next((item.kind for item in list_sources(database, organisation_id) if item.id == source_id), "standard")
    secret = _checked(kind, secret) if secret is not None else _new_secret(kind)
    sealed = seal(settings).seal(secret.encode())

    def work(connection: Connection) -> Source:
        source, its_secret = hr_sources.lock(connection, organisation_id, source_id) or (None, None)
        if source is None:
            raise NotFoundError(f"there is no live source {source_id} in this organisation")
        if its_secret == sealed:  # the answer to the first commit was lost
            return source
        jobs.audit(connection, organisation_id=organisation_id, actor=actor, action="source.rotate")
        return hr_sources.rotate(connection, source_id, secret=sealed, keep=timedelta(hours=keep_hours))

    source = database.run(work)
    log.info("source.rotated", source_id=source.id, organisation_id=organisation_id)
    return NewSecret(source, secret)


def disable(database: Database, *, organisation_id: int, source_id: int, actor: str) -> Source:
    """Accept nothing of a source any more; doing it again changes nothing.

    Raises:
        NotFoundError: there is no such source in this organisation.
    """

    def work(connection: Connection) -> Source:
        source = hr_sources.disable(connection, organisation_id, source_id)
        if source is None:
            raise NotFoundError(f"there is no source {source_id} in this organisation")
        jobs.audit(connection, organisation_id=organisation_id, actor=actor, action="source.disable")
        return source

    source = database.run(work)
    log.info("source.disabled", source_id=source.id, organisation_id=organisation_id)
    return source


def list_sources(database: Database, organisation_id: int) -> list[Source]:
    """Every source of an organisation, newest first, without secrets."""
    with database.begin() as connection:
        return hr_sources.list_sources(connection, organisation_id)


def authenticate(
    database: Database, settings: Settings, *, kind: str, called: str, genuine: Callable[[str], bool]
) -> Source | None:
    """The source called by name or number whose secret makes a request `genuine`; None whatever is wrong.

    Names are an organisation's own, so several organisations may have one: the secret tells them apart. With
    no source of the name a secret of nobody's is tried, so that the answer takes about as long.
    """
    opener = seal(settings)
    named = _NAME.fullmatch(called) or _NUMBER.fullmatch(called)  # else it may be what the database cannot even read
    found = database.run(lambda connection: hr_sources.candidates(connection, kind, called)) if named else []
    for source, sealed in found:
        for secret in _opened(opener, source, sealed):
            if genuine(secret):
                return source
    if not found:
        genuine(_UNKNOWN)
    return None


def seal(settings: Settings) -> Seal:
    """What opens and closes the secrets of sources."""
    return Seal(settings, "hr-secret")


def _opened(opener: Seal, source: Source, sealed: Sequence[str]) -> list[str]:
    opened = [opener.open(secret) for secret in sealed]
    if None in opened:
        log.error("source.secret_cannot_be_opened", source_id=source.id)  # WITHDRAWALS_SECRET_KEY lost a key
    return [secret.decode() for secret in opened if secret is not None]


def _new_secret(kind: str) -> str:
    if kind == "standard":
        return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
    return secrets.token_urlsafe(32)


def _checked(kind: str, secret: str) -> str:
    secret = secret.strip()
    if len(secret) < 16 or not secret.isascii() or not secret.isprintable():
        raise InvalidInputError("secret: at least 16 plain characters")
    if kind == "standard":
        try:
            enough = len(base64.b64decode(secret.removeprefix("whsec_"), validate=True)) >= 16
        except ValueError:
            enough = False
        if not secret.startswith("whsec_") or not enough:
            raise InvalidInputError("secret: `whsec_` and at least 16 bytes in base64")
    return secret
