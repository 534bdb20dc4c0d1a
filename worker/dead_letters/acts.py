"""What people can do to dead letters: the one table of acts, and the remedies for each kind of letter.

The API, the command line and the console take names, labels, roles and consequences from here.
"""

from dataclasses import dataclass

from schemas.catalogue import GUARDED_ACTS, GuardedAct, LetterCode, Role
from schemas.dead_letters import LetterAct
from worker.errors import unknown_value
from worker.texts import Text, plainly, text


@dataclass(frozen=True, slots=True)
class ActEntry:
    """The words for an act, who may do it, and what goes with it."""

    label: Text
    """What it does, and the term that the API and the command line have for it."""
    summary: Text
    """What it does, for the middle of a sentence."""
    done: Text
    """The sentence that a person sees after it."""
    role: Role = Role.OPERATOR
    makes_attempt: bool = False
    """It makes an attempt, which counts for the brake; any other act closes the letter."""
    is_resolution: bool = False
    """It decides the letter by a remedy, and needs a note that says why."""


ACTS: dict[LetterAct, ActEntry] = {
    LetterAct.REDRIVE: ActEntry(
        text("Try again (redrive)"), text("try again"), text("The attempt has been queued."), makes_attempt=True
    ),
    LetterAct.OVERRIDE: ActEntry(
        plainly(GUARDED_ACTS[GuardedAct.OVERRIDE].label),
        text("withdraw although a pathway owns it"),
        text("The withdrawal has been queued."),
        Role.APPROVER,
        makes_attempt=True,
        is_resolution=True,
    ),
    LetterAct.CASCADE: ActEntry(
        plainly(GUARDED_ACTS[GuardedAct.CASCADE].label),
        text("withdraw with the pathway's others"),
        text("The withdrawals have been queued."),
        Role.APPROVER,
        makes_attempt=True,
        is_resolution=True,
    ),
    LetterAct.KEEP: ActEntry(
        text("Leave as it is (keep)"),
        text("close; the enrolments stay"),
        text("The letter is closed. The enrolment stays as it is."),
        is_resolution=True,
    ),
    LetterAct.DISCARD: ActEntry(
        text("Close without an answer (discard)"),
        text("close without an answer"),
        text("The letter is closed without an answer."),
    ),
}

ATTEMPTS = tuple(act for act, entry in ACTS.items() if entry.makes_attempt)
"""Acts that make an attempt."""
RESOLUTIONS = tuple(act for act, entry in ACTS.items() if entry.is_resolution)
"""Acts that `resolve` takes; each needs a note."""

_DISCARD = text("Closes the letter without an answer. What was not done stays undone.")
_KEEP = text("Closes the letter. The enrolment stays as it is.")
_ANY_CODE = {
    LetterAct.REDRIVE: text("Tries again. If there is nothing left to do, this resolves the letter."),
    LetterAct.DISCARD: _DISCARD,
}
_BY_CODE: dict[LetterCode, dict[LetterAct, Text]] = {
    LetterCode.PATHWAY_OWNED: {
        LetterAct.OVERRIDE: (
            text("Withdraws this enrolment although a Learning Pathway owns it. The pathway's other enrolments stay.")
        ),
        LetterAct.CASCADE: text("Withdraws this enrolment and the learner's other active ones in the pathway."),
        LetterAct.KEEP: _KEEP,
        LetterAct.REDRIVE: text("Tries again. Withdraws the enrolment if the pathway no longer owns it."),
        LetterAct.DISCARD: _DISCARD,
    },
    LetterCode.UNKNOWN_STATUS: {
        LetterAct.KEEP: _KEEP,
        LetterAct.REDRIVE: text("Tries again. Withdraws the enrolment if the platform now shows a known status."),
        LetterAct.DISCARD: _DISCARD,
    },
    LetterCode.PROTECTED: {
        LetterAct.KEEP: _KEEP,
        LetterAct.REDRIVE: text("Tries again. Withdraws the enrolment if nothing protects it any more."),
        LetterAct.DISCARD: _DISCARD,
    },
    LetterCode.INVALID_EVENT: {
        LetterAct.DISCARD: text(
            "Closes the letter. After correcting the event, the sender sends it again under a new id."
        ),
    },
}


def remedies(code: LetterCode) -> dict[LetterAct, Text]:
    """The acts for a letter of a code, each with its consequence."""
    return _BY_CODE.get(code, _ANY_CODE)


def codes_for(act: LetterAct) -> list[LetterCode] | None:
    """The codes of letters that an act is for; None: all."""
    return None if act is LetterAct.DISCARD else [code for code in LetterCode if act in remedies(code)]


def parse_act(given: str, *, among: tuple[LetterAct, ...] = tuple(ACTS), name: str = "act") -> LetterAct:
    """An act from its name.

    Raises:
        InvalidInputError: it is not one of `among`; names the field and the acts.
    """
    for act in among:
        if act == given:
            return act
    raise unknown_value(name, given, among)
