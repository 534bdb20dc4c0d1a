"""Rows of the ledger as values: what its statements return, typed and frozen."""

from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

from schemas.catalogue import JobState, LetterCode, LetterState, Source
from worker.brake_limits import explain
from worker.texts import Text, text


@dataclass(frozen=True, slots=True)
class Job:
    """What one producer asked for, with the counts of its chunks."""

    id: int
    organisation_id: int
    kind: str
    state: JobState
    reason: str | None
    source: str
    requested_by: str
    note: str | None
    idempotency_key: str
    learner_external_id: str | None
    created_at: datetime
    effective_at: datetime
    finished_at: datetime | None
    accepted: int
    duplicates: int
    outcomes: dict[str, int]
    in_flight: int
    open_dead_letters: int
    file_name: str | None = None
    """Of the file that it came as."""
    reinstates: int | None = None
    """The job that this one takes back."""
    reinstated: int = 0
    """How many of this job's withdrawals were taken back."""
    held_because: str | None = None
    brake: dict[str, Any] | None = None
    """The figures that held it (`worker.brake_limits.Brake.figures`)."""
    pruned: bool = False
    """Whether its details were kept long enough and are gone."""
    series_title: str | None = None
    """Of the one Series that it is about; None: of several, or not known."""

    @property
    def title(self) -> Text:
        """What it is about, in a line. It names no person."""
        one = self.accepted == 1
        enrolments = text("1 enrolment") if one else text("{count:,} enrolments", count=self.accepted)
        if self.kind == "reinstate":
            return text("Undo job {job} · {enrolments}", job=self.reinstates, enrolments=enrolments)
        if self.learner_external_id is not None:
            return text("Withdraw all that a learner is enrolled in")
        if self.source == Source.SUPPORT:
            return text("Withdraw what the pathway owns · {enrolments}", enrolments=enrolments)
        if self.series_title is not None:
            return text("Withdraw {series} · {enrolments}", series=self.series_title, enrolments=enrolments)
        if self.file_name:
            return text("Withdraw {enrolments} from a file", enrolments=enrolments)
        return text("Withdraw {enrolments}", enrolments=enrolments)

    @property
    def left(self) -> int:
        """How many of its enrolments it has decided and not withdrawn, now or before; of an ended withdrawal."""
        done = ("withdrawn", "already_withdrawn")
        if self.finished_at is None or self.kind == "reinstate":
            return 0
        return sum(count for outcome, count in self.outcomes.items() if outcome not in done)

    @property
    def held_cause(self) -> Text | None:
        """Why it waits for a second person, as a sentence."""
        if self.held_because is None:
            return None
        if self.brake is None:
            return text("Held because its source lets a second person decide.")
        if "part" in self.brake:
            return text("Held because {figures}", figures=explain(self.brake))
        return text("Held by the brake: {figures}", figures=explain(self.brake))

    @property
    def held_why(self) -> Text | None:
        """Why it waits for a second person, and who can release it, as sentences."""
        cause = self.held_cause
        return cause and text("{cause} An approver other than the requester can release it.", cause=cause)


@dataclass(frozen=True, slots=True)
class Submitted:
    """The job that answers a request, and whether this request made it."""

    job: Job
    created: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class NewJob:
    """A job as it is inserted."""

    organisation_id: int
    requested_by: str
    door: str
    key: str
    request_hash: bytes
    """SHA-256 of the validated request, by which the key knows it again."""
    reason: str | None
    """None exactly for a reinstate."""
    source: str
    kind: str = "withdraw"
    reinstates: int | None = None
    note: str | None = None
    file_name: str | None = None
    learner_external_id: str | None = None
    """Of a person job."""
    epoch: int | None = None
    """Of the person when a deactivation asked."""
    deactivated_external_id: str | None = None
    """Of a cascade: the person whose deactivation, of that epoch, it carries further."""
    effective_at: datetime | date | None = None
    """None: at once. A date is the end of that day in the organisation's time zone."""
    accepted: int = 0
    duplicates: int = 0
    series_id: int | None = None
    """Of the one Series that it was asked for, for its title."""
    request_id: str | None = None
    """Of the request that asks for it."""
    traceparent: str | None = None
    """The context of its trace (W3C Trace Context), while traces are on."""


LANE_HR, LANE_LETTERS, LANE_BULK = 0, 1, 2
"""Deactivations go first, then attempts at letters, then everything else."""


@dataclass(frozen=True, slots=True)
class NewChunks:
    """What the chunks of a new job have in common."""

    job_id: int
    organisation_id: int
    lane: int
    state: str
    """`ready`, or `waiting` until the job is admitted."""
    size: int = 1000
    """Ids in one chunk at the most."""


@dataclass(frozen=True, slots=True)
class Subject:
    """What admission has to know of a job."""

    released: bool
    learners: int
    """Whom the rules would withdraw now."""
    door: str
    source: str
    is_by_series: bool
    """Whether the policies limit what is withdrawn from one Series."""


