"""What a person weighs where nothing is recommended for a letter."""

from schemas.catalogue import LetterCode, Outcome, Reason
from worker.texts import Text, text

_WRONG = text(
    "The request says that the enrolment was never right. Whoever requested it, or runs the pathway, can say whether "
    "the pathway may lose it."
)
_OWNED = text("A Learning Pathway owns the enrolment, so trying again does not withdraw it.")
_UNKNOWN_STATUS = text(
    "Ask the platform's administrators what the status means. Trying again withdraws the enrolment once the platform "
    "shows a known one."
)
_PROTECTED = text(
    "The service tries again by itself within a day after the protection ends, unless the letter is closed before."
)
_NOT_KNOWN = text("The service tries again by itself once the platform knows the learner.")
_POISON = text("The attempt itself has stopped workers. Ask an engineer before you try it again.")

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
