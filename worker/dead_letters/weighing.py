"""What a person weighs where nothing is recommended for a letter."""

from schemas.catalogue import LetterCode, Outcome, Reason
from worker.texts import Text, text

_WRONG = text(
    "The request says that the enrolment was never right. Override withdraws it although a Learning Pathway owns it; "
    "keep leaves it as it is."
)
_OWNED = text("A Learning Pathway owns the enrolment, so trying again does not withdraw it. Discard gives it up.")
_UNKNOWN_STATUS = text(
    "Ask the platform's administrators what the status means. Redrive withdraws the enrolment once the platform shows "
    "a known status; keep leaves it as it is."
)
_PROTECTED = text(
    "The service tries again by itself within a day after the protection ends. Keep leaves the enrolment as it is, for "
    "good."
)
_NOT_KNOWN = text("The service tries again by itself once the platform knows the learner. Discard gives it up.")
_POISON = text(
    "The attempt itself has stopped workers. Ask an engineer before redrive tries it again; discard gives it up."
)

_HINTS: dict[tuple[LetterCode, str], Text] = {
    (LetterCode.UNKNOWN_STATUS, Outcome.UNKNOWN_STATUS): _UNKNOWN_STATUS,
    (LetterCode.PROTECTED, Outcome.PROTECTED): _PROTECTED,
    (LetterCode.UNKNOWN_LEARNER, "not_known"): _NOT_KNOWN,
    (LetterCode.POISON, Outcome.WITHDRAWN): _POISON,
    (LetterCode.POISON, Outcome.PATHWAY_OWNED): _OWNED,
    (LetterCode.RETRIES_EXHAUSTED, Outcome.PATHWAY_OWNED): _OWNED,
}
"""By the code of the letters, and what an attempt would find now."""


def weigh(code: LetterCode, outcome: str, reason: str | None) -> Text | None:
    """In one or two sentences, for letters of a code whose attempt would have this outcome now. None: nothing is known.

    `reason`: of the request.
    """
    if code is LetterCode.PATHWAY_OWNED and outcome == Outcome.PATHWAY_OWNED:
        return _WRONG if reason == Reason.ENROLMENT_ERROR else None
    return _HINTS.get((code, outcome))
