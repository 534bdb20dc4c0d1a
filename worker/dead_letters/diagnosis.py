"""A dead letter in support's words: what happened, what an attempt would find now, what each remedy would do.

Pure: all of it follows from the letter as it was read, with its context. What an attempt would find is asked of the
rules that decide (`worker/rules.py`).
"""

from typing import Any

from schemas.catalogue import LETTER_CODES, LetterCode, LetterState, Outcome, Reason
from schemas.dead_letters import LetterAct
from schemas.desk import Diagnosis, Recommendation
from worker.dead_letters import acts
from worker.records import DeadLetter, describe_protection
from worker.rules import ACTIVE, WITHDRAWN, Enrolment, decide


def describe_cause(letter: DeadLetter) -> str:
    """What happened to every letter that shares this one's fingerprint."""
    match letter.code:
        case LetterCode.PATHWAY_OWNED:
            return f"{_capitalise(_pathway(letter.evidence))} owns the enrolment, so it is not withdrawn directly."
        case LetterCode.UNKNOWN_STATUS:
            status = _quoted(letter.evidence.get("status"))
            return f"The service does not know the status {status}, and never guesses."
        case LetterCode.PROTECTED:
            return f"{_capitalise(_protection(letter.evidence))} protects the enrolment."
        case LetterCode.RETRIES_EXHAUSTED:
            return f"Every attempt failed: {letter.error_class or 'an error'}: {letter.message}"
        case LetterCode.INVALID_EVENT:
            return letter.message
        case _:
            return LETTER_CODES[letter.code].sentence


def describe_letter(letter: DeadLetter) -> str:  # noqa: PLR0911 - one return a code
    """What happened to this letter's enrolment or learner, and why."""
    subject = _subject(letter)
    match letter.code:
        case LetterCode.PATHWAY_OWNED:
            return f"{subject} was not withdrawn: {_pathway(letter.evidence)} owns it."
        case LetterCode.UNKNOWN_STATUS:
            status = _quoted(letter.evidence.get("status"))
            return f"{subject} was not withdrawn: the service does not know its status, {status}, and never guesses."
        case LetterCode.PROTECTED:
            return (
                f"{subject} was not withdrawn: {_protection(letter.evidence)} protects it. The service tries again "
                "within a day after that ends."
            )
        case LetterCode.NOT_FOUND:
            return f"Job {letter.job_id} named {_lower(subject)}. This organisation has no such enrolment."
        case LetterCode.UNKNOWN_LEARNER:
            return (
                f"Job {letter.job_id} named {_lower(subject)}, whom the platform did not know. The service tries again "
                "once it does."
            )
        case LetterCode.RETRIES_EXHAUSTED:
            tried = _tried_for(letter)
            return f"{subject} could not be decided: every attempt{tried} failed, the last with {_error(letter)}"
        case LetterCode.POISON:
            return (
                f"{subject} could not be decided: the worker stopped again and again while it tried. This enrolment "
                "may be the cause, so the service does not try it again by itself."
            )
        case LetterCode.INVALID_EVENT:
            return f"{letter.message.removesuffix('.')}. Nothing was done with it."


def diagnose(letter: DeadLetter) -> Diagnosis:
    """All that support needs to understand a letter; of one read without its context, the sentence."""
    now = letter.evidence.get("now")
    then = {name: value for name, value in letter.evidence.items() if name != "now"}
    can_predict = letter.is_live and _was_looked_up(letter) and letter.code is not LetterCode.INVALID_EVENT
    return Diagnosis(
        sentence=describe_letter(letter),
        next=_redrive(letter) if can_predict else None,
        seen_then=then,
        seen_now=now,
        changed=_changes(letter, then, now) if _was_looked_up(letter) else [],
        request=letter.context.get("request"),
        shared_by=letter.context.get("shared_by"),
    )


