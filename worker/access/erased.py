"""Persons who were erased: known again by a keyed hash of their external id, which is all that is kept of it.

The key is random, one for each organisation, and sealed with WITHDRAWALS_SECRET_KEY: whoever has only the database, or
a backup of it, cannot try external ids one after the other.
"""

import hashlib
import hmac
import secrets
from collections.abc import Sequence
from datetime import datetime

import structlog
from sqlalchemy import Connection

from worker.access.sealing import Seal
from worker.config import Settings, settings
from worker.errors import ErasedPersonError
from worker.ledger import erasures

log = structlog.get_logger(__name__)


def erasure_seal(current: Settings) -> Seal:
    """What seals the keys of organisations."""
    return Seal(current, "erasure-key")


def find(
    connection: Connection, organisation_id: int, sealed_key: str | None, external_ids: Sequence[str]
) -> dict[str, datetime]:
    """Which of these persons are erased, with the time of their erasure; not those whom the platform has again.

    `sealed_key`: what `jobs.lock_settings` returned.
    """
    hashes = _hashes(organisation_id, sealed_key, external_ids)
    return erasures.find_standing(connection, organisation_id, hashes) if hashes else {}


def list_gone(
    connection: Connection, organisation_id: int, sealed_key: str | None, external_ids: Sequence[str]
) -> set[str]:
    """The same persons, for a caller that must not wait for the row of an erasure."""
    hashes = _hashes(organisation_id, sealed_key, external_ids)
    return erasures.list_gone(connection, organisation_id, hashes) if hashes else set()


def _hashes(organisation_id: int, sealed_key: str | None, external_ids: Sequence[str]) -> dict[bytes, str]:
    """External ids by their hash; empty: nobody was erased, or the key cannot be opened."""
    if sealed_key is None or not external_ids:
        return {}
    key = erasure_seal(settings()).open(sealed_key)
    if key is None:  # doctor says so too; HR events must not wait for it
        log.error("erasures.key_not_opened", organisation_id=organisation_id)
        return {}
    return {person_hash(key, one): one for one in external_ids}


def require_not(connection: Connection, organisation_id: int, external_id: str, sealed_key: str | None) -> None:
    """Refuse what would store the external id of an erased person again.

    Raises:
        ErasedPersonError: the person was erased, and the platform does not have them as active.
    """
    erased_at = find(connection, organisation_id, sealed_key, [external_id]).get(external_id)
    if erased_at is not None:
        raise ErasedPersonError(erased_at)


def open_or_make_key(connection: Connection, organisation_id: int, sealed_key: str | None) -> bytes:
    """The organisation's key, made and stored if it has none. Its settings are locked.

    Raises:
        SettingsError: no key of WITHDRAWALS_SECRET_KEY opens it.
    """
    seal = erasure_seal(settings())
    if sealed_key is None:
        key = secrets.token_bytes(32)
        erasures.set_key(connection, organisation_id, seal.seal(key))
        return key
    return seal.require(sealed_key, what="the key of erased persons")


def lift(connection: Connection, organisation_id: int, sealed_key: str | None, external_id: str) -> bool:
    """Let events about an erased person count again, because they are back; False: nobody so was erased."""
    key = erasure_seal(settings()).open(sealed_key) if sealed_key is not None else None
    return key is not None and erasures.lift(connection, organisation_id, [person_hash(key, external_id)]) > 0


def person_hash(key: bytes, external_id: str) -> bytes:
    """HMAC-SHA256 of an external id."""
    return hmac.digest(key, external_id.encode(), hashlib.sha256)


def pseudonym(hashed: bytes) -> str:
    """What stands in the place of an external id: the same for the same person, and nobody else's."""
    return f"erased-{hashed.hex()[:16]}"
