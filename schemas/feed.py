"""The feed: which enrolments were withdrawn, reinstated or kept, as events after CloudEvents 1.0.

An event carries ids and codes alone, no personal data.
"""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

FeedEventType = Literal["enrolment.withdrawn", "enrolment.reinstated", "enrolment.kept"]

BATCH_MEDIA_TYPE = "application/cloudevents-batch+json"
"""Of an array of such events (CloudEvents JSON event format, batches)."""


class FeedData(BaseModel):
    """What happened to one enrolment."""

    model_config = ConfigDict(from_attributes=True, frozen=True)

    enrolment_id: int
    status: Annotated[
        str | None,
        Field(description="The enrolment's status after this event: `withdrawn`, or the one that was put back. "
              "`kept`: null, because nothing was changed."),
    ]  # fmt: skip
    prior_status: Annotated[str | None, Field(description="Its status before.")]
    job_id: Annotated[int | None, Field(description="The job that decided it; `kept`: that asked for the withdrawal.")]
    reason: Annotated[str | None, Field(description="Why it was withdrawn; null for `reinstated`.")]
    source: Annotated[str | None, Field(description="Where the job came from.")]
    dead_letter_id: Annotated[int | None, Field(description="`kept`: the dead letter that was resolved.")]


class FeedEvent(BaseModel):
    """An event of the feed, after CloudEvents 1.0 with its extension attribute `sequence`."""

    model_config = ConfigDict(frozen=True)

    specversion: Literal["1.0"] = "1.0"
    id: Annotated[str, Field(description="The same whenever the event is read or sent again.")]
    source: Annotated[str, Field(description="The organisation: `/organisations/7`.")]
    type: FeedEventType
    subject: Annotated[str, Field(description="The enrolment's id.")]
    time: datetime
    datacontenttype: Literal["application/json"] = "application/json"
    sequence: Annotated[
        str, Field(description="Compared as text, greater for a later event of the organisation, so of an enrolment.")
    ]
    cursor: Annotated[str, Field(description="The place after this event, for `after`.")]
    data: FeedData


class FeedPage(BaseModel):
    """A page of the feed."""

    model_config = ConfigDict(frozen=True)

    items: list[FeedEvent]
    next_cursor: Annotated[str, Field(description="Ask with it as `after` for what comes next, now or later.")]
    more: Annotated[bool, Field(description="Whether there is more to read now.")]
