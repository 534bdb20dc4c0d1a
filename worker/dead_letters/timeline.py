"""What happened, in the order of time and in plain words: of a dead letter, and of an enrolment. Pure.

A word that is not known here (a later kind of act, a later outcome) is shown as it is.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from worker.records import DeadLetter

Row = Mapping[str, Any]

_WORDS = {
    "dead_letter.redrive": "asked to try it again",
    "dead_letter.override": "decided to withdraw it although a pathway owns it (override)",
    "dead_letter.cascade": "decided to withdraw it with the learner's others in the pathway (cascade)",
    "dead_letter.keep": "decided that it stays as it is (keep)",
    "dead_letter.discard": "discarded the letter",
    "dead_letter.note": "left a note",
    "job.cancel": "cancelled the job",
    "job.pause": "paused the job",
    "job.resume": "let the job go on",
    "job.release": "released the job",
    "job.move": "moved the job to another time",
    "job.reinstate": "asked for the job to be undone",
}


def of_letter(letter: DeadLetter, acts: Sequence[Row], met: Sequence[Row]) -> list[dict[str, Any]]:
    """The history of a letter; `letter` was read with its attempts, `acts` and `met` are the ledger's."""
    told = [_event(letter.opened_at, "the letter was opened", job_id=letter.job_id)]
    told += [
        _event(row["at"], "another job came to the letter", job_id=row["job_id"])
        for row in met
        if row["job_id"] != letter.job_id and row["at"] is not None
    ]
    told += [act(row) for row in acts if row["action"] != "outcome.replaced"]  # the attempts tell of these
    told += [_attempt(row) for row in letter.attempts]
    if letter.closed_at is not None:
        what = f"the letter was closed: {letter.state} ({letter.remedy})"
        told.append(_event(letter.closed_at, what, who=letter.closed_by))
    if letter.evidence_dropped_at is not None:
        told.append(_event(letter.evidence_dropped_at, "its evidence was dropped, its time was over"))
    return in_order(told)


def act(row: Row) -> dict[str, Any]:
    """A row of the audit as an event."""
    known = {key: row[key] for key in ("note", "job_id", "dead_letter_id")}
    return _event(row["at"], _said(row), who=row["actor"], **known)


def in_order(events: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Events by time; what happened at one moment stays in the order told."""
    return sorted(events, key=lambda event: event["at"])


def changes(counts: str | Mapping[str, int]) -> str:
    """What an attempt changed: `pathway_owned became withdrawn`."""
    found = json.loads(counts) if isinstance(counts, str) else counts
    before = ", ".join(name for name, change in found.items() if change < 0)
    after = ", ".join(f"{change} {name}" if change > 1 else name for name, change in found.items() if change > 0)
    return f"{before} became {after}" if before and after else after or "nothing changed"


def _said(row: Row) -> str:
    action, detail = row["action"], row["detail"]
    if action == "dead_letter.assign":
        before = f" (it was {detail['before']}'s)" if detail.get("before") else ""
        return (f"gave it to {detail['after']}" if detail.get("after") else "gave it to nobody") + before
    if action == "outcome.replaced":
        return f"the outcome {detail.get('before')} became {detail.get('after')}"
    return _WORDS.get(action, str(action))


def _attempt(row: Row) -> dict[str, Any]:
    if row["error_class"] is not None:
        if row["result"] == "vanished":
            return _event(row["ended_at"], "an attempt was lost: its worker was not heard of again")
        return _event(row["ended_at"], f"an attempt failed: {row['error_class']}: {row['message']}")
    who, job_id = row["asked_by"], row["job_id"]
    if row["ended_at"] is None:
        return _event(row["started_at"] or row["asked_at"], "an attempt is on its way", who=who, job_id=job_id)
    if row["result"] == "failed":
        return _event(row["ended_at"], "an attempt was given up", who=who, job_id=job_id)
    return _event(row["ended_at"], f"an attempt: {changes(row['message'])}", who=who, job_id=job_id)


def _event(at: Any, what: str, *, who: str | None = None, **more: Any) -> dict[str, Any]:
    return {"at": at, "what": what, "who": who, "note": None, "job_id": None, "dead_letter_id": None, **more}