def describe_remedies(letter: DeadLetter) -> dict[str, str]:
    """The acts for a letter, each with what it would do to this very letter, as far as that was looked up."""
    general = acts.remedies(letter.code)
    if not (letter.is_live and _was_looked_up(letter)):
        return {act.value: text for act, text in general.items()}
    known = {
        LetterAct.OVERRIDE: _override,
        LetterAct.CASCADE: _cascade,
        LetterAct.KEEP: _keep,
        LetterAct.REDRIVE: _redrive,
    }
    return {act.value: known[act](letter) if act in known else text for act, text in general.items()}


def recommend(letter: DeadLetter) -> Recommendation | None:  # noqa: PLR0911 - one return an outcome
    """The remedy that fits what was seen and what an attempt would find now; None: nothing speaks for one.

    Never a withdrawal that the rules refuse: whether a pathway may be overridden is for a person to say.
    """
    if letter.state is not LetterState.OPEN or not _was_looked_up(letter):
        return None
    if letter.code is LetterCode.INVALID_EVENT:
        return _recommended(LetterAct.DISCARD, "The service cannot read the event. Its sender has to send it again.")
    if letter.enrolment_id is None:
        known = letter.evidence["now"] is not None
        return _recommended(LetterAct.REDRIVE, _redrive(letter)) if known else None
    match _predict(letter):
        case Outcome.WITHDRAWN if letter.code is LetterCode.POISON:
            return None  # the attempt itself has stopped workers
        case Outcome.WITHDRAWN | Outcome.ALREADY_WITHDRAWN | Outcome.ENROLMENT_ENDED | Outcome.SUPERSEDED:
            return _recommended(LetterAct.REDRIVE, _redrive(letter))
        case Outcome.NOT_FOUND:
            return _recommended(LetterAct.DISCARD, "There is no such enrolment to withdraw.")
        case found:
            return _recommend_for_pathway(letter) if found is Outcome.PATHWAY_OWNED else None


def _recommend_for_pathway(letter: DeadLetter) -> Recommendation | None:
    """What the reason of the request says about the whole pathway."""
    if letter.code is not LetterCode.PATHWAY_OWNED:
        return None
    match (letter.context.get("request") or {}).get("reason"):
        case Reason.USER_DEACTIVATED:
            return _recommended(LetterAct.CASCADE, "The person was deactivated, and will not go on with the pathway.")
        case Reason.NOT_REQUIRED | Reason.LEARNER_DECLINED:
            return _recommended(LetterAct.KEEP, "The Learning Pathway still needs this Series.")
        case _:
            return None


def _recommended(act: LetterAct, reason: str) -> Recommendation:
    return Recommendation(remedy=act, reason=reason)


def _was_looked_up(letter: DeadLetter) -> bool:
    """Whether the letter was read with what the platform shows now."""
    return "now" in letter.evidence


def _override(letter: DeadLetter) -> str:
    found = _predict(letter, override=True)
    if found is not Outcome.WITHDRAWN:
        return _without_effect(letter, found)
    others = _count_siblings(letter) or "The learner has no other enrolment in the pathway."
    return f"Withdraws {_named(letter)}. {others}"


def _cascade(letter: DeadLetter) -> str:
    found = _predict(letter, override=True)
    if found in (Outcome.PATHWAY_OWNED, Outcome.PROTECTED):
        return _without_effect(letter, found)
    active = [item for item in _siblings(letter) if item["status"] in ACTIVE]
    rest = len(_siblings(letter)) - len(active)
    first = f"Withdraws {_named(letter)}." if found is Outcome.WITHDRAWN else _without_effect(letter, found)
    if not active:
        return f"{first} The learner has no other active enrolment in the pathway, so this does the same as override."
    names = ", ".join(f"{item['id']} (Series {item['series_code']})" for item in active[:5])
    more = f" and {len(active) - 5} more" if len(active) > 5 else ""
    stays = f" {_count(rest, 'other is not active and stays', 'others are not active and stay')}." if rest else ""
    others = _count(len(active), "other enrolment", "other enrolments")
    return f"{first} Also withdraws {others} of the learner in the pathway: {names}{more}.{stays}"


