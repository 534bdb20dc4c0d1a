"""The history of a dead letter or an enrolment, by time, in plain words. Pure.

A code without words here (a newer kind of act, a newer outcome) is shown as it is.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from worker.records import DeadLetter

Row = Mapping[str, Any]

_ACTS = {
    "dead_letter.redrive": "asked for another attempt",
    "dead_letter.override": "decided to withdraw it although a Learning Pathway owns it (override)",
    "dead_letter.cascade": "decided to withdraw it with the learner's others in the pathway (cascade)",
    "dead_letter.keep": "decided that it stays as it is (keep)",
    "dead_letter.discard": "discarded the letter",
    "dead_letter.note": "added a note",
    "protection.add": "protected it from being withdrawn",
    "protection.lift": "lifted a protection",
    "job.cancel": "cancelled the job",
    "job.pause": "paused the job",
    "job.resume": "resumed the job",
    "job.release": "released the job",
    "job.move": "moved the job to another time",
    "job.reinstate": "asked for the job to be undone",
}


def of_letter(letter: DeadLetter, acts: Sequence[Row], jobs: Sequence[Row]) -> list[dict[str, Any]]:
    """The history of a letter that was read with its attempts.

    `acts`: its rows of the audit. `jobs`: which jobs refer to it (`job_id`), and since when (`at`).
    """
    events = [_event(letter.opened_at, "the letter was opened", job_id=letter.job_id)]
    events += [
        _event(row["at"], "another job was added to the letter", job_id=row["job_id"])
        for row in jobs
        if row["job_id"] != letter.job_id and row["at"] is not None
    ]
    # The attempts themselves show which outcomes they replaced.
    events += [describe_act(row) for row in acts if row["action"] != "outcome.replaced"]
    events += [_describe_attempt(row) for row in letter.attempts]
    if letter.closed_at is not None:
        what = f"the letter was closed: {letter.state} ({letter.remedy})"
        events.append(_event(letter.closed_at, what, who=letter.closed_by))
    if letter.evidence_dropped_at is not None:
        events.append(_event(letter.evidence_dropped_at, "its evidence was dropped at the end of the retention time"))
    return sort_by_time(events)


def describe_act(row: Row) -> dict[str, Any]:
    """A row of the audit as an event."""
    known = {key: row[key] for key in ("note", "job_id", "dead_letter_id")}
    return _event(row["at"], _action(row), who=row["actor"], **known)


def sort_by_time(events: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Events by time; those of the same time stay in the order given."""
    return sorted(events, key=lambda event: event["at"])


def describe_counts(counts: str | Mapping[str, int]) -> str:
    """What an attempt changed: `pathway_owned became withdrawn`."""
    found = json.loads(counts) if isinstance(counts, str) else counts
    before = ", ".join(name for name, change in found.items() if change < 0)
    after = ", ".join(f"{change} {name}" if change > 1 else name for name, change in found.items() if change > 0)
    return f"{before} became {after}" if before and after else after or "nothing changed"


def _action(row: Row) -> str:
    action, detail = row["action"], row["detail"]
    if action == "dead_letter.assign":
        before = f" (before: {detail['before']})" if detail.get("before") else ""
        return (f"assigned it to {detail['after']}" if detail.get("after") else "removed the assignee") + before
    if action == "outcome.replaced":
        return f"the outcome {detail.get('before')} became {detail.get('after')}"
    return _ACTS.get(action, str(action))


def _describe_attempt(row: Row) -> dict[str, Any]:
    if row["error_class"] is not None:
        if row["result"] == "vanished":
            return _event(row["ended_at"], "an attempt was lost: its worker stopped")
        return _event(row["ended_at"], f"an attempt failed: {row['error_class']}: {row['message']}")
    who, job_id = row["asked_by"], row["job_id"]
    if row["ended_at"] is None:
        return _event(row["started_at"] or row["asked_at"], "an attempt is under way", who=who, job_id=job_id)
    if row["result"] == "failed":
        return _event(row["ended_at"], "an attempt failed for the last time", who=who, job_id=job_id)
    return _event(row["ended_at"], f"an attempt: {describe_counts(row['message'])}", who=who, job_id=job_id)


def _event(at: Any, what: str, *, who: str | None = None, **more: Any) -> dict[str, Any]:
    return {"at": at, "what": what, "who": who, "note": None, "job_id": None, "dead_letter_id": None, **more}
