"""The catalogue: every reason, status, outcome, state, code and role, with the words that people read.

Everything that shows one of these codes takes its words from here: the API's documentation, the command line, the
console and the exports. What a code means for its job (phase, clean, needs support) is here as well; the order of
the checks is in `worker/rules.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Tone(StrEnum):
    """How a code is shown: the colour of a badge. The label always stands beside it."""

    GOOD = "good"
    WARN = "warn"
    BAD = "bad"
    BUSY = "busy"
    OUT = "out"
    """Withdrawn: neither an achievement nor a fault."""
    QUIET = "quiet"


@dataclass(frozen=True, slots=True)
class Entry:
    """The words for one code: a short label, and a sentence that explains it."""

    label: str
    sentence: str
    tone: Tone = Tone.QUIET


class Reason(StrEnum):
    """Why a learner is withdrawn. The list is closed, and every withdrawal has exactly one reason (rule 1)."""

    NOT_REQUIRED = "not_required"
    USER_DEACTIVATED = "user_deactivated"
    LEARNER_DECLINED = "learner_declined"
    ENROLMENT_ERROR = "enrolment_error"


REASONS: dict[Reason, Entry] = {
    Reason.NOT_REQUIRED: Entry("Enrolment no longer required", "The learner no longer needs this Series."),
    Reason.USER_DEACTIVATED: Entry("User Deactivated", "The person was deactivated. Source `hr` always gives it."),
    Reason.LEARNER_DECLINED: Entry(
        "User does not want to complete the enrolment", "The learner does not want to complete the Series."
    ),
    Reason.ENROLMENT_ERROR: Entry(
        "Enrolment Error", "The enrolment was made in error. Source `correction` always gives it."
    ),
}


class Source(StrEnum):
    """Where a job came from."""

    HR = "hr"
    BULK = "bulk"
    CORRECTION = "correction"
    ADMIN = "admin"
    SUPPORT = "support"


SOURCES: dict[Source, Entry] = {
    Source.HR: Entry("HR system", "An HR system or SCIM client deactivated the person."),
    Source.BULK: Entry("Bulk", "A list, a file or a filter."),
    Source.CORRECTION: Entry("Correction", "An enrolment made in error is undone."),
    Source.ADMIN: Entry("Administrator", "An administrator asked for it."),
    Source.SUPPORT: Entry("Support", "Support resolved a letter by withdrawing from the whole pathway."),
}


class Status(StrEnum):
    """The enrolment statuses that the service knows. The platform may show others; those go to support (rule 2)."""

    WAITING_TO_START = "waiting_to_start"
    NOT_SIGNED_IN = "not_signed_in"
    NO_ATTEMPTS = "no_attempts"
    IN_PROGRESS = "in_progress"
    MASTERED = "mastered"
    INCOMPLETE = "incomplete"
    WITHDRAWN = "withdrawn"


class Phase(StrEnum):
    """What a status allows: an active enrolment can be withdrawn, an ended one is never touched."""

    ACTIVE = "active"
    ENDED = "ended"
    WITHDRAWN = "withdrawn"


@dataclass(frozen=True, slots=True)
class StatusEntry(Entry):
    """The words for a status, and what it allows."""

    phase: Phase = Phase.ACTIVE


STATUSES: dict[Status, StatusEntry] = {
    Status.WAITING_TO_START: StatusEntry("Waiting to start", "The Series has not started."),
    Status.NOT_SIGNED_IN: StatusEntry("Not Signed In", "The learner has not signed in."),
    Status.NO_ATTEMPTS: StatusEntry("No Attempts", "The learner has not attempted anything."),
    Status.IN_PROGRESS: StatusEntry("In Progress", "The learner is working on it.", Tone.BUSY),
    Status.MASTERED: StatusEntry("Mastered", "The learner completed the Series.", Tone.GOOD, Phase.ENDED),
    Status.INCOMPLETE: StatusEntry("Incomplete", "The Series ended before the learner did.", phase=Phase.ENDED),
    Status.WITHDRAWN: StatusEntry("Withdrawn", "The learner was withdrawn.", Tone.OUT, Phase.WITHDRAWN),
}


class Outcome(StrEnum):
    """What happened to one enrolment of a job."""

    WITHDRAWN = "withdrawn"
    ALREADY_WITHDRAWN = "already_withdrawn"
    ENROLMENT_ENDED = "enrolment_ended"
    SUPERSEDED = "superseded"
    UNKNOWN_STATUS = "unknown_status"
    PATHWAY_OWNED = "pathway_owned"
    NOT_FOUND = "not_found"
    FAILED = "failed"
    CANCELLED = "cancelled"
    REINSTATED = "reinstated"
    ENROLLED_AGAIN = "enrolled_again"
    CHANGED_SINCE = "changed_since"
    LEARNER_INACTIVE = "learner_inactive"
    PROTECTED = "protected"


@dataclass(frozen=True, slots=True)
class OutcomeEntry(Entry):
    """The words for an outcome, and what it means for its job."""

    clean: bool = False
    """A job whose outcomes are all clean is `completed`; any other outcome makes it `completed_with_exceptions`."""
    needs_support: bool = False
    """The outcome refers to a dead letter; `protected` only if the organisation wants one."""


OUTCOMES: dict[Outcome, OutcomeEntry] = {
    Outcome.WITHDRAWN: OutcomeEntry(
        "Withdrawn", "The record shows Withdrawn. Progress and history stay.", Tone.OUT, clean=True
    ),
    Outcome.ALREADY_WITHDRAWN: OutcomeEntry(
        "Already withdrawn", "Nothing changes. The first reason, time and actor stay.", Tone.OUT, clean=True
    ),
    Outcome.ENROLMENT_ENDED: OutcomeEntry("Had ended", "Mastered or incomplete. An ended enrolment is never touched."),
    Outcome.SUPERSEDED: OutcomeEntry(
        "Superseded", "Not withdrawn: a newer event of the person replaced this deactivation."
    ),
    Outcome.UNKNOWN_STATUS: OutcomeEntry(
        "Unknown status",
        "Not withdrawn: the service does not know the status. Support decides.",
        Tone.WARN,
        needs_support=True,
    ),
    Outcome.PATHWAY_OWNED: OutcomeEntry(
        "Owned by a pathway",
        "Not withdrawn: a Learning Pathway owns the enrolment. Support decides.",
        Tone.WARN,
        needs_support=True,
    ),
    Outcome.NOT_FOUND: OutcomeEntry(
        "Not found", "This organisation has no such enrolment. Support decides.", Tone.WARN, needs_support=True
    ),
    Outcome.FAILED: OutcomeEntry(
        "Failed", "Every attempt failed. The letter about it has the error.", Tone.BAD, needs_support=True
    ),
    Outcome.CANCELLED: OutcomeEntry("Cancelled", "The job was cancelled before it reached this enrolment."),
    Outcome.REINSTATED: OutcomeEntry(
        "Reinstated", "The withdrawal is undone: the enrolment gets its earlier status back.", Tone.GOOD, clean=True
    ),
    Outcome.ENROLLED_AGAIN: OutcomeEntry(
        "Enrolled again",
        "Not reinstated: the learner has another active enrolment in the same Series and pathway.",
        Tone.WARN,
    ),
    Outcome.CHANGED_SINCE: OutcomeEntry(
        "Changed since", "Not reinstated: the enrolment has changed since, or was reinstated before.", Tone.WARN
    ),
    Outcome.LEARNER_INACTIVE: OutcomeEntry("Learner inactive", "Not reinstated: the learner is inactive."),
    Outcome.PROTECTED: OutcomeEntry(
        "Protected",
        "Not withdrawn: a legal hold or an exemption protects the enrolment or its learner.",
        Tone.WARN,
        needs_support=True,
    ),
}


class JobState(StrEnum):
    """Where a job stands. `running` is read from its chunks and never stored: nothing has to keep it true."""

    SCHEDULED = "scheduled"
    HELD = "held"
    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    COMPLETED = "completed"
    COMPLETED_WITH_EXCEPTIONS = "completed_with_exceptions"
    CANCELLED = "cancelled"
    SUPERSEDED = "superseded"


JOB_STATES: dict[JobState, Entry] = {
    JobState.SCHEDULED: Entry("Scheduled", "Takes effect later."),
    JobState.HELD: Entry("Held", "Waits until a second person releases it.", Tone.WARN),
    JobState.QUEUED: Entry("Queued", "Waits for a worker.", Tone.BUSY),
    JobState.RUNNING: Entry("Running", "Workers are deciding its enrolments.", Tone.BUSY),
    JobState.PAUSED: Entry("Paused", "Nothing more is started until somebody resumes it.", Tone.WARN),
    JobState.COMPLETED: Entry("Completed", "Every enrolment was withdrawn, now or before.", Tone.GOOD),
    JobState.COMPLETED_WITH_EXCEPTIONS: Entry(
        "Completed with exceptions", "Every enrolment was decided; some were not withdrawn.", Tone.WARN
    ),
    JobState.CANCELLED: Entry("Cancelled", "Cancelled: what was not decided by then stays as it was."),
    JobState.SUPERSEDED: Entry("Superseded", "A newer event of the person replaced this deactivation."),
}


class LetterCode(StrEnum):
    """Why something is in front of support."""

    PATHWAY_OWNED = "pathway_owned"
    UNKNOWN_STATUS = "unknown_status"
    NOT_FOUND = "not_found"
    UNKNOWN_LEARNER = "unknown_learner"
    RETRIES_EXHAUSTED = "retries_exhausted"
    POISON = "poison"
    INVALID_EVENT = "invalid_event"
    PROTECTED = "protected"


LETTER_CODES: dict[LetterCode, Entry] = {
    LetterCode.PATHWAY_OWNED: Entry(
        "Owned by a pathway", "A Learning Pathway owns the enrolment, so it is not withdrawn directly.", Tone.WARN
    ),
    LetterCode.UNKNOWN_STATUS: Entry(
        "Unknown status", "The service does not know the enrolment's status, and never guesses.", Tone.WARN
    ),
    LetterCode.NOT_FOUND: Entry("Not found", "This organisation has no such enrolment.", Tone.WARN),
    LetterCode.UNKNOWN_LEARNER: Entry(
        "Unknown learner", "The platform does not know the learner. The service tries again once it does.", Tone.WARN
    ),
    LetterCode.RETRIES_EXHAUSTED: Entry("Retries exhausted", "Every attempt failed.", Tone.BAD),
    LetterCode.POISON: Entry(
        "Stops its worker", "The worker stopped again and again while it decided this. It is not tried again.", Tone.BAD
    ),
    LetterCode.INVALID_EVENT: Entry("Invalid event", "An HR event could not be read. Nothing was done.", Tone.BAD),
    LetterCode.PROTECTED: Entry(
        "Protected",
        "A legal hold or an exemption protects the enrolment. The service tries again within a day after it ends.",
        Tone.WARN,
    ),
}


class LetterState(StrEnum):
    """`open` → `redriven` (an attempt is in flight) → `open` again or `resolved`; or `discarded`."""

    OPEN = "open"
    REDRIVEN = "redriven"
    RESOLVED = "resolved"
    DISCARDED = "discarded"


LETTER_STATES: dict[LetterState, Entry] = {
    LetterState.OPEN: Entry("Open", "Waits for a person.", Tone.WARN),
    LetterState.REDRIVEN: Entry("Being tried", "A new attempt is in flight.", Tone.WARN),
    LetterState.RESOLVED: Entry("Resolved", "Nothing in it needs support any more.", Tone.GOOD),
    LetterState.DISCARDED: Entry("Discarded", "Closed without an answer; what was not done stays not done."),
}


class ProtectionKind(StrEnum):
    """Why nothing withdraws a learner or an enrolment for a time."""

    LEGAL_HOLD = "legal_hold"
    EXEMPTION = "exemption"


PROTECTION_KINDS: dict[ProtectionKind, Entry] = {
    ProtectionKind.LEGAL_HOLD: Entry(
        "Legal hold", "The law, or a case, asks that the record stays as it is. It may have no end.", Tone.WARN
    ),
    ProtectionKind.EXEMPTION: Entry(
        "Exemption", "The learner goes on by agreement, until a day that is set.", Tone.WARN
    ),
}


class GuardedAct(StrEnum):
    """What may need a second person, as the organisation's policies say."""

    RELEASE = "release"
    OVERRIDE = "override"
    CASCADE = "cascade"
    LIFT = "lift"
    TOKEN = "token"  # noqa: S105 - no password
    WITHDRAW = "withdraw"
    WITHDRAW_SERIES = "withdraw_series"
    POLICIES = "policies"


