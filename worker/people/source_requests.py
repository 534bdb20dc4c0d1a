"""Which HR source sent a request: the one whose secret makes it genuine, from memory where that will do."""

import base64
from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

import structlog
from sqlalchemy import Connection

from worker.access.memory import NEEDS_DATABASE, Memory, NeedsDatabase
from worker.access.sealing import Seal
from worker.config import Settings
from worker.database import Database
from worker.errors import InvalidInputError
from worker.ids import parse_id
from worker.ledger import hr_sources
from worker.ledger.hr_sources import Refusal, RegisteredSource
from worker.people import refused
from worker.people.hr_sources import NAME
from worker.people.source_secrets import source_seal

log = structlog.get_logger(__name__)

_DUMMY_SECRET = "whsec_" + base64.b64encode(b"a secret that belongs to no source").decode()

Candidate = tuple[RegisteredSource, list[str]]
"""A live source with its one or two secrets, opened."""
_memory: Memory[tuple[str, str], list[Candidate]] = Memory()
"""Live sources by kind and by name or id."""


def authenticate(
    database: Database,
    settings: Settings,
    *,
    kind: str,
    called: str,
    genuine: Callable[[str], bool],
    mistimed: Callable[[str], bool] = lambda _: False,
) -> RegisteredSource | None:
    """The source with this name or id whose secret makes a request `genuine`; None whatever is wrong.

    Several organisations may use the same name: the secret tells them apart. Without a source of that name
    a dummy secret is checked, so that the answer takes about as long.

    A refused request is counted for the page of the source, unless sources of several organisations have the name: then
    nobody knows whose it was. `mistimed`: whether it would be genuine with this secret but for its time.
    """
    found = recall(database, kind=kind, called=called, genuine=genuine)
    if found is not NEEDS_DATABASE:
        return found
    read = partial(_read_candidates, settings, kind, called)
    candidates = _memory.find(database, (kind, called), read)
    source = _find_genuine(candidates or [], genuine)
    if source is None and candidates:  # a secret may be newer than what is remembered
        candidates = _memory.read_again(database, (kind, called), read) or []
        source = _find_genuine(candidates, genuine)
        if source is None and len(candidates) == 1:
            ((addressed, secrets),) = candidates
            why = Refusal.TIME if any(map(mistimed, secrets)) else Refusal.SIGNATURE
            refused.note(database, addressed.id, why)
    return source


def recall(
    database: Database, *, kind: str, called: str, genuine: Callable[[str], bool]
) -> RegisteredSource | Literal[NeedsDatabase.NEEDS_DATABASE] | None:
    """As `authenticate`, from memory alone: for callers that must not wait for the database.

    A request that no remembered secret makes genuine needs the database too: the secret may be newer than the memory.
    """
    if not NAME.fullmatch(called) and _parse_source_id(called) is None:
        return _find_genuine([], genuine)
    candidates = _memory.recall(database, (kind, called))
    source = _find_genuine(candidates, genuine) if candidates else None
    return source or NEEDS_DATABASE


def _find_genuine(candidates: Sequence[Candidate], genuine: Callable[[str], bool]) -> RegisteredSource | None:
    for source, opened in candidates:
        for secret in opened:
            if genuine(secret):
                return source
    if not candidates:
        genuine(_DUMMY_SECRET)
    return None


def _read_candidates(settings: Settings, kind: str, called: str, connection: Connection) -> list[Candidate] | None:
    """The live sources of a name or id, with their secrets opened; None: there is none."""
    source_id = None if NAME.fullmatch(called) else _parse_source_id(called)
    if source_id is None:
        found = hr_sources.find_by_name(connection, kind, called)
    else:
        found = hr_sources.find_by_id(connection, kind, source_id)
    seal = source_seal(settings)
    return [(source, _open(seal, source, sealed)) for source, sealed in found] or None


def _parse_source_id(called: str) -> int | None:
    try:
        return parse_id(called, "source")
    except InvalidInputError:
        return None


def _open(seal: Seal, source: RegisteredSource, sealed: Sequence[str]) -> list[str]:
    opened = [seal.open(secret) for secret in sealed]
    if None in opened:
        log.error("source.secret_not_opened", source_id=source.id)  # its key is missing in WITHDRAWALS_SECRET_KEY
    return [secret.decode() for secret in opened if secret is not None]
