"""The history of a dead letter or an enrolment, by time, in plain words. Pure.

A code without words here (a newer kind of act, a newer outcome) is shown as it is.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from schemas.desk import LetterInHistory
from worker.code_words import said
from worker.records import DeadLetter
from worker.texts import Text, joined, text

Row = Mapping[str, Any]

_ACTS = {
    "dead_letter.redrive": text("asked for another attempt"),
    "dead_letter.override": text("decided to withdraw it although a Learning Pathway owns it (override)"),
    "dead_letter.cascade": text("decided to withdraw it with the learner's others in the pathway (cascade)"),
    "dead_letter.keep": text("decided that it stays as it is (keep)"),
    "dead_letter.discard": text("discarded the letter"),
    "dead_letter.note": text("added a note"),
    "protection.add": text("protected it from being withdrawn"),
    "protection.lift": text("lifted a protection"),
    "job.cancel": text("cancelled the job"),
    "job.pause": text("paused the job"),
    "job.resume": text("resumed the job"),
    "job.release": text("released the job"),
    "job.move": text("moved the job to another time"),
}


def of_letter(letter: DeadLetter, acts: Sequence[Row], jobs: Sequence[Row]) -> list[dict[str, Any]]:
    """The history of a letter that was read with its attempts.

    `acts`: its rows of the audit. `jobs`: which jobs refer to it (`job_id`), and since when (`at`).
    """
    events = [_event(letter.opened_at, text("the letter was opened"), job_id=letter.job_id)]
    events += [
        _event(row["at"], text("another job was added to the letter"), job_id=row["job_id"])
        for row in jobs
        if row["job_id"] != letter.job_id and row["at"] is not None
    ]
    # The attempts themselves show which outcomes they replaced.
    events += [describe_act(row) for row in acts if row["action"] != "outcome.replaced"]
    events += [_describe_attempt(row) for row in letter.attempts]
    if letter.closed_at is not None:
        what = text(
            "the letter was closed: {state} ({remedy})", state=said(letter.state), remedy=said(str(letter.remedy))
        )
        events.append(_event(letter.closed_at, what, who=letter.closed_by))
    if letter.evidence_dropped_at is not None:
        dropped = text("its evidence was dropped at the end of the retention time")
        events.append(_event(letter.evidence_dropped_at, dropped))
    return sort_by_time(events)


def describe_act(row: Row) -> dict[str, Any]:
    """A row of the audit as an event."""
    known = {key: row[key] for key in ("note", "job_id", "dead_letter_id")}
    return _event(row["at"], _action(row), who=row["actor"], **known)


def describe_closing(letter: DeadLetter | LetterInHistory) -> Text:
    """That a letter was closed, and by which remedy."""
    values = {"state": said(letter.state), "remedy": said(str(letter.remedy))}
    return text("letter {letter_id} was closed: {state} ({remedy})", letter_id=letter.id, **values)


def describe_request(reason: str | None, reinstates: int | None) -> Text:
    """What was asked for: a withdrawal with its reason, or that what the job `reinstates` withdrew is taken back."""
    if reinstates is not None:
        return text("asked to reinstate what job {job} withdrew", job=reinstates)
    return text("asked for a withdrawal ({reason})", reason=reason)


def sort_by_time(events: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Events by time; those of the same time stay in the order given."""
    return sorted(events, key=lambda event: event["at"])


def describe_counts(counts: str | Mapping[str, int]) -> Text:
    """What an attempt changed: `pathway_owned became withdrawn`."""
    found = json.loads(counts) if isinstance(counts, str) else counts
    before = [said(name) for name, change in found.items() if change < 0]
    after = [
        text("{count} {outcome}", count=change, outcome=said(name)) if change > 1 else said(name)
        for name, change in found.items()
        if change > 0
    ]
    if before and after:
        return text("{before} became {after}", before=joined(before, ", "), after=joined(after, ", "))
    return joined(after, ", ") if after else text("nothing changed")


def _action(row: Row) -> str:
    action, detail = row["action"], row["detail"]
    if action == "dead_letter.assign":
        return _describe_assignment(detail.get("before"), detail.get("after"))
    if action == "job.leave_out":
        return _describe_left_out(detail["count"], detail["lines"])
    if action == "outcome.replaced":
        before, after = (said(str(detail.get(name))) for name in ("before", "after"))
        return text("the outcome {before} became {after}", before=before, after=after)
    return _ACTS.get(action, str(action))


def _describe_left_out(count: int, lines: Sequence[int]) -> Text:
    named = joined([str(line) for line in lines], ", ")
    if count > len(lines):
        return text("left {count:,} lines of the file out, among them {lines}", count=count, lines=named)
    if count > 1:
        return text("left lines {lines} of the file out", lines=named)
    return text("left line {lines} of the file out", lines=named)


def _describe_assignment(before: str | None, after: str | None) -> Text:
    if after and before:
        return text("assigned it to {after} (before: {before})", before=before, after=after)
    if after:
        return text("assigned it to {after}", after=after)
    if before:
        return text("removed the assignee (before: {before})", before=before)
    return text("removed the assignee")


def _describe_attempt(row: Row) -> dict[str, Any]:
    if row["error_class"] is not None:
        if row["result"] == "vanished":
            return _event(row["ended_at"], text("an attempt was lost: its worker stopped"))
        error = {"error_class": row["error_class"], "message": row["message"]}
        return _event(row["ended_at"], text("an attempt failed: {error_class}: {message}", **error))
    who, job_id = row["asked_by"], row["job_id"]
    if row["ended_at"] is None:
        return _event(row["started_at"] or row["asked_at"], text("an attempt is under way"), who=who, job_id=job_id)
    if row["result"] == "failed":
        return _event(row["ended_at"], text("an attempt failed for the last time"), who=who, job_id=job_id)
    what = text("an attempt: {changed}", changed=describe_counts(row["message"]))
    return _event(row["ended_at"], what, who=who, job_id=job_id)


def _event(at: Any, what: str, *, who: str | None = None, **more: Any) -> dict[str, Any]:
    return {"at": at, "what": what, "who": who, "note": None, "job_id": None, "dead_letter_id": None, **more}
