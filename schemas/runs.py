"""Acts on all dead letters that match a filter: the request, its preview, the run."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from .dead_letters import LetterAct, LetterFilter
from .jobs import Note

Rate = Annotated[int, Field(ge=1, le=1000, description="Letters a second.")]
Canary = Annotated[int, Field(ge=0, le=100, description="Letters of each fingerprint that go first.")]


class RedriveRequest(LetterFilter):
    """All open letters that match are tried again, a few of each fingerprint first."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, json_schema_extra={"examples": [{"code": "pathway_owned", "dry_run": True}]}
    )

    dry_run: Annotated[bool, Field(description="Only count what would happen.")] = False
    rate: Rate = 500
    canary: Canary = 3
    note: Note | None = None


class ResolveRequest(RedriveRequest):
    """All open letters that match are decided by one remedy. The note says why."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"code": "pathway_owned", "remedy": "override", "note": "Agreed with the owner."}]
        }
    )

    remedy: Literal[LetterAct.OVERRIDE, LetterAct.CASCADE, LetterAct.KEEP]


class Run(BaseModel):
    """A run over letters. `in_flight`: being tried now. `waiting`: not tried yet."""

    model_config = ConfigDict(from_attributes=True, frozen=True)

    id: int
    act: LetterAct
    filter: dict[str, Any]
    actor: str
    note: str | None
    rate: int
    canary: int
    state: Literal["canary", "running", "stopped", "halted", "done"]
    because: Annotated[str | None, Field(description="Why it halted.")]
    letters: Annotated[int, Field(description="That matched at its start.")]
    waiting: int
    in_flight: int
    resolved: Annotated[int, Field(description="Resolved or discarded, as requested.")]
    came_back: Annotated[int, Field(description="Open again after their attempt.")]
    held_back: Annotated[int, Field(description="Not tried: the canary of their fingerprint failed.")]
    passed: Annotated[int, Field(description="Skipped: somebody else acted on them first.")]
    created_at: datetime
    finished_at: datetime | None
    withdrawn: Annotated[
        int | None,
        Field(
            description="Enrolments that it withdrew, those of a cascade included. Null in a list, before it has "
            "ended, of more than 100,000 letters, and once the details of its jobs are not kept any more."
        ),
    ] = None
    reinstated: Annotated[int | None, Field(description="Enrolments that it reinstated; null as `withdrawn`.")] = None


class RunPreview(BaseModel):
    """What an act on all letters that match would do now; nothing is written."""

    model_config = ConfigDict(from_attributes=True, frozen=True)

    letters: int
    outcomes: Annotated[
        dict[str, int],
        Field(
            description="Letters by the outcome that an attempt would have. `not_known`: the learner is still unknown. "
            "`nothing_to_try`: an event that could not be read. `closed`: for keep and discard."
        ),
    ]
    moot: Annotated[int, Field(description="Of these, already withdrawn, ended or superseded: nothing is left to do.")]
    also: Annotated[int, Field(description="For cascade: the learners' other active enrolments in the pathways.")]
    samples: dict[str, list[int]]