GUARDED_ACTS: dict[GuardedAct, Entry] = {
    GuardedAct.RELEASE: Entry(
        "Release", "Release held jobs. Nobody releases what they requested; the size is the learners of the jobs."
    ),
    GuardedAct.OVERRIDE: Entry(
        "Withdraw anyway (override)",
        "Withdraw although a Learning Pathway owns the enrolment. The size is the learners.",
    ),
    GuardedAct.CASCADE: Entry(
        "Withdraw with the pathway's others (cascade)",
        "Withdraw the learner's other enrolments in the pathway as well. The size is the learners.",
    ),
    GuardedAct.LIFT: Entry("Lift a protection", "End a protection before its time. Nobody lifts what they set."),
    GuardedAct.TOKEN: Entry("Create a token", "Create a token with the role approver or owner."),
    GuardedAct.WITHDRAW: Entry(
        "Withdraw", "Learners whom the jobs of one source withdraw in the brake's window. Past them, a job is held."
    ),
    GuardedAct.WITHDRAW_SERIES: Entry(
        "Withdraw from a Series",
        "Learners withdrawn from one Series in the brake's window, by jobs of any kind. Past them, a job is held.",
    ),
    GuardedAct.POLICIES: Entry("Change the policies", "Change who may do what alone."),
}


