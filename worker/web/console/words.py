"""The words that people see for the codes of the ledger; what is not known here is shown as it is."""

import re

from schemas.catalogue import Outcome, Reason, Source

WORDS: dict[str, str] = {
    # reasons, in the words of the rule
    Reason.NOT_REQUIRED: "Enrolment no longer required",
    Reason.USER_DEACTIVATED: "User Deactivated",
    Reason.LEARNER_DECLINED: "User does not want to complete the enrolment",
    Reason.ENROLMENT_ERROR: "Enrolment Error",
    # statuses of enrolments
    "waiting_to_start": "Waiting to start",
    "not_signed_in": "Not Signed In",
    "no_attempts": "No Attempts",
    "in_progress": "In Progress",
    "mastered": "Mastered",
    "incomplete": "Incomplete",
    # outcomes
    Outcome.WITHDRAWN: "Withdrawn",
    Outcome.ALREADY_WITHDRAWN: "Already withdrawn",
    Outcome.ENROLMENT_ENDED: "Had ended",
    Outcome.SUPERSEDED: "Superseded",
    Outcome.UNKNOWN_STATUS: "Unknown status",
    Outcome.PATHWAY_OWNED: "Owned by a pathway",
    Outcome.NOT_FOUND: "Not found",
    Outcome.FAILED: "Failed",
    Outcome.CANCELLED: "Cancelled",
    Outcome.REINSTATED: "Reinstated",
    Outcome.ENROLLED_AGAIN: "Enrolled again",
    Outcome.CHANGED_SINCE: "Changed since",
    Outcome.LEARNER_INACTIVE: "Learner inactive",
    # states of jobs
    "scheduled": "Scheduled",
    "held": "Held",
    "queued": "Queued",
    "running": "Running",
    "paused": "Paused",
    "completed": "Completed",
    "completed_with_exceptions": "Completed with exceptions",
    # sources
    Source.HR: "HR system",
    Source.BULK: "Bulk",
    Source.CORRECTION: "Correction",
    Source.ADMIN: "Administrator",
    Source.SUPPORT: "Support",
    # codes and states of dead letters
    "unknown_learner": "Unknown learner",
    "retries_exhausted": "Retries exhausted",
    "poison": "Kills its worker",
    "invalid_event": "Invalid event",
    "open": "Open",
    "redriven": "Being tried",
    "resolved": "Resolved",
    "discarded": "Discarded",
    # lengths of time in reports
    "under_10_seconds": "Under 10 s",
    "under_1_minute": "10 s to 1 min",
    "under_10_minutes": "1 to 10 min",
    "under_1_hour": "10 min to 1 h",
    "under_1_day": "1 to 24 h",
    "over_1_day": "Over a day",
    # remedies
    "redrive": "Redrive",
    "override": "Override",
    "cascade": "Cascade",
    "keep": "Keep",
    "discard": "Discard",
    "assign": "Assign",
    # states of runs
    "canary": "A few first",
    "halted": "Halted",
    "stopped": "Stopped",
    "done": "Done",
}

TONES: dict[str, str] = {
    **dict.fromkeys(
        ("done", "completed", "withdrawn", "already_withdrawn", "reinstated", "resolved", "mastered"), "good"
    ),
    **dict.fromkeys(("held", "paused", "completed_with_exceptions", "pathway_owned", "open", "redriven"), "warn"),
    **dict.fromkeys(("unknown_status", "not_found", "unknown_learner", "enrolled_again", "changed_since"), "warn"),
    **dict.fromkeys(("failed", "retries_exhausted", "poison", "invalid_event", "halted"), "bad"),
    **dict.fromkeys(("running", "queued", "in_progress", "canary"), "busy"),
}
"""How a badge is coloured; its word always stands in it. Without an entry: quiet."""


def word(code: object) -> str:
    """A code in words."""
    return WORDS.get(str(code), str(code).replace("_", " ").capitalize())


_CODES = re.compile(r"\b(?:" + "|".join(code for code in WORDS if "_" in code) + r")\b")


def plain(sentence: str) -> str:
    """A sentence of a service with the codes in it in words; what is one word already stays as it is."""
    return _CODES.sub(lambda found: WORDS[found[0]], sentence)