def describe_protection(kind: str | None, until: str | None) -> Text:
    """`a legal hold until 2027-01-31 23:00Z`, as a part of a sentence. `until`: RFC 3339; None: without an end."""
    known = {"legal_hold": text("a legal hold"), "exemption": text("an exemption")}
    name = known.get(kind or "", text("a protection"))
    if until is None:
        return text("{protection} without an end", protection=name)
    end = datetime.fromisoformat(until).astimezone(UTC)
    return text("{protection} until {until:%Y-%m-%d %H:%M}Z", protection=name, until=end)


@dataclass(frozen=True, slots=True)
class Claim:
    """Chunks that one worker may decide until the lease runs out, and the token that proves it."""

    token: UUID
    chunk_ids: list[int]
    more: bool = False
    """Whether more was due at the time; what becomes due later brings a hint of its own."""
    is_plain: bool = False
    """Whether it is one chunk that only names enrolments to withdraw, as far as the chunk itself says."""
    names_persons: bool = False
    """Whether each chunk is about a person, and none is an attempt at a letter."""
    names_enrolments: bool = False
    """Whether each chunk only names enrolments to withdraw, as far as the chunk itself says.

    Of one chunk alone only if it names one enrolment: what is larger is plain.
    """
    job_ids: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Chunk:
    """A claimed chunk, locked, with what its job says (which never changes)."""

    id: int
    job_id: int
    size: int
    attempts: int
    own_failures: int
    """Of the attempts: those that failed by an error of a row or an unknown one, not by the surroundings."""
    tried_for: timedelta
    """The time of its attempts, this one included, and of the pauses between them."""
    claims: int
    learner_external_id: str | None
    letter_id: int | None
    """The dead letter that this chunk tries again; None for a job's own chunk."""
    epoch: int | None
    """Of the person whose deactivation, or its cascade, the job carries out."""
    reinstates: int | None
    proceed: bool
    """False when the job was paused or cancelled after the claim: hand it back."""
    lane: int = LANE_BULK
    waited: timedelta = timedelta(0)
    """Since it was asked for; for what was scheduled or held, since it fell due or was released."""
    request_id: str | None = None
    is_of_roster: bool = False
    """Whether its job withdraws the people who left according to a roster, each unless something newer is known."""

    @property
    def is_person(self) -> bool:
        """Whether it names a learner; what they are enrolled in is found when it is decided."""
        return self.learner_external_id is not None

    @property
    def is_splittable(self) -> bool:
        """A person chunk is never split: its letter names the person."""
        return self.size > 1 and not self.is_person


@dataclass(frozen=True, slots=True)
class Asked:
    """How long ago, and by which request, a chunk was asked for; as a `Chunk` says it."""

    lane: int
    waited: timedelta
    request_id: str | None


@dataclass(frozen=True, slots=True)
class Decided:
    """What one chunk's decision wrote."""

    chunk_id: int
    job_id: int
    counts: dict[str, int]


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A row for support."""

    id: int
    organisation_id: int
    code: LetterCode
    state: LetterState
    enrolment_id: int | None
    learner_external_id: str | None
    job_id: int | None
    job_ids: list[int]
    count: int
    message: str
    error_class: str | None
    fingerprint: str
    evidence: dict[str, Any]
    assignee: str | None
    opened_at: datetime
    closed_at: datetime | None
    closed_by: str | None
    remedy: str | None
    evidence_dropped_at: datetime | None
    read_at: datetime
    """The database's time: whether it is overdue is seen from there."""
    attempts: list[dict[str, Any]] = field(default_factory=list)
    notes: list[dict[str, Any]] = field(default_factory=list)
    history: list[dict[str, Any]] = field(default_factory=list)
    context: dict[str, Any] = field(default_factory=dict)
    """What stands around it: `request`, `shared_by`, `series_code`, `learner`."""

    @property
    def is_live(self) -> bool:
        return self.state in (LetterState.OPEN, LetterState.REDRIVEN)


@dataclass(frozen=True, slots=True)
class Person:
    """A person as the events of all sources leave them."""

    epoch: int
    active: bool
    effective_at: datetime | None


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """The newest event of one source about a person."""

    source: str
    type: str
    sequence: int | None
    occurred_at: datetime
    effective_at: datetime

    @property
    def deactivates(self) -> bool:
        return self.type == "user.deactivated"


@dataclass(frozen=True, slots=True)
class ArrivedEvent:
    """An event about a person that is to be applied, and how it came."""

    external_id: str
    event: StoredEvent
    received_at: datetime
    actor: str
    door: str
    key: str
    request_hash: bytes
    request_id: str | None = None
    traceparent: str | None = None


@dataclass(frozen=True, slots=True)
class KnownDeactivation:
    """The job that carries a person's deactivation out."""

    id: int
    state: JobState
    """As it is stored: `queued` while it runs."""
    is_released: bool
    """By a second person."""
    is_applied: bool
    """Whether the person's enrolments were decided."""


@dataclass(frozen=True, slots=True)
class DeactivationPolicy:
    """What a source's deactivations do: `withdraw`, `hold` for a second person, or `ignore`; after a grace period."""

    on_deactivate: str = "withdraw"
    grace: timedelta = timedelta(0)


@dataclass(frozen=True, slots=True)
class Seen:
    """When a secret was last replaced, as somebody has seen it; None: it never was."""

    at: datetime | None
