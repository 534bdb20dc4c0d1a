"""A dead letter in support's words: what happened, what an attempt would find now, what each remedy would do.

Pure: all of it follows from the letter as it was read, with its context. What an attempt would find is asked of the
rules that decide (`worker/rules.py`).
"""

from typing import Any

from schemas.catalogue import LETTER_CODES, LetterCode, LetterState, Outcome, Reason
from schemas.dead_letters import LetterAct
from schemas.desk import Diagnosis, Recommendation
from worker.code_words import said
from worker.dead_letters import acts, phrases, weighing
from worker.records import DeadLetter
from worker.rules import ACTIVE, Enrolment, decide
from worker.texts import Text, joined, mark, plainly, text


def describe_cause(letter: DeadLetter) -> str:
    """What happened to every letter that shares this one's fingerprint."""
    match letter.code:
        case LetterCode.PATHWAY_OWNED:
            return text(
                "{pathway:capital} owns the enrolment, so it is not withdrawn directly.",
                pathway=phrases.name_pathway(letter.evidence),
            )
        case LetterCode.UNKNOWN_STATUS:
            status = phrases.quote(letter.evidence.get("status"))
            return text("The service does not know the status {status}, and never guesses.", status=status)
        case LetterCode.PROTECTED:
            return text(
                "{protection:capital} protects the enrolment.", protection=phrases.name_protection(letter.evidence)
            )
        case LetterCode.RETRIES_EXHAUSTED:
            error_class = letter.error_class or text("an error")
            return text(
                "Every attempt failed: {error_class}: {message}", error_class=error_class, message=letter.message
            )
        case LetterCode.INVALID_EVENT:
            return letter.message
        case _:
            return plainly(LETTER_CODES[letter.code].sentence)


def describe_letter(letter: DeadLetter) -> str:  # noqa: PLR0911 - one return a code
    """What happened to this letter's enrolment or learner, and why."""
    subject = phrases.subject_of(letter)
    match letter.code:
        case LetterCode.PATHWAY_OWNED:
            return text(
                "{subject:capital} was not withdrawn: {pathway} owns it.",
                subject=subject,
                pathway=phrases.name_pathway(letter.evidence),
            )
        case LetterCode.UNKNOWN_STATUS:
            return text(
                "{subject:capital} was not withdrawn: the service does not know its status, {status}, and never "
                "guesses.",
                subject=subject,
                status=phrases.quote(letter.evidence.get("status")),
            )
        case LetterCode.PROTECTED:
            return text(
                "{subject:capital} was not withdrawn: {protection} protects it. The service tries again within a day "
                "after that ends.",
                subject=subject,
                protection=phrases.name_protection(letter.evidence),
            )
        case LetterCode.NOT_FOUND:
            return text(
                "Job {job} named {subject}. This organisation has no such enrolment.",
                job=letter.job_id,
                subject=subject,
            )
        case LetterCode.UNKNOWN_LEARNER:
            return text(
                "Job {job} named {subject}, whom the platform did not know. The service tries again once it does.",
                job=letter.job_id,
                subject=subject,
            )
        case LetterCode.RETRIES_EXHAUSTED:
            return phrases.describe_exhausted(letter, subject)
        case LetterCode.POISON:
            return text(
                "{subject:capital} could not be decided: the worker stopped again and again while it tried. This "
                "enrolment may be the cause, so the service does not try it again by itself.",
                subject=subject,
            )
        case LetterCode.INVALID_EVENT:
            return text("{message}. Nothing was done with it.", message=letter.message.removesuffix("."))


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
        return {act.value: consequence for act, consequence in general.items()}
    known = {
        LetterAct.OVERRIDE: _override,
        LetterAct.CASCADE: _cascade,
        LetterAct.KEEP: _keep,
        LetterAct.REDRIVE: _redrive,
    }
    return {act.value: known[act](letter) if act in known else said_of_all for act, said_of_all in general.items()}


def recommend(letter: DeadLetter) -> Recommendation | None:
    """The remedy that fits what was seen and what an attempt would find now; None: nothing speaks for one.

    Never a withdrawal that the rules refuse: whether a pathway may be overridden is for a person to say.
    """
    if letter.state is not LetterState.OPEN or not _was_looked_up(letter):
        return None
    reason = (letter.context.get("request") or {}).get("reason")
    act = choose_remedy(letter.code, _find_now(letter), reason)
    if act is None:
        return None
    why = explain_remedy(letter.code, act)
    return Recommendation(remedy=act, reason=_redrive(letter) if why is None else why)


def explain_remedy(code: LetterCode, act: LetterAct) -> Text | None:
    """Why a remedy is recommended for letters of a code; None: each letter says what it would do."""
    return _UNREADABLE if code is LetterCode.INVALID_EVENT else _WHY.get(act)


