"""Publishers of security events (RFC 8417): who they are, for whom their events are, and their public keys.

A source of kind `security-events` has a document in place of a secret: the publisher's JWK set (RFC 7517), with the
members `issuer` and `audience` beside `keys`. The keys are given and not fetched: the door asks nobody. The publisher's
next keys are given by `sources rotate`, and the ones before are accepted for a while.
"""

import json
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from worker.access.public_keys import Key, open_signed, parse_keys
from worker.errors import InvalidInputError
from worker.texts import text

MAX_DOCUMENT = 65_536
"""Characters."""


@dataclass(frozen=True, slots=True)
class Publisher:
    """Who issues events, and for whom."""

    issuer: str
    audience: str
    keys: tuple[Key, ...]

    def open(self, token: str) -> tuple[dict[str, Any], bytes] | None:
        """Header and payload of a token with one of these keys' signature; None: it has none."""
        return open_signed(token, self.keys)


def check(document: str) -> str:
    """The document of a publisher, as it is kept.

    Raises:
        InvalidInputError: it is not one; the message says why.
    """
    if len(document) > MAX_DOCUMENT:
        raise InvalidInputError(
            text("secret: the publisher's document may have at most {most:,} characters", most=MAX_DOCUMENT)
        )
    publisher = read(document)
    if publisher is None:
        raise InvalidInputError(
            text(
                "secret: must be a JSON object with the publisher's public keys for signatures (RSA or EC): "
                '{{"issuer": …, "audience": …, "keys": […]}}'
            )
        )
    return json.dumps(json.loads(document), separators=(",", ":"))


@lru_cache(maxsize=256)
def read(document: str) -> Publisher | None:
    """The publisher of a document; None: it is not such a document."""
    try:
        value = json.loads(document)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict):
        return None
    issuer, audience, keys = value.get("issuer"), value.get("audience"), tuple(parse_keys(value))
    if not (isinstance(issuer, str) and issuer and isinstance(audience, str) and audience and keys):
        return None
    return Publisher(issuer, audience, keys)
