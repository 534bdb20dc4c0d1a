"""Rotation of WITHDRAWALS_SECRET_KEY: what older keys have sealed is sealed anew with the first one."""

from dataclasses import dataclass, field

import structlog

from worker.access.sealing import Seal
from worker.config import Settings
from worker.database import Database
from worker.ledger import sealed

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class SealedValues:
    """Values by where they are."""

    older: dict[str, int] = field(default_factory=dict)
    """Sealed by a key that is not the first."""
    unreadable: dict[str, int] = field(default_factory=dict)
    """Sealed by a key that is not set any more."""


def look(database: Database, settings: Settings) -> SealedValues:
    """Which values an older key has sealed, or one that is gone."""
    found = SealedValues()
    for place, (purpose, _, _) in sealed.PLACES.items():
        seal = Seal(settings, purpose)
        with database.begin() as connection:
            for _, value in sealed.read_all(connection, place):
                kind = found.unreadable if seal.open(value) is None else found.older
                if not seal.is_newest(value):
                    kind[place] = kind.get(place, 0) + 1
    return found


def reseal(database: Database, settings: Settings) -> dict[str, int]:
    """Seal anew with the first key what an older one has sealed; how many values, by where they are.

    Each is a transaction of its own. A run that was interrupted goes on where it was; a value that changes meanwhile is
    left alone, because whoever changes it seals it with the first key too.
    """
    counts: dict[str, int] = {}
    for place, (purpose, _, _) in sealed.PLACES.items():
        seal = Seal(settings, purpose)
        with database.begin() as connection:
            values = list(sealed.read_all(connection, place))
        for row_key, value in values:
            opened = None if seal.is_newest(value) else seal.open(value)
            if opened is not None and _replace(database, place, row_key, value, seal.seal(opened)):
                counts[place] = counts.get(place, 0) + 1
    log.info("keys.resealed", values=sum(counts.values()))
    return counts


def _replace(database: Database, place: str, row_key: int, before: str, after: str) -> bool:
    return database.run(
        lambda connection: sealed.replace(connection, place, row_key, before=before, after=after), patient=True
    )
