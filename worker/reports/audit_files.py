"""The audit as a file: JSON Lines of OCSF events, with the chain of hashes in it, and its verification.

Each act is an event of the class API Activity (6003) of OCSF 1.6, a finished day ends with a Base Event that holds the
day's link. An act's `raw_data` is the record as it was hashed; every other field is made from it, so nothing in the
file can be changed without the link telling. Of a record from which a person was erased, `raw_data_hash` is the hash of
what it was. A verification needs the file alone. The hash of its last link is to be
compared with one that was kept elsewhere, since whoever can write the whole file can also make a chain.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import IO, Any

from sqlalchemy import Connection

from worker.ledger import audit_log
from worker.ledger.books import audit_chain
from worker.ledger.books.audit_chain import FIRST, Link, link_hash

SEALED = "audit.day_sealed"
"""The event code of a link."""
_MOST_FAULTS = 20
_CREATE, _UPDATE, _DELETE = (1, "Create"), (3, "Update"), (4, "Delete")
_VERBS = {
    **dict.fromkeys(("create", "submit", "propose", "start"), _CREATE),
    **dict.fromkeys(("revoke", "disable", "delete"), _DELETE),
}
_PRODUCT = {"name": "withdrawals", "vendor_name": "withdrawals"}


def export_days(connection: Connection, organisation_id: int, first: date, last: date) -> Iterator[str]:
    """The lines of the acts of some days (UTC), each day's by rising id, and the link of each that is finished."""
    links = {one.day: one for one in audit_chain.list_links(connection, organisation_id, since=first, until=last)}
    for number in range((last - first).days + 1):
        day = first + timedelta(days=number)
        for record, erased_hash in audit_log.records_of_day(connection, organisation_id, day):
            event = event_of(record)
            if erased_hash is not None:
                event["raw_data_hash"] = {"algorithm": "SHA-256", "algorithm_id": 3, "value": erased_hash.hex()}
            yield _line(event)
        if day in links:
            yield _line(event_of_link(organisation_id, links[day]))


def event_of(record: str) -> dict[str, Any]:
    """A record of the audit as an event of OCSF's class API Activity."""
    act = json.loads(record)
    activity_id, activity = _VERBS.get(act["action"].rpartition(".")[2], _UPDATE)
    objects = {"job": act["job_id"], "dead_letter": act["dead_letter_id"]}
    event = {
        "class_uid": 6003,
        "class_name": "API Activity",
        "category_uid": 6,
        "category_name": "Application Activity",
        "activity_id": activity_id,
        "activity_name": activity,
        "type_uid": 600300 + activity_id,
        "severity_id": 1,
        "status_id": 1,
        "time": _milliseconds(act["at"]),
        "message": act["note"],
        "metadata": {
            "version": "1.6.0",
            "product": _PRODUCT,
            "uid": str(act["id"]),
            "event_code": act["action"],
            "original_time": act["at"],
            "tenant_uid": str(act["organisation_id"]),
        },
        "actor": {"user": {"name": act["actor"]}},
        "api": {"operation": act["action"], "service": {"name": "withdrawals"}},
        "src_endpoint": {"svc_name": act["actor"].partition(":")[0]},
        "resources": [{"type": kind, "uid": str(uid)} for kind, uid in objects.items() if uid is not None],
        "unmapped": act["detail"],
        "raw_data": record,
    }
    return {name: value for name, value in event.items() if value not in (None, [], {})}


def event_of_link(organisation_id: int, link: Link) -> dict[str, Any]:
    """A link of the chain as a Base Event of OCSF."""
    chain = {
        "day": link.day.isoformat(),
        "after": link.after.isoformat() if link.after else None,
        "row_count": link.row_count,
        "previous_hash": link.before.hex(),
        "hash": link.hash.hex(),
    }
    if link.pruned:
        chain["pruned"] = link.pruned
    return {
        "class_uid": 0,
        "class_name": "Base Event",
        "category_uid": 0,
        "activity_id": 99,
        "activity_name": "Seal",
        "type_uid": 99,
        "severity_id": 1,
        "time": _milliseconds(f"{link.day + timedelta(days=1)}T00:00:00Z"),
        "metadata": {
            "version": "1.6.0",
            "product": _PRODUCT,
            "event_code": SEALED,
            "tenant_uid": str(organisation_id),
        },
        "unmapped": chain,
    }


