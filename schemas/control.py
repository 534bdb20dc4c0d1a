"""What people ask of jobs before they end: another time, a release by filter; and limits for the brake."""

from typing import Annotated

from pydantic import ConfigDict, Field, StrictInt

from .job_filter import ReleaseFilter
from .jobs import Note, Request, When


class MoveRequest(Request):
    """Another time for a job that is not admitted yet."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    effective_at: Annotated[
        When,
        Field(description="A time with its offset, or a date: the end of that day in the organisation's time zone."),
    ]


class ReleaseRequest(Request):
    """A release of all held jobs that match."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    filter: ReleaseFilter
    note: Note | None = None


class BrakeSetting(Request):
    """All limits of an organisation. A limit that is left out or null follows the service's default."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    floor: Annotated[StrictInt, Field(ge=0, le=10**12)] | None = None
    """Learners that may always be withdrawn in one window."""
    share: Annotated[float, Field(ge=0, le=1, strict=False, allow_inf_nan=False)] | None = None
    """Share of the learners that may be withdrawn in one window."""
    hours: Annotated[StrictInt, Field(ge=1, le=720)] | None = None
    """Length of the rolling window."""
