"""A monthly attestation: who left, when, withdrawn after how long, and what is open; as a file that can be verified.

JSON Lines: a head, a line for each person, and an end with the counts, the SHA-256 of all lines before it, and that
hash sealed with the installation's key. Whoever has the key verifies that nothing was changed, added or left out.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from sqlalchemy import Connection

from worker.access.sealing import Seal
from worker.config import Settings
from worker.errors import InvalidInputError
from worker.jobs.calendar import end_of_day
from worker.ledger import attestations, jobs
from worker.ledger.attestations import Leaver

_HEAD, _LEAVER, _END = "attestation", "leaver", "attestation_end"


def make(connection: Connection, settings: Settings, organisation_id: int, month: str) -> Iterator[str]:
    """The lines of a month's attestation. `month`: such as 2026-10, in the organisation's time zone.

    Raises:
        InvalidInputError: that is no month, or it has not begun.
    """
    begin, end = _bounds(connection, organisation_id, month)
    now = jobs.database_now(connection)
    if begin > now:
        raise InvalidInputError("month: has not begun")
    hashed, counts = hashlib.sha256(), {"left": 0, "withdrawn": 0, "open_enrolments": 0, "open_letters": 0}
    head = {"type": _HEAD, "organisation_id": organisation_id, "month": month, "from": _time(begin), "to": _time(end)}
    yield _line({**head, "made_at": _time(now), "month_is_over": end <= now}, hashed)
    for leaver in attestations.stream_leavers(connection, organisation_id, begin=begin, end=end):
        counts["left"] += 1
        for name in ("withdrawn", "open_enrolments", "open_letters"):
            counts[name] += getattr(leaver, name)
        yield _line(_leaver(leaver), hashed)
    digest = hashed.hexdigest()
    sealed = Seal(settings, "attestation").seal(digest.encode())
    yield json.dumps({"type": _END, "counts": counts, "sha256": digest, "signature": sealed}) + "\n"


@dataclass(frozen=True, slots=True)
class Attested:
    """What a file proves."""

    month: str
    organisation_id: int
    made_at: str
    counts: dict[str, int]


def verify(settings: Settings, lines: Iterable[str]) -> Attested:
    """Check an attestation that this installation has made.

    Raises:
        InvalidInputError: it was changed, is not whole, or was made with another key.
    """
    hashed, head, end, left = hashlib.sha256(), None, None, 0
    for number, line in enumerate(lines, start=1):
        found = _parse(line, number)
        if end is not None:
            raise InvalidInputError(f"line {number}: follows the end of the attestation")
        if found.get("type") == _END:
            end = found
            continue
        hashed.update(line.encode())
        head = head or found
        left += found.get("type") == _LEAVER
    if head is None or head.get("type") != _HEAD or end is None:
        raise InvalidInputError("this is no whole attestation: its first or its last line is missing")
    opened = Seal(settings, "attestation").open(str(end.get("signature")))
    if opened is None:
        raise InvalidInputError("the signature was not made with a key of this installation (WITHDRAWALS_SECRET_KEY)")
    if (
        opened.decode() != hashed.hexdigest()
        or end.get("sha256") != hashed.hexdigest()
        or end["counts"]["left"] != left
    ):
        raise InvalidInputError("the lines are not those that were signed: something was changed, added or left out")
    return Attested(head["month"], head["organisation_id"], head["made_at"], end["counts"])


def _bounds(connection: Connection, organisation_id: int, month: str) -> tuple[datetime, datetime]:
    if not re.fullmatch(r"[12]\d{3}-(0[1-9]|1[0-2])", month):
        raise InvalidInputError("month: not a month. Example: 2026-10.")
    first = date.fromisoformat(f"{month}-01")
    following = (first + timedelta(days=31)).replace(day=1)
    zone = jobs.timezone(connection, organisation_id)
    begin, end = (end_of_day(day - timedelta(days=1), zone, field="month") for day in (first, following))
    return begin, end


def _leaver(one: Leaver) -> dict[str, Any]:
    after = None if one.withdrawn_at is None else int((one.withdrawn_at - one.left_at).total_seconds())
    return {
        "type": _LEAVER,
        "learner_external_id": one.external_id,
        "source": one.source,
        "left_at": _time(one.left_at),
        "withdrawn": one.withdrawn,
        "withdrawn_at": _time(one.withdrawn_at),
        "withdrawn_after_seconds": after,
        "open_enrolments": one.open_enrolments,
        "open_letters": one.open_letters,
    }


def _time(value: datetime | None) -> str | None:
    return None if value is None else value.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _line(value: dict[str, Any], hashed: "hashlib._Hash") -> str:
    line = json.dumps(value, ensure_ascii=False) + "\n"
    hashed.update(line.encode())
    return line


def _parse(line: str, number: int) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise InvalidInputError(f"line {number}: not a line of an attestation")
    return found
