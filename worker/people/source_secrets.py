"""The secrets of HR sources, and the keys of HR systems' APIs: made, checked and sealed."""

import base64
import secrets

from worker.access.sealing import Seal
from worker.config import Settings
from worker.errors import InvalidInputError
from worker.people import event_publishers
from worker.texts import text
from worker.webhooks import safe_post

API_KEYS = {
    "hibob": text("the service user's id and token, with a colon between"),
    "personio": text("the API client's id and secret, with a colon between"),
    "finch": text("the access token of the connection"),
}
"""The kinds whose API is asked about each event, and what their key is."""


def source_seal(settings: Settings) -> Seal:
    """Seals and opens the secrets of sources."""
    return Seal(settings, "hr-secret")


def check_api(settings: Settings, kind: str, key: str | None, url: str | None) -> tuple[str, str | None]:
    """The sealed key and the address of an API; None: the usual one.

    Raises:
        InvalidInputError: nothing is asked of sources of this kind, or the key or the URL is wrong.
    """
    if kind not in API_KEYS:
        raise InvalidInputError(
            text("api_key: nothing is asked of a source of kind {kind!r}. Leave it out.", kind=kind)
        )
    key = (key or "").strip()
    if len(key) < 8 or not key.isascii() or not key.isprintable() or ("colon" in API_KEYS[kind] and ":" not in key):
        raise InvalidInputError(text("api_key: is needed for kind {kind!r}: {key}.", kind=kind, key=API_KEYS[kind]))
    if url is not None:
        try:
            safe_post.check_url(url, allow_private=settings.webhooks_allow_private)
        except InvalidInputError as refused:
            raise InvalidInputError(text("api_{fault}", fault=refused.args[0])) from None
    return source_seal(settings).seal(key.encode()), url.rstrip("/") if url else None


def new_secret(kind: str) -> str:
    """A secret for a source whose HR system takes ours.

    Raises:
        InvalidInputError: the kind has one that the HR system makes.
    """
    if kind == "security-events":
        raise InvalidInputError(
            text("secret: is needed for kind 'security-events': the publisher's document with its keys")
        )
    if kind == "standard":
        return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
    return secrets.token_urlsafe(32)


def check_secret(kind: str, secret: str) -> str:
    """A secret that the HR system made, as it is kept.

    Raises:
        InvalidInputError: it is not one of this kind; the message says why.
    """
    secret = secret.strip()
    if kind == "security-events":
        return event_publishers.check(secret)
    if len(secret) < 16 or not secret.isascii() or not secret.isprintable():
        raise InvalidInputError(text("secret: use at least 16 printable ASCII characters"))
    if kind == "standard":
        try:
            enough = len(base64.b64decode(secret.removeprefix("whsec_"), validate=True)) >= 16
        except ValueError:
            enough = False
        if not secret.startswith("whsec_") or not enough:
            raise InvalidInputError(text("secret: must be `whsec_` followed by at least 16 bytes in base64"))
    if kind == "finch":
        try:
            base64.b64decode(secret, validate=True)
        except ValueError:
            raise InvalidInputError(text("secret: must be the base64 that Finch shows")) from None
    return secret
