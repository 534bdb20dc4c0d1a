"""Parts of the sentences about a dead letter. Pure."""

from typing import Any

from worker.code_words import said
from worker.records import DeadLetter, describe_protection
from worker.rules import WITHDRAWN
from worker.texts import Text, joined, mark, text


def subject_of(letter: DeadLetter) -> Text:
    """The enrolment or the learner that it is about, for the middle of a sentence."""
    if letter.enrolment_id is None:
        return text("learner {external_id}", external_id=quote(letter.learner_external_id))
    return name_enrolment(letter)


def name_enrolment(letter: DeadLetter) -> Text:
    """The letter's enrolment, with its Series where that was looked up."""
    now = letter.evidence.get("now")
    if not now:
        return text("enrolment {enrolment_id}", enrolment_id=letter.enrolment_id)
    template = mark("enrolment {enrolment_id} (Series {series})")
    return text(template, enrolment_id=letter.enrolment_id, series=now["series_code"])


def siblings_of(letter: DeadLetter) -> list[dict[str, Any]]:
    """The learner's other enrolments in the pathway."""
    return list((letter.evidence["now"] or {}).get("siblings", []))


def describe_siblings(letter: DeadLetter) -> Text:
    """That the others in the pathway stay, by status."""
    siblings = siblings_of(letter)
    if not siblings:
        return text("The learner has no other enrolment in the pathway.")
    by_status: dict[str, int] = {}
    for item in siblings:
        by_status[item["status"]] = by_status.get(item["status"], 0) + 1
    statuses = joined(
        (text("{count} {status}", count=count, status=said(status)) for status, count in sorted(by_status.items())),
        ", ",
    )
    if len(siblings) == 1:
        return text("1 other enrolment of the learner in the pathway stays ({statuses}).", statuses=statuses)
    template = mark("{count:,} other enrolments of the learner in the pathway stay ({statuses}).")
    return text(template, count=len(siblings), statuses=statuses)


def describe_others(active: list[dict[str, Any]]) -> Text:
    """The learner's other enrolments that a cascade withdraws."""
    names = ", ".join(f"{item['id']} (Series {item['series_code']})" for item in active[:5])
    if len(active) == 1:
        return text("Also withdraws 1 other enrolment of the learner in the pathway: {names}.", names=names)
    if len(active) <= 5:
        template = mark("Also withdraws {count:,} other enrolments of the learner in the pathway: {names}.")
        return text(template, count=len(active), names=names)
    return text(
        "Also withdraws {count:,} other enrolments of the learner in the pathway: {names} and {more} more.",
        count=len(active),
        names=names,
        more=len(active) - 5,
    )


def name_pathway(seen: dict[str, Any]) -> Text:
    """The pathway that owns an enrolment, as well as it is known."""
    if seen.get("pathway_title"):
        return text('the Learning Pathway "{title}"', title=seen["pathway_title"])
    if seen.get("pathway_id"):
        return text("Learning Pathway {pathway_id}", pathway_id=seen["pathway_id"])
    return text("a Learning Pathway")


def name_protection(seen: dict[str, Any]) -> Text:
    """What protected the enrolment when it was to be withdrawn."""
    return describe_protection(seen.get("protection_kind"), seen.get("protected_until"))


def name_protection_now(letter: DeadLetter) -> Text:
    """What protects the enrolment now."""
    found = letter.evidence["now"]["protection"]
    return describe_protection(found["kind"], found["until"])


def describe_exhausted(letter: DeadLetter, subject: Text) -> Text:
    """That every attempt failed, in which time, and with which error."""
    values = {"subject": subject, "error": _error(letter)}
    seconds = letter.evidence.get("tried_for_seconds")
    if not isinstance(seconds, int):  # nobody wrote it down
        template = mark("{subject:capital} could not be decided: every attempt failed, the last with {error}")
        return text(template, **values)
    template = mark("{subject:capital} could not be decided: every attempt in {time} failed, the last with {error}")
    return text(template, time=_say_seconds(seconds), **values)


def _error(letter: DeadLetter) -> str:
    return f"{letter.error_class}: {letter.message}" if letter.error_class else letter.message


def _say_seconds(seconds: int) -> Text:
    """A length of time in a unit of which it has two or more."""
    if seconds >= 2 * 3600:
        return text("{count:,} hours", count=seconds // 3600)
    if seconds >= 2 * 60:
        return text("{count:,} minutes", count=seconds // 60)
    return text("{count:,} seconds", count=seconds) if seconds > 1 else text("1 second")


def quote(value: object) -> Text:
    """A value in quotation marks."""
    return text('"{value}"', value=value) if value is not None else text("(no longer on record)")


def describe_new_status(before: str, now: dict[str, Any]) -> Text:
    """That the enrolment has another status now."""
    values = {"before": said(before), "after": said(now["status"])}
    if now["status"] == WITHDRAWN and now["withdrawn_by"]:
        return text(
            "the status changed from {before} to {after} (requested by {who})", who=now["withdrawn_by"], **values
        )
    return text("the status changed from {before} to {after}", **values)