def _keep(letter: DeadLetter) -> str:
    now = letter.evidence["now"]
    if letter.enrolment_id is None or now is None:
        return "Closes the letter. Nothing else changes."
    return f"Closes the letter. Enrolment {letter.enrolment_id} stays as it is ({now['status']})."


def _redrive(letter: DeadLetter) -> str:  # noqa: PLR0911 - one return an outcome
    if letter.enrolment_id is None:
        return _redrive_person(letter)
    found = _predict(letter)
    match found:
        case Outcome.WITHDRAWN:
            jobs = f", for all {letter.count} jobs that named it" if letter.count > 1 else ""
            return f"Trying again withdraws {_named(letter)}{jobs}."
        case Outcome.PATHWAY_OWNED:
            return "Trying again will fail: a Learning Pathway owns this enrolment."
        case Outcome.PROTECTED:
            return f"Trying again will fail: {_protection_now(letter)} protects this enrolment."
        case Outcome.UNKNOWN_STATUS:
            status = _quoted(letter.evidence["now"]["status"])
            return f"Trying again will fail: the service does not know the status {status}."
        case Outcome.NOT_FOUND:
            return "Trying again will fail: this organisation has no such enrolment."
        case _:
            return _without_effect(letter, found)


def _redrive_person(letter: DeadLetter) -> str:
    person = letter.evidence["now"]
    if person is None:
        return "Trying again will fail: the platform still does not know the learner."
    if _is_superseded(letter):
        return _without_effect(letter, Outcome.SUPERSEDED)
    directly = person["to_decide"] - person["owned"]
    decided = f"Trying again decides {_count(directly, 'enrolment', 'enrolments')} of the learner."
    if not person["owned"]:
        return decided
    owned = _count(person["owned"], "other, which becomes a dead letter", "others, which become dead letters")
    return f"{decided} A Learning Pathway owns {owned}."


def _without_effect(letter: DeadLetter, found: Outcome) -> str:  # noqa: PLR0911 - one return an outcome
    """An attempt that withdraws nothing: it resolves the letter, or opens it again."""
    now = letter.evidence["now"] or {}
    match found:
        case Outcome.ALREADY_WITHDRAWN:
            return "Withdraws nothing and resolves the letter: the enrolment is already withdrawn."
        case Outcome.ENROLMENT_ENDED:
            return f"Withdraws nothing and resolves the letter: the enrolment has ended ({now['status']})."
        case Outcome.SUPERSEDED:
            return "Withdraws nothing and resolves the letter: a newer event of the person replaced the deactivation."
        case Outcome.NOT_FOUND:
            return "Withdraws nothing: this organisation has no such enrolment."
        case Outcome.PROTECTED:
            return f"Withdraws nothing: {_protection_now(letter)} protects the enrolment. The letter opens again."
        case Outcome.PATHWAY_OWNED:
            return (
                f"Withdraws nothing: {_pathway(now)} owns the enrolment now, and this letter is about "
                f"{_pathway(letter.evidence)}. The letter opens again."
            )
        case _:
            return f"Withdraws nothing: the service does not know the status {_quoted(now.get('status'))}."


def _predict(letter: DeadLetter, *, override: bool = False) -> Outcome:
    now = letter.evidence["now"]
    return decide(
        now and Enrolment(now["organisation_id"], now["status"], now["pathway_id"]),
        organisation_id=letter.organisation_id,
        superseded=_is_superseded(letter),
        protected=bool(now and now.get("protection")),
        override=override,
        override_pathway=letter.evidence.get("pathway_id"),
    )


def _is_superseded(letter: DeadLetter) -> bool:
    return bool((letter.context.get("request") or {}).get("voided"))