@dataclass(slots=True)
class Verified:
    """What a file proves."""

    records: int = 0
    erased: int = 0
    """Records from which a person was erased: only the hash of what they were is proved."""
    pruned: int = 0
    """Records that were pruned before the export: of their days the number alone is proved."""
    sealed_days: int = 0
    unsealed_days: list[str] = field(default_factory=list)
    """Days with records that have no link in the file, such as today."""
    head_day: str | None = None
    head: str | None = None
    """The hash of the last link."""
    faults: list[str] = field(default_factory=list)
    """The first faults, by line."""


def verify(lines: Iterable[str]) -> Verified:
    """Check every record of an exported file, and the links between its days."""
    return _Verification().run(lines)


class _Verification:
    def __init__(self) -> None:
        self.found = Verified()
        self._day: str | None = None
        self._rows, self._records, self._last_id = 0, hashlib.sha256(), 0
        self._tenant: str | None = None

    def run(self, lines: Iterable[str]) -> Verified:
        for number, line in enumerate(lines, start=1):
            try:
                self._take(json.loads(line))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                why = str(error) if isinstance(error, _FaultError) else "not a line of an exported audit"
                if len(self.found.faults) < _MOST_FAULTS:
                    self.found.faults.append(f"line {number}: {why}")
        self._leave_day()
        return self.found

    def _take(self, event: dict[str, Any]) -> None:
        tenant = event["metadata"]["tenant_uid"]
        if self._tenant not in (None, tenant):
            raise _FaultError("of another organisation than the lines before")
        self._tenant = tenant
        if event["metadata"]["event_code"] == SEALED:
            self._take_link(event["unmapped"])
        else:
            self._take_record(event)

    def _take_record(self, event: dict[str, Any]) -> None:
        record = event["raw_data"]
        act = json.loads(record)
        day = act["at"][:10]
        if self._day is not None and day < self._day:
            raise _FaultError(f"of {day}, after a line of {self._day}")
        if day != self._day:
            self._leave_day()
            if self.found.head_day is not None and day <= self.found.head_day:
                raise _FaultError(f"of {day}, after the link of that day")
            self._day = day
        self.found.records += 1
        self._rows += 1
        erased = event.pop("raw_data_hash", None)
        if erased is None:
            self._records.update(hashlib.sha256(record.encode()).digest())
        else:
            self.found.erased += 1
            self._records.update(bytes.fromhex(erased["value"]))
        if act["id"] <= self._last_id:
            raise _FaultError("not in the order of ids")
        self._last_id = act["id"]
        if event != event_of(record):
            raise _FaultError("its fields say something else than its raw_data")

    def _take_link(self, link: dict[str, Any]) -> None:
        if self._day is not None and self._day != link["day"]:
            self._leave_day()
        before, own = bytes.fromhex(link["previous_hash"]), bytes.fromhex(link["hash"])
        rows, records = self._rows, self._records.digest()
        known_day, known = self.found.head_day, self.found.head
        self._day = None
        self._start_day()
        self.found.sealed_days += 1
        self.found.head_day, self.found.head = link["day"], link["hash"]
        pruned = int(link.get("pruned", 0))
        self.found.pruned += pruned
        if rows + pruned != link["row_count"] or (not pruned and link_hash(before, records) != own):
            raise _FaultError(f"the records of {link['day']} are not those of its link ({rows} of {link['row_count']})")
        unlinked = [day for day in self.found.unsealed_days if day > (known_day or "")]
        if unlinked and link["after"] is not None:
            raise _FaultError(f"the link of {link['day']} comes after {unlinked[0]}, which has none")
        follows = (link["after"], link["previous_hash"])
        if known is not None and follows != (known_day, known):
            raise _FaultError(f"the link of {link['day']} does not follow the link of {known_day}")
        if link["after"] is None and before != FIRST:
            raise _FaultError("the first link of a chain follows something")

    def _leave_day(self) -> None:
        if self._day is not None:
            self.found.unsealed_days.append(self._day)
        self._day = None
        self._start_day()

    def _start_day(self) -> None:
        self._rows, self._records, self._last_id = 0, hashlib.sha256(), 0


class _FaultError(ValueError):
    """What is wrong with a line."""


def write(lines: Iterable[str], target: IO[str]) -> int:
    """Write lines to a file; how many."""
    written = 0
    for line in lines:
        target.write(line)
        written += 1
    return written


def _line(event: dict[str, Any]) -> str:
    return json.dumps(event, separators=(",", ":"), ensure_ascii=False) + "\n"


def _milliseconds(at: str) -> int:
    return round(datetime.fromisoformat(at).timestamp() * 1000)
