"""The dead-letter desk over the wire: groups, overview, acts on all that match, diagnoses, decision receipts."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from .dead_letters import NOBODY, LetterFilter
from .jobs import Note, Request, Storable
from .sentences import Sentence


def _a_name(value: str) -> str:
    if value == NOBODY:
        raise ValueError("`none` stands for letters without an assignee. Give another name.")
    return value


Assignee = Annotated[
    str, StringConstraints(min_length=1, max_length=255, strip_whitespace=True), Storable, AfterValidator(_a_name)
]
GivenNote = Annotated[Note, Field(min_length=1)]


class AssignRequest(Request):
    """Who looks after a letter; null for nobody."""

    model_config = ConfigDict(extra="forbid", frozen=True, json_schema_extra={"examples": [{"assignee": "dora"}]})

    assignee: Assignee | None


class AssignAllRequest(AssignRequest):
    """Who looks after all live letters that match."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        json_schema_extra={"examples": [{"filter": {"code": "pathway_owned"}, "assignee": "dora"}]},
    )

    filter: LetterFilter


class NoteRequest(Request):
    """A note for a letter."""

    model_config = ConfigDict(extra="forbid", frozen=True, json_schema_extra={"examples": [{"note": "Asked HR."}]})

    note: GivenNote


class NoteAllRequest(NoteRequest):
    """A note for all letters that match."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        json_schema_extra={"examples": [{"filter": {"fingerprint": "pathway_owned:3"}, "note": "Asked HR."}]},
    )

    filter: LetterFilter


class Acted(BaseModel):
    """What an act on all letters that match did."""

    matched: Annotated[int, Field(description="Letters that match.")]
    changed: Annotated[int, Field(description="Letters that it changed; each has an audit row.")]


class Group(BaseModel):
    """Dead letters with one cause: they share code and fingerprint."""

    model_config = ConfigDict(from_attributes=True, frozen=True)

    fingerprint: str
    code: str
    sentence: Annotated[Sentence, Field(description="What happened to all of them.")]
    count: Annotated[int, Field(description="Above `counted_to`: more than that. The states, then, are at least.")]
    states: Annotated[dict[str, int], Field(description="How many are in which state.")]
    overdue: int
    unassigned: Annotated[int, Field(description="Open or redriven, without an assignee.")]
    oldest: Annotated[datetime, Field(description="When the oldest live letter was opened, else the oldest of all.")]
    newest: datetime
    sample: Annotated[int, Field(description="One letter as an example: the first live one, else the first.")]


class Groups(BaseModel):
    """Groups, those with most live letters first. `groups` and `letters` count all, listed or not."""

    items: list[Group]
    groups: Annotated[int, Field(description="1,001: more than 1,000.")]
    letters: int
    counted_to: Annotated[int, Field(description="The letters of a group are counted to this, one above it is more.")]
    at_least: Annotated[bool, Field(description="Whether there are more than `letters`.")]


class CodeOverview(BaseModel):
    """Live letters of one code by age. A number above the overview's `counted_to` stands for more than that."""

    model_config = ConfigDict(from_attributes=True, frozen=True)

    code: str
    live: int
    overdue: int
    unassigned: int
    target_hours: Annotated[float, Field(description="Older ones are overdue.")]
    oldest: datetime | None
    ages: Annotated[dict[str, int], Field(description="`day`, `week`, `month`, `older`: opened within the last …")]


class Overview(BaseModel):
    """All live letters of the organisation, by code and age."""

    live: int
    overdue: int
    unassigned: int
    items: list[CodeOverview]
    counted_to: Annotated[int, Field(description="Each number of a code is counted to this; one above it is more.")]
    at_least: Annotated[bool, Field(description="Whether there are more than `live` (`overdue`, `unassigned`).")]


class Event(BaseModel):
    """Something that happened, when, and by whom (null: by the service itself)."""

    model_config = ConfigDict(from_attributes=True, frozen=True)

    at: datetime
    what: Sentence
    who: str | None = None
    asked_by: str | None = Field(default=None, description="Where the service did it: on whose request.")
    note: str | None = None
    job_id: int | None = None
    dead_letter_id: int | None = None


class Asked(BaseModel):
    """A request as its producer made it."""

    model_config = ConfigDict(from_attributes=True, frozen=True)

    job_id: int
    kind: str
    state: str
    reason: str | None
    reinstates: Annotated[int | None, Field(description="The job whose withdrawals it takes back.")] = None
    source: str
    requested_by: str
    door: Annotated[str, Field(description="`api`, `cli`, `console`, `scim` or `hr:` and the name of the HR source.")]
    key: Annotated[str, Field(description="Its idempotency key; through a webhook the sender's id of the event.")]
    receipt_id: Annotated[str | None, Field(description="Of the HR event.")] = None
    note: str | None
    learner_external_id: str | None
    created_at: datetime
    effective_at: datetime
    file_name: Annotated[str | None, Field(description="Name of the file that held the request.")] = None
    line: Annotated[int | None, Field(description="The first line of the input that names the enrolment.")] = None


class Recommendation(BaseModel):
    """The remedy that fits what the platform shows now. A person decides."""

    remedy: str
    reason: Sentence


class Diagnosis(BaseModel):
    """A dead letter explained to support."""

    sentence: Annotated[Sentence, Field(description="What happened and why.")]
    next: Annotated[Sentence | None, Field(description="What another attempt would find now.")] = None
    seen_then: dict[str, Any] = {}
    seen_now: dict[str, Any] | None = None
    changed: Annotated[list[Sentence], Field(description="What has changed between then and now.")] = []
    request: Asked | None = None
    shared_by: Annotated[
        int | None,
        Field(description="Live letters with this fingerprint, this one included; 10,001: more than 10,000."),
    ] = None


class Rule(BaseModel):
    """The rule of the domain that decided (DESIGN.md, section 1)."""

    number: int
    sentence: Sentence


class Decision(BaseModel):
    """One request for an enrolment, and what became of it."""

    request: Asked
    standing: Annotated[
        str,
        Field(description="`decided`, `waiting`, `cancelled`, `superseded` or `failed`."),
    ]
    outcome: str | None = None
    sentence: Sentence
    rule: Rule | None = None
    seen: Annotated[dict[str, Any] | None, Field(description="Status and pathway, under the lock.")] = None
    decided_at: datetime | None = None
    asked_by: Annotated[str | None, Field(description="Who asked for the attempt that decided, if support did.")] = None
    dead_letter_id: int | None = None


class LetterInHistory(BaseModel):
    """A dead letter that was about this enrolment or its learner."""

    id: int
    code: str
    state: str
    sentence: Sentence
    assignee: str | None
    opened_at: datetime
    closed_at: datetime | None
    closed_by: str | None
    remedy: str | None


class EnrolmentHistory(BaseModel):
    """A decision receipt: every request for an enrolment, the rule that decided, what happened since."""

    enrolment_id: int
    summary: Sentence
    now: Annotated[
        dict[str, Any] | None, Field(description="The enrolment as the platform has it; null: there is none.")
    ]
    decisions: Annotated[list[Decision], Field(description="In the order of the requests.")]
    dead_letters: list[LetterInHistory]
    events: Annotated[list[Event], Field(description="Everything that happened, by time.")]
