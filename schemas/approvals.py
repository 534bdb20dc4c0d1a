"""Approvals over the wire: acts that wait for a second person, and the policies that say which acts need one."""

from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StrictInt, model_validator

from .catalogue import GUARDED_ACTS, GuardedAct, Source, describe
from .jobs import Note, Request
from .sentences import Sentence

State = Literal["pending", "approved", "rejected", "withdrawn", "expired"]
BY_SOURCE = (GuardedAct.RELEASE, GuardedAct.OVERRIDE, GuardedAct.CASCADE, GuardedAct.WITHDRAW)
"""Acts about withdrawals of one source."""
BY_SIZE = (*BY_SOURCE, GuardedAct.WITHDRAW_SERIES)
"""Acts whose size is a number of learners. Any other counts 1."""
FIXED = (GuardedAct.POLICIES,)
"""Acts whose rule cannot be changed."""


class Approval(BaseModel):
    """An act that somebody asked for, and that a second person decides on. Approving it does it."""

    model_config = ConfigDict(from_attributes=True, frozen=True)

    id: int
    act: Annotated[GuardedAct, Field(description=describe(GUARDED_ACTS))]
    state: State
    subject: str = Field(description="What it is about.")
    consequence: str = Field(description="What approving it will do.")
    size: int = Field(description="Learners; a protection, a token and a change of policies count 1.")
    alone_up_to: int = Field(description="The largest size that needed nobody else, when it was asked for.")
    reason: str | None
    requested_by: str
    requested_at: datetime
    expires_at: datetime = Field(description="Nobody can approve it after this time.")
    decided_by: str | None
    decided_at: datetime | None
    decision_note: str | None


class Waiting(BaseModel):
    """Something that waits for a second person: an approval, limits proposed for the brake, or a held job."""

    model_config = ConfigDict(from_attributes=True, frozen=True)

    kind: Literal["approval", "limits", "job"]
    id: int = Field(description="Of the approval, the proposal or the job.")
    what: Sentence = Field(description="What it is about, in a line.")
    consequence: Sentence = Field(description="What approving or releasing it will do.")
    why: Sentence | None = Field(None, description="Of a held job: what holds it.")
    now: Sentence | None = Field(
        None, description="Of a held job that withdraws: what it would do now. Null beyond 100,000 enrolments together."
    )
    withdraws: int | None = Field(
        None, description="Of a held job with `now`: how many enrolments it would withdraw. 0: others did it before."
    )
    enrolments: int | None = Field(
        None, description="Of a held job: how many enrolments it names. Null of one about all that a learner has."
    )
    withdrawal_reason: str | None = Field(None, description="Of a held job that withdraws: its reason.")
    series: list[str] = Field(
        [], description="Of a held job: titles of its Series, up to three, those with the most enrolments first."
    )
    more_series: int = Field(0, description="Of a held job: how many Series it has besides.")
    size: int | None = Field(description="Learners; null where it has no size.")
    reason: str | None
    requested_by: str
    requested_at: datetime
    expires_at: datetime | None = Field(description="Null: a held job waits until it is released or cancelled.")
    page: str = Field(description="Where the console shows it, and a second person decides.")


class Rule(Request):
    """How much of an act one person may do alone."""

    model_config = ConfigDict(extra="forbid", frozen=True, from_attributes=True)

    act: Annotated[GuardedAct, Field(description=describe(GUARDED_ACTS))]
    source: Annotated[
        Source | None, Field(description="Only for jobs from this source; it goes before the rule without a source.")
    ] = None
    alone_up_to: Annotated[
        Annotated[StrictInt, Field(ge=0, le=10**12)] | None,
        Field(description="The largest size that needs no second person. 0: always needs one. Null: never."),
    ]

    @model_validator(mode="after")
    def _fits_the_act(self) -> Self:
        if self.act in FIXED:
            raise ValueError("a change of the policies always needs a second person, once there is one")
        if self.source is not None and self.act not in BY_SOURCE:
            raise ValueError(f"source: {self.act} has none")
        if self.alone_up_to and self.act not in BY_SIZE:
            raise ValueError(f"alone_up_to: for {self.act} give 0 (always a second person) or null (never)")
        return self


class PolicyRequest(Request):
    """All rules of an organisation. An act without a rule follows the default."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        json_schema_extra={
            "examples": [{"rules": [{"act": "override", "source": None, "alone_up_to": 10}], "note": "Audit 2026"}]
        },
    )

    rules: Annotated[list[Rule], Field(max_length=100)]
    note: Note | None = None

    @model_validator(mode="after")
    def _one_rule_each(self) -> Self:
        if len({(rule.act, rule.source) for rule in self.rules}) < len(self.rules):
            raise ValueError("rules: give one rule for each act and source")
        return self


class RuleChange(Request):
    """Another rule for one act and source; the other rules stay."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    act: GuardedAct
    source: Source | None = None
    rule: Rule | None
    """None: it follows the default again."""
    note: Note | None = None


class ShownRule(BaseModel):
    """A rule that applies now."""

    model_config = ConfigDict(from_attributes=True, frozen=True)

    act: GuardedAct
    source: Source | None
    alone_up_to: int | None = Field(description="0: always needs a second person. Null: never.")
    own: bool = Field(description="Whether the organisation has set it itself; else it is the default.")


class Policies(BaseModel):
    """Who may do what alone."""

    model_config = ConfigDict(frozen=True)

    rules: list[ShownRule]
    approval: Approval | None = Field(description="Other rules that wait for a second person.")