def list_vain_acts(letter: DeadLetter) -> list[LetterAct]:
    """Acts on an open letter that come to nothing now: an attempt that would fail, or a withdrawal like another one."""
    if letter.state is not LetterState.OPEN or not _was_looked_up(letter):
        return []
    known = acts.remedies(letter.code)
    vain = [LetterAct.REDRIVE] if LetterAct.REDRIVE in known and _find_now(letter) not in SETTLES else []
    if LetterAct.CASCADE not in known:
        return vain
    if any(item["status"] in ACTIVE for item in phrases.siblings_of(letter)):
        return vain
    advised = recommend(letter)
    same = LetterAct.OVERRIDE if advised and advised.remedy is LetterAct.CASCADE else LetterAct.CASCADE
    return [*vain, same]


def weigh(letter: DeadLetter) -> Text | None:
    """What a person weighs where nothing is recommended."""
    if letter.state is not LetterState.OPEN or not _was_looked_up(letter):
        return None
    found, reason = _find_now(letter), (letter.context.get("request") or {}).get("reason")
    if choose_remedy(letter.code, found, reason) is not None:
        return None
    return weighing.weigh(letter.code, found, reason)


def _find_now(letter: DeadLetter) -> str:
    """What an attempt would find now, as previews of many letters have it."""
    if letter.code is LetterCode.INVALID_EVENT:
        return "nothing_to_try"
    if letter.enrolment_id is None:
        return Outcome.WITHDRAWN if letter.evidence["now"] is not None else "not_known"
    return _predict(letter)


_UNREADABLE = text("The service cannot read the event. Its sender has to send it again.")
_WHY = {
    LetterAct.CASCADE: text("The person was deactivated, and will not go on with the pathway."),
    LetterAct.KEEP: text("The Learning Pathway still needs this Series."),
    LetterAct.DISCARD: text("There is no such enrolment to withdraw."),
}
SETTLES = (Outcome.WITHDRAWN, Outcome.ALREADY_WITHDRAWN, Outcome.ENROLMENT_ENDED, Outcome.SUPERSEDED)
"""What an attempt finds that resolves its letter."""


def choose_remedy(code: LetterCode, outcome: str, reason: str | None) -> LetterAct | None:
    """The remedy for letters of a code whose attempt would have this outcome now.

    `reason`: of the request, which says whether the whole pathway is still wanted.
    """
    if code is LetterCode.INVALID_EVENT:
        return LetterAct.DISCARD
    if outcome in SETTLES:
        is_risky = code is LetterCode.POISON and outcome == Outcome.WITHDRAWN  # the attempt itself has stopped workers
        return None if is_risky else LetterAct.REDRIVE
    if outcome == Outcome.NOT_FOUND:
        return LetterAct.DISCARD
    if code is LetterCode.PATHWAY_OWNED and outcome == Outcome.PATHWAY_OWNED:
        return _FOR_PATHWAY.get(reason or "")
    return None


_FOR_PATHWAY: dict[str, LetterAct] = {
    Reason.USER_DEACTIVATED: LetterAct.CASCADE,
    Reason.NOT_REQUIRED: LetterAct.KEEP,
    Reason.LEARNER_DECLINED: LetterAct.KEEP,
}


def _was_looked_up(letter: DeadLetter) -> bool:
    """Whether the letter was read with what the platform shows now."""
    return "now" in letter.evidence


def _override(letter: DeadLetter) -> str:
    found = _predict(letter, override=True)
    if found is not Outcome.WITHDRAWN:
        return _without_effect(letter, found)
    return text(
        "Withdraws {enrolment}. {others}",
        enrolment=phrases.name_enrolment(letter),
        others=phrases.describe_siblings(letter),
    )


def _cascade(letter: DeadLetter) -> str:
    found = _predict(letter, override=True)
    if found in (Outcome.PATHWAY_OWNED, Outcome.PROTECTED):
        return _without_effect(letter, found)
    active = [item for item in phrases.siblings_of(letter) if item["status"] in ACTIVE]
    rest = len(phrases.siblings_of(letter)) - len(active)
    withdraws = text("Withdraws {enrolment}.", enrolment=phrases.name_enrolment(letter))
    first = withdraws if found is Outcome.WITHDRAWN else _without_effect(letter, found)
    if not active:
        alone = text("The learner has no other active enrolment in the pathway, so this does the same as override.")
        return joined([first, alone])
    also = phrases.describe_others(active)
    if rest == 1:
        return joined([first, also, text("1 other is not active and stays.")])
    return joined([first, also, *([text("{count:,} others are not active and stay.", count=rest)] if rest else [])])


