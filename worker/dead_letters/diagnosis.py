"""A dead letter in support's words: what happened, what an attempt would find now, what each remedy would do.

Pure: everything is said from the letter as it was read, with what stands around it. What an attempt would find
is asked of the very rules that decide (`worker/rules.py`).
"""

from typing import Any

from schemas.catalogue import LetterCode, Outcome
from schemas.desk import Diagnosis
from worker.records import DeadLetter
from worker.rules import ACTIVE, WITHDRAWN, Enrolment, decide

GENERAL = {
    LetterCode.UNKNOWN_LEARNER: "The platform does not know the learner; tried again by itself once it does.",
    LetterCode.NOT_FOUND: "There is no such enrolment in this organisation.",
    LetterCode.POISON: "The worker went away again and again while it was deciding; not tried any more by itself.",
}
"""What happened to all letters of a code, where their evidence says nothing more."""


def kind(letter: DeadLetter) -> str:
    """What happened to all letters that share this one's fingerprint."""
    match letter.code:
        case LetterCode.PATHWAY_OWNED:
            owner = _pathway(letter.evidence)
            return f"{owner[:1].upper()}{owner[1:]} owns the enrolment, so it is not withdrawn directly."
        case LetterCode.UNKNOWN_STATUS:
            return f"The status {_quoted(letter.evidence.get('status'))} is not known to the service; it never guesses."
        case LetterCode.RETRIES_EXHAUSTED:
            return f"Every attempt failed: {letter.error_class or 'an error'}: {letter.message}"
        case LetterCode.INVALID_EVENT:
            return letter.message
        case _:
            return GENERAL[letter.code]


def sentence(letter: DeadLetter) -> str:  # noqa: PLR0911 - one return a code
    """What happened and why, in one glance."""
    subject = _subject(letter)
    match letter.code:
        case LetterCode.PATHWAY_OWNED:
            return (
                f"{subject} was not withdrawn: {_pathway(letter.evidence)} owns it, and what a pathway owns is not "
                "withdrawn directly."
            )
        case LetterCode.UNKNOWN_STATUS:
            status = _quoted(letter.evidence.get("status"))
            return f"{subject} was not withdrawn: its status was {status}, which is not known, and nothing is guessed."
        case LetterCode.NOT_FOUND:
            return f"Job {letter.job_id} asked for {_lower(subject)}, and this organisation has no such enrolment."
        case LetterCode.UNKNOWN_LEARNER:
            return (
                f"Job {letter.job_id} asked for {_lower(subject)}, whom the platform did not know; it is tried again "
                "by itself once it does."
            )
        case LetterCode.RETRIES_EXHAUSTED:
            return f"{subject} could not be decided: every attempt failed, the last with {_error(letter)}"
        case LetterCode.POISON:
            return (
                f"{subject} could not be decided: again and again the worker that had it went away without a word. "
                "It may be what ends the worker, so it is not tried any more by itself."
            )
        case LetterCode.INVALID_EVENT:
            return f"{letter.message.removesuffix('.')}. Nothing was done with it."


def diagnose(letter: DeadLetter) -> Diagnosis:
    """All that support needs to understand a letter; of one read without its surroundings, the sentence."""
    now = letter.evidence.get("now")
    then = {name: value for name, value in letter.evidence.items() if name != "now"}
    return Diagnosis(
        sentence=sentence(letter),
        next=_next(letter) if letter.is_live else None,
        seen_then=then,
        seen_now=now,
        changed=_changed(letter, then, now) if "now" in letter.evidence else [],
        request=letter.context.get("request"),
        shared_by=letter.context.get("shared_by"),
    )


def remedies(letter: DeadLetter, general: dict[str, str]) -> dict[str, str]:
    """The remedies of `general`, each with what it would do to this very letter, as far as that was looked up."""
    if "now" not in letter.evidence or not letter.is_live:
        return general
    known = {"override": _override, "cascade": _cascade, "keep": _keep, "redrive": _redrive}
    return {name: known[name](letter) if name in known else text for name, text in general.items()}


def _override(letter: DeadLetter) -> str:
    found = _predict(letter, override=True)
    if found is not Outcome.WITHDRAWN:
        return _moot(letter, found)
    stay = _others(letter)
    return f"withdraws {_named(letter)}" + (f"; {stay}" if stay else "; the learner has no other in the pathway")


def _cascade(letter: DeadLetter) -> str:
    active = [item for item in _siblings(letter) if item["status"] in ACTIVE]
    rest = len(_siblings(letter)) - len(active)
    found = _predict(letter, override=True)
    if found is Outcome.PATHWAY_OWNED:
        return _moot(letter, found)
    first = f"withdraws {_named(letter)}" if found is Outcome.WITHDRAWN else _moot(letter, found)
    if not active:
        return f"{first}; the learner has no other active enrolment in the pathway, so it is the same as override"
    names = ", ".join(f"{item['id']} (Series {item['series_code']})" for item in active[:5])
    more = f" and {len(active) - 5} more" if len(active) > 5 else ""
    stays = f"; {_count(rest, 'that is not active stays', 'that are not active stay')}" if rest else ""
    return f"{first}, and {_count(len(active), 'other', 'others')} of the learner in the pathway: {names}{more}{stays}"


def _keep(letter: DeadLetter) -> str:
    now = letter.evidence["now"]
    if letter.enrolment_id is None or now is None:
        return "closes the letter; nothing else changes"
    return f"closes the letter; enrolment {letter.enrolment_id} stays as it is ({now['status']})"


