"""What the model of the service is made of: enrolments, persons and their events, jobs, letters."""

from dataclasses import dataclass, field

from worker.rules import CLEAN

Key = tuple[int, str]
"""Organisation and external id: a person, whether or not the platform knows them."""
LetterKey = tuple[int, int | None, str | None, str]
"""Organisation, enrolment, person, code: one live letter each."""
Ref = tuple[int, int | None]
"""What a letter is about: a job and its enrolment, or a person job that failed whole."""
STANDING = ("scheduled", "held", "queued", "paused")


@dataclass
class Enrolment:
    organisation: int
    learner: int
    series: int
    pathway: int | None
    status: str
    withdrawn_by: int | None = None
    """The job whose withdrawal the row still shows."""

    @property
    def place(self) -> tuple[int, int, int | None]:
        """Only one enrolment in a place can be active."""
        return self.learner, self.series, self.pathway


@dataclass
class Learner:
    key: Key
    active: bool = True


@dataclass(frozen=True)
class Event:
    source: str
    deactivates: bool
    time: int
    sequence: int | None = None
    later: int = 0
    """The day on which it takes effect; 0: that day has come."""

    @property
    def rank(self) -> tuple[bool, int, int, bool]:
        return self.sequence is not None, self.sequence or 0, self.time, not self.deactivates

    @property
    def in_effect(self) -> bool:
        return self.deactivates and not self.later


@dataclass(frozen=True)
class Policy:
    """What the deactivations of a source do."""

    act: str = "withdraw"
    """Or `hold` for a second person, or `ignore`."""
    grace: bool = False
    """Whether the withdrawal waits for a while."""


@dataclass
class Person:
    events: dict[str, Event] = field(default_factory=dict)
    epoch: int = 0
    active: bool = True
    due: bool = False
    """A deactivation that no learner has been made inactive for yet."""

    def newest(self) -> Event | None:
        return min(self.events.values(), key=lambda e: (-e.time, e.deactivates, e.source), default=None)

    @property
    def in_effect(self) -> bool:
        newest = self.newest()
        return newest is not None and newest.in_effect


@dataclass
class Job:
    organisation: int
    ids: frozenset[int] | None = None
    person: str | None = None
    epoch: int | None = None
    about: str | None = None
    """With `epoch`: whose deactivation it carries out, or is a cascade of."""
    reinstates: int | None = None
    override: int | None = None
    """A cascade: withdraws what this pathway owns."""
    state: str = "scheduled"
    later: bool = False
    released: bool = False
    open: set[int | None] = field(default_factory=set)
    """What is not decided yet; None is the person."""
    outcomes: dict[int, str] = field(default_factory=dict)
    first: set[str] = field(default_factory=set)
    """The outcomes before any attempt at a letter: they say how the job ends."""
    whole: str | None = None
    """How the rest was closed: `cancelled`, `superseded`; `failed` for a person."""
    taken_back: set[int] = field(default_factory=set)

    def ends(self) -> set[str]:
        if self.epoch is not None and self.whole == "superseded" and not self.outcomes:
            return {"superseded"} if "failed" not in self.first else {"superseded", "completed_with_exceptions"}
        if self.whole == "superseded":  # of a cascade, a part was withdrawn before
            return {"completed_with_exceptions"}
        return {"completed" if self.first <= CLEAN else "completed_with_exceptions"}


@dataclass
class Letter:
    refs: set[Ref] = field(default_factory=set)
    pathway: int | None = None
    """The pathway that it saw last: a remedy overrides this one."""
    trying: set[Ref] = field(default_factory=set)
    override: bool = False
    tried_pathway: int | None = None


@dataclass(frozen=True)
class Closed:
    """What the service closed in one transaction: ids or a person of a job, or an attempt at a letter."""

    job: int
    ids: tuple[int, ...] | None
    person: str | None
    state: str
    """`done` or `failed`."""
    letter: LetterKey | None = None
    """Of an attempt."""
    gave_up: str | None = None
    """The code of the letter, when it was not decided."""


@dataclass(frozen=True)
class Asked:
    job: int
    enrolment: int
    letter: LetterKey | None
    """Of an attempt."""
    running: bool = False


class ImpossibleError(AssertionError):
    """The service did what no order of its transactions allows."""