def _keep(letter: DeadLetter) -> str:
    now = letter.evidence["now"]
    if letter.enrolment_id is None or now is None:
        return text("Closes the letter. Nothing else changes.")
    return text(
        "Closes the letter. Enrolment {enrolment_id} stays as it is ({status}).",
        enrolment_id=letter.enrolment_id,
        status=said(now["status"]),
    )


def _redrive(letter: DeadLetter) -> str:  # noqa: PLR0911 - one return an outcome
    if letter.enrolment_id is None:
        return _redrive_person(letter)
    found = _predict(letter)
    match found:
        case Outcome.WITHDRAWN:
            values = {"enrolment": phrases.name_enrolment(letter), "count": letter.count}
            if letter.count > 1:
                return text("Trying again withdraws {enrolment}, for all {count} jobs that named it.", **values)
            return text("Trying again withdraws {enrolment}.", **values)
        case Outcome.PATHWAY_OWNED:
            return text("Trying again will fail: a Learning Pathway owns this enrolment.")
        case Outcome.PROTECTED:
            return text(
                "Trying again will fail: {protection} protects this enrolment.",
                protection=phrases.name_protection_now(letter),
            )
        case Outcome.UNKNOWN_STATUS:
            status = phrases.quote(letter.evidence["now"]["status"])
            return text("Trying again will fail: the service does not know the status {status}.", status=status)
        case Outcome.NOT_FOUND:
            return text("Trying again will fail: this organisation has no such enrolment.")
        case _:
            return _without_effect(letter, found)


def _redrive_person(letter: DeadLetter) -> str:
    person = letter.evidence["now"]
    if person is None:
        return text("Trying again will fail: the platform still does not know the learner.")
    if _is_superseded(letter):
        return _without_effect(letter, Outcome.SUPERSEDED)
    directly = person["to_decide"] - person["owned"]
    one = directly == 1
    template = (
        mark("Trying again decides {count:,} enrolment of the learner.")
        if one
        else mark("Trying again decides {count:,} enrolments of the learner.")
    )
    decided = text(template, count=directly)
    if not person["owned"]:
        return decided
    if person["owned"] == 1:
        return joined([decided, text("A Learning Pathway owns 1 other, which becomes a letter.")])
    template = mark("A Learning Pathway owns {count:,} others, which become letters.")
    return joined([decided, text(template, count=person["owned"])])


def _without_effect(letter: DeadLetter, found: Outcome) -> str:  # noqa: PLR0911 - one return an outcome
    """An attempt that withdraws nothing: it resolves the letter, or opens it again."""
    now = letter.evidence["now"] or {}
    match found:
        case Outcome.ALREADY_WITHDRAWN:
            return text("Withdraws nothing and resolves the letter: the enrolment is already withdrawn.")
        case Outcome.ENROLMENT_ENDED:
            return text(
                "Withdraws nothing and resolves the letter: the enrolment has ended ({status}).",
                status=said(now["status"]),
            )
        case Outcome.SUPERSEDED:
            return text(
                "Withdraws nothing and resolves the letter: a newer event of the person replaced the deactivation."
            )
        case Outcome.NOT_FOUND:
            return text("Withdraws nothing: this organisation has no such enrolment.")
        case Outcome.PROTECTED:
            return text(
                "Withdraws nothing: {protection} protects the enrolment. The letter opens again.",
                protection=phrases.name_protection_now(letter),
            )
        case Outcome.PATHWAY_OWNED:
            return text(
                "Withdraws nothing: {pathway} owns the enrolment now, and this letter is about {before}. The letter "
                "opens again.",
                pathway=phrases.name_pathway(now),
                before=phrases.name_pathway(letter.evidence),
            )
        case _:
            status = phrases.quote(now.get("status"))
            return text("Withdraws nothing: the service does not know the status {status}.", status=status)


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
        return [text("the platform knows the learner now")] if now and letter.code is LetterCode.UNKNOWN_LEARNER else []
    if now is None:
        return [] if letter.code is LetterCode.NOT_FOUND else [text("the enrolment no longer exists")]
    if letter.code is LetterCode.NOT_FOUND:
        return [text("the enrolment exists now ({status})", status=said(now["status"]))]
    found: list[str] = []
    if then.get("status") and then["status"] != now["status"]:
        found.append(phrases.describe_new_status(then["status"], now))
    if then.get("status") and then.get("pathway_id") != now["pathway_id"]:
        owned = text("{pathway} owns it now", pathway=phrases.name_pathway(now)) if now["pathway_id"] else None
        found.append(owned or text("no Learning Pathway owns it any more"))
    is_protected = bool(now.get("protection"))
    if letter.code is LetterCode.PROTECTED and not is_protected:
        found.append(text("nothing protects it any more"))
    if letter.code is not LetterCode.PROTECTED and is_protected:
        found.append(text("{protection} protects it now", protection=phrases.name_protection_now(letter)))
    return found