class ReceiptStatus(StrEnum):
    """What became of an event about a person."""

    ACCEPTED = "accepted"
    SCHEDULED = "scheduled"
    HELD = "held"
    NOTED = "noted"
    REACTIVATED = "reactivated"
    IGNORED = "ignored"
    INVALID = "invalid"
    ERASED = "erased"


RECEIPT_STATUSES: dict[ReceiptStatus, Entry] = {
    ReceiptStatus.ACCEPTED: Entry(
        "Accepted", "The event is stored. Once it is applied: a job withdraws the person, or already has.", Tone.GOOD
    ),
    ReceiptStatus.SCHEDULED: Entry("Scheduled", "A job withdraws the person later."),
    ReceiptStatus.HELD: Entry("Held", "A job waits until a second person releases it.", Tone.WARN),
    ReceiptStatus.NOTED: Entry("Noted", "The person is inactive. By policy, or by a cancel, nothing is withdrawn."),
    ReceiptStatus.REACTIVATED: Entry("Reactivated", "The person is active. Deactivations not yet applied are void."),
    ReceiptStatus.IGNORED: Entry("Ignored", "Nothing changed: a newer event is known, or the type is unknown."),
    ReceiptStatus.INVALID: Entry(
        "Invalid", "The event could not be read or applied. It needs attention as a letter.", Tone.BAD
    ),
    ReceiptStatus.ERASED: Entry(
        "Erased", "Nothing was done: the person was erased at their own request, and the platform does not have them."
    ),
}