def _redrive(letter: DeadLetter) -> str:
    if letter.enrolment_id is None:
        return _redrive_person(letter)
    jobs = f" for {letter.count} jobs that asked" if letter.count > 1 else ""
    found = _predict(letter)
    match found:
        case Outcome.WITHDRAWN:
            return f"tries again{jobs}: withdraws {_named(letter)} as it stands now"
        case Outcome.PATHWAY_OWNED:
            return "tries again in vain: a Learning Pathway owns the enrolment"
        case Outcome.UNKNOWN_STATUS:
            return f"tries again in vain: the status {_quoted(letter.evidence['now']['status'])} is not known"
        case Outcome.NOT_FOUND:
            return "tries again in vain: there is no such enrolment"
        case _:
            return _moot(letter, found)


def _redrive_person(letter: DeadLetter) -> str:
    person = letter.evidence["now"]
    if person is None:
        return "tries again in vain: the platform still does not know the learner"
    if (letter.context.get("request") or {}).get("voided"):
        return "withdraws nothing: a newer event of the person has taken its place; closes the letter with that"
    directly = person["to_decide"] - person["owned"]
    owned = f", and {_count(person['owned'], 'other', 'others')} that a pathway owns would come here"
    decided = _count(directly, "enrolment", "enrolments")
    return f"tries again: decides {decided} of the learner" + (owned if person["owned"] else "")


def _moot(letter: DeadLetter, found: Outcome) -> str:
    now = letter.evidence["now"] or {}
    match found:
        case Outcome.ALREADY_WITHDRAWN:
            return "withdraws nothing: it is withdrawn already; closes the letter with that"
        case Outcome.ENROLMENT_ENDED:
            return f"withdraws nothing: the enrolment has ended ({now['status']}); closes the letter with that"
        case Outcome.SUPERSEDED:
            return "withdraws nothing: a newer event of the person has taken its place; closes the letter with that"
        case Outcome.NOT_FOUND:
            return "withdraws nothing: there is no such enrolment"
        case Outcome.PATHWAY_OWNED:
            return (
                f"withdraws nothing: {_pathway(now)} owns it now, not {_pathway(letter.evidence)} that this letter is "
                "about; the letter opens again with that"
            )
        case _:
            return f"withdraws nothing: the status {_quoted(now.get('status'))} is not known"


def _next(letter: DeadLetter) -> str | None:
    if "now" not in letter.evidence or letter.code is LetterCode.INVALID_EVENT:
        return None
    said = _redrive(letter)
    if said.startswith("tries again in vain: "):
        return f"Another attempt would be in vain: {said.removeprefix('tries again in vain: ')}."
    return f"Another attempt {said.removeprefix('tries again: ').removeprefix('tries again ')}."


def _predict(letter: DeadLetter, *, override: bool = False) -> Outcome:
    now = letter.evidence["now"]
    found = now and Enrolment(now["organisation_id"], now["status"], now["pathway_id"])
    voided = bool((letter.context.get("request") or {}).get("voided"))
    # An override is for the pathway that the letter saw, and for no other that has taken it over since.
    seen = letter.evidence.get("pathway_id")
    overridden = override and (found is None or seen in (None, found.pathway_id))
    return decide(found, organisation_id=letter.organisation_id, superseded=voided, override=overridden)


def _changed(letter: DeadLetter, then: dict[str, Any], now: dict[str, Any] | None) -> list[str]:
    if letter.code is LetterCode.INVALID_EVENT:
        return []
    if letter.enrolment_id is None:
        return ["the platform knows the learner now"] if now and letter.code is LetterCode.UNKNOWN_LEARNER else []
    if now is None:
        return [] if letter.code is LetterCode.NOT_FOUND else ["the enrolment is not there any more"]
    if letter.code is LetterCode.NOT_FOUND:
        return [f"the enrolment exists now ({now['status']})"]
    found = []
    if then.get("status") and then["status"] != now["status"]:
        by = f" (by {now['withdrawn_by']})" if now["status"] == WITHDRAWN and now["withdrawn_by"] else ""
        found.append(f"the status went from {then['status']} to {now['status']}{by}")
    if then.get("status") and then.get("pathway_id") != now["pathway_id"]:
        found.append(f"{_pathway(now)} owns it now" if now["pathway_id"] else "no pathway owns it any more")
    return found


def _subject(letter: DeadLetter) -> str:
    if letter.enrolment_id is None:
        return f"Learner {_quoted(letter.learner_external_id)}"
    named = _named(letter)
    return named[:1].upper() + named[1:]


def _named(letter: DeadLetter) -> str:
    now = letter.evidence.get("now")
    return f"enrolment {letter.enrolment_id}" + (f" (Series {now['series_code']})" if now else "")


def _lower(subject: str) -> str:
    return subject[:1].lower() + subject[1:]


def _siblings(letter: DeadLetter) -> list[dict[str, Any]]:
    return list((letter.evidence["now"] or {}).get("siblings", []))


def _others(letter: DeadLetter) -> str:
    siblings = _siblings(letter)
    if not siblings:
        return ""
    by_status: dict[str, int] = {}
    for item in siblings:
        by_status[item["status"]] = by_status.get(item["status"], 0) + 1
    told = ", ".join(f"{count} {status}" for status, count in sorted(by_status.items()))
    return f"{_count(len(siblings), 'other', 'others')} of the learner in the pathway stay ({told})"


def _pathway(seen: dict[str, Any]) -> str:
    if seen.get("pathway_title"):
        return f'the Learning Pathway "{seen["pathway_title"]}"'
    return f"Learning Pathway {seen['pathway_id']}" if seen.get("pathway_id") else "a Learning Pathway"


def _error(letter: DeadLetter) -> str:
    return f"{letter.error_class}: {letter.message}" if letter.error_class else letter.message


def _quoted(value: object) -> str:
    return f'"{value}"' if value is not None else "(not on record any more)"


def _count(number: int, one: str, several: str) -> str:
    return f"{number:,} {one if number == 1 else several}"