def _changes(letter: DeadLetter, then: dict[str, Any], now: dict[str, Any] | None) -> list[str]:
    if letter.code is LetterCode.INVALID_EVENT:
        return []
    if letter.enrolment_id is None:
        return ["the platform knows the learner now"] if now and letter.code is LetterCode.UNKNOWN_LEARNER else []
    if now is None:
        return [] if letter.code is LetterCode.NOT_FOUND else ["the enrolment no longer exists"]
    if letter.code is LetterCode.NOT_FOUND:
        return [f"the enrolment exists now ({now['status']})"]
    found = []
    if then.get("status") and then["status"] != now["status"]:
        by = f" (by {now['withdrawn_by']})" if now["status"] == WITHDRAWN and now["withdrawn_by"] else ""
        found.append(f"the status changed from {then['status']} to {now['status']}{by}")
    if then.get("status") and then.get("pathway_id") != now["pathway_id"]:
        found.append(f"{_pathway(now)} owns it now" if now["pathway_id"] else "no Learning Pathway owns it any more")
    is_protected = bool(now.get("protection"))
    if letter.code is LetterCode.PROTECTED and not is_protected:
        found.append("nothing protects it any more")
    if letter.code is not LetterCode.PROTECTED and is_protected:
        found.append(f"{_protection_now(letter)} protects it now")
    return found


def _subject(letter: DeadLetter) -> str:
    if letter.enrolment_id is None:
        return f"Learner {_quoted(letter.learner_external_id)}"
    return _capitalise(_named(letter))


def _named(letter: DeadLetter) -> str:
    now = letter.evidence.get("now")
    return f"enrolment {letter.enrolment_id}" + (f" (Series {now['series_code']})" if now else "")


def _siblings(letter: DeadLetter) -> list[dict[str, Any]]:
    return list((letter.evidence["now"] or {}).get("siblings", []))


def _count_siblings(letter: DeadLetter) -> str:
    siblings = _siblings(letter)
    if not siblings:
        return ""
    by_status: dict[str, int] = {}
    for item in siblings:
        by_status[item["status"]] = by_status.get(item["status"], 0) + 1
    statuses = ", ".join(f"{count} {status}" for status, count in sorted(by_status.items()))
    stay = _count(len(siblings), "other enrolment of the learner", "other enrolments of the learner")
    return f"{stay} in the pathway {'stays' if len(siblings) == 1 else 'stay'} ({statuses})."


def _pathway(seen: dict[str, Any]) -> str:
    if seen.get("pathway_title"):
        return f'the Learning Pathway "{seen["pathway_title"]}"'
    return f"Learning Pathway {seen['pathway_id']}" if seen.get("pathway_id") else "a Learning Pathway"


def _protection(seen: dict[str, Any]) -> str:
    """What protected the enrolment when it was to be withdrawn."""
    return describe_protection(seen.get("protection_kind"), seen.get("protected_until"))


def _protection_now(letter: DeadLetter) -> str:
    found = letter.evidence["now"]["protection"]
    return describe_protection(found["kind"], found["until"])


def _error(letter: DeadLetter) -> str:
    return f"{letter.error_class}: {letter.message}" if letter.error_class else letter.message


def _tried_for(letter: DeadLetter) -> str:
    """For how long it was tried, as a part of a sentence; empty where nobody wrote it down."""
    seconds = letter.evidence.get("tried_for_seconds")
    if not isinstance(seconds, int):
        return ""
    for unit, length in (("hour", 3600), ("minute", 60)):
        if seconds >= 2 * length:
            return f" in {_count(seconds // length, unit, unit + 's')}"
    return f" in {_count(max(seconds, 1), 'second', 'seconds')}"


def _quoted(value: object) -> str:
    return f'"{value}"' if value is not None else "(no longer on record)"


def _capitalise(text: str) -> str:
    return text[:1].upper() + text[1:]


def _lower(subject: str) -> str:
    return subject[:1].lower() + subject[1:]


def _count(number: int, one: str, several: str) -> str:
    return f"{number:,} {one if number == 1 else several}"