class Role(StrEnum):
    """What a token may do. From `viewer` on, each role includes those before it.

    `scim` and `producer` are for machines. `operator` includes `producer`; nothing else includes either.
    """

    SCIM = "scim"
    PRODUCER = "producer"
    VIEWER = "viewer"
    OPERATOR = "operator"
    APPROVER = "approver"
    OWNER = "owner"

    def includes(self, needed: "Role") -> bool:
        """Whether this role may do what `needed` may."""
        if self is needed:
            return True
        order = [Role.VIEWER, Role.OPERATOR, Role.APPROVER, Role.OWNER]
        least = Role.OPERATOR if needed is Role.PRODUCER else needed
        return self in order and least in order and order.index(self) >= order.index(least)


ROLES: dict[Role, Entry] = {
    Role.SCIM: Entry("SCIM client", "Uses `/scim/v2`, and nothing else."),
    Role.PRODUCER: Entry("Producer", "For machines: submits and plans jobs, and reads its own."),
    Role.VIEWER: Entry(
        "Viewer",
        "Reads everything of the organisation, and changes nothing. "
        "Reports and files show it ids, not names or e-mail addresses.",
    ),
    Role.OPERATOR: Entry(
        "Operator",
        "Withdraws, steers and undoes jobs, works on letters, protects learners, and schedules reports.",
    ),
    Role.APPROVER: Entry(
        "Approver",
        "Releases held jobs, overrides and cascades, lifts protections, decides on approvals and proposed limits.",
    ),
    Role.OWNER: Entry(
        "Owner", "Proposes limits of the brake, and manages policies, webhooks and what follows a protection."
    ),
}


SEES_NAMES = Role.OPERATOR
"""The least role to which reports and files show names and e-mail addresses of learners. Others see ids."""

SCHEDULES_REPORTS = Role.OPERATOR
"""The least role that has reports made again and again. They end with it."""


def describe(entries: Mapping[Any, Entry]) -> str:
    """The codes of one list with their sentences, as Markdown for the API's documentation."""
    return "\n".join(f"- `{code}`: {entry.sentence}" for code, entry in entries.items())
