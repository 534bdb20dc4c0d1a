"""Public keys of others, and what they have signed (RFC 7515, RFC 7517)."""

import base64
import json
from collections.abc import Iterable, Mapping
from typing import Any

from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, JWKRegistry, RSAKey

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512")
"""Signatures with a public key alone: with `none` or a shared secret anybody, or every holder of it, makes tokens."""
FAULTS = (JoseError, ValueError, TypeError, KeyError, AttributeError, RecursionError)
"""What the libraries raise about tokens that are wrong in whatever way."""
_MOST_KEYS = 50

Key = RSAKey | ECKey


def parse_keys(document: Mapping[str, Any]) -> list[Key]:
    """The public keys for signatures of a JWK set; what else stands there, or cannot be read, is left out."""
    keys: list[Key] = []
    listed = document.get("keys")
    for item in (listed if isinstance(listed, list) else [])[:_MOST_KEYS]:
        if not isinstance(item, dict) or item.get("kty") not in ("RSA", "EC") or item.get("use", "sig") != "sig":
            continue
        try:
            key = JWKRegistry.import_key(item)
        except (JoseError, ValueError, TypeError, KeyError):
            continue
        if isinstance(key, RSAKey | ECKey):
            keys.append(key)
    return keys


def read_header(token: str) -> dict[str, Any]:
    """The header of a token, whose algorithm is one of `ALGORITHMS` and whose key id, if there is one, is text.

    Raises:
        Exception: one of `FAULTS`: it has no such header.
    """
    head = token.partition(".")[0]
    header = json.loads(base64.urlsafe_b64decode(head + "=" * (-len(head) % 4)))
    if header.get("alg") not in ALGORITHMS or not isinstance(header.get("kid"), str | None):
        raise ValueError("alg")
    return dict(header)


def open_signed(token: str, keys: Iterable[Key]) -> tuple[dict[str, Any], bytes] | None:
    """Header and payload of a compact JWS that one of the keys has signed; None: none has, or it is malformed."""
    try:
        kid = read_header(token).get("kid")
    except FAULTS:
        return None
    for key in keys:
        if kid is not None and key.kid is not None and key.kid != kid:
            continue
        try:
            found = jws.deserialize_compact(token, key, algorithms=list(ALGORITHMS))
        except FAULTS:
            continue
        return dict(found.protected), found.payload
    return None
