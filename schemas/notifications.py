"""Notifications: what people are told by mail or chat, where it goes, and whether it arrived."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from .catalogue import Entry, describe
from .jobs import Id, Request


class NoticeKind(StrEnum):
    """What there is to tell."""

    JOB_HELD = "job.held"
    APPROVAL_ASKED = "approval.asked"
    LETTER_OPENED = "dead_letter.opened"
    LETTER_OVERDUE = "dead_letter.overdue"
    RUN_HALTED = "run.halted"
    SOURCE_SILENT = "source.silent"
    ROSTER_LEAVERS = "roster.leavers"
    ROSTER_FAILED = "roster.failed"
    REPORT_READY = "report.ready"
    REPORT_FAILED = "report.failed"


NOTICE_KINDS: dict[NoticeKind, Entry] = {
    NoticeKind.JOB_HELD: Entry("Job held", "A job waits for a second person."),
    NoticeKind.APPROVAL_ASKED: Entry(
        "Approval asked",
        "Somebody has asked for something that needs a second person, or proposed limits of the brake.",
    ),
    NoticeKind.LETTER_OPENED: Entry("Letter opened", "Something could not be done and needs support."),
    NoticeKind.LETTER_OVERDUE: Entry("Letter overdue", "A letter is open for longer than it should be."),
    NoticeKind.RUN_HALTED: Entry("Run halted", "A run over letters has stopped by itself."),
    NoticeKind.SOURCE_SILENT: Entry("Source silent", "A source of HR events was not heard for longer than its limit."),
    NoticeKind.ROSTER_LEAVERS: Entry("Roster found leavers", "A full roster has found people who left."),
    NoticeKind.ROSTER_FAILED: Entry("Roster failed", "A full roster could not be applied to its end."),
    NoticeKind.REPORT_READY: Entry("Report ready", "The file of a scheduled report is there."),
    NoticeKind.REPORT_FAILED: Entry(
        "Report failed", "The file of a scheduled report could not be made, or its schedule has ended by itself."
    ),
}


class NotificationRequest(Request):
    """Where notifications go from now on: an e-mail address, a URL of Apprise, or the e-mail address of a member."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        json_schema_extra={
            "examples": [
                {"to": "support@withdrawals.example", "kinds": ["job.held", "dead_letter.overdue"]},
                {"url": "slack://TOKEN_A/TOKEN_B/TOKEN_C/#support", "digest_hour": 8},
            ]
        },
    )

    to: Annotated[
        str | None,
        StringConstraints(min_length=3, max_length=254),
        Field(description="An e-mail address. The mail goes by the server of `WITHDRAWALS_MAIL_URL`."),
    ] = None
    url: Annotated[
        str | None,
        StringConstraints(min_length=1, max_length=2000),
        Field(description="A URL of Apprise with one receiver. It is encrypted, and shown without its secrets."),
    ] = None
    member_id: Annotated[
        Id | None,
        Field(description="Whose it is. Alone: it goes to the e-mail address that the provider has for the member."),
    ] = None
    kinds: list[NoticeKind] = Field(
        default_factory=lambda: list(NoticeKind), min_length=1, description=describe(NOTICE_KINDS)
    )
    digest_hour: Annotated[
        int | None,
        Field(
            ge=0, le=23, description="One message a day at this hour of the organisation's time zone. Null: at once."
        ),
    ] = None

    @model_validator(mode="after")
    def _one_address(self) -> Self:
        if self.to is not None and self.url is not None:
            raise ValueError("to, url: give one of them")
        if self.to is None and self.url is None and self.member_id is None:
            raise ValueError("give an e-mail address (to), a URL (url) or a member (member_id)")
        return self


class NotificationTarget(BaseModel):
    """Where notifications go. The address is shown without its secrets."""

    model_config = ConfigDict(from_attributes=True, frozen=True)

    id: int
    shown: Annotated[str, Field(description="The address, without its secrets.")]
    member_id: Annotated[int | None, Field(description="Whose it is; null: the organisation's.")]
    kinds: list[str]
    digest_hour: Annotated[int | None, Field(description="Null: at once.")]
    created_at: datetime
    created_by: str
    removed_at: datetime | None
    removed_by: str | None


MessageState = Literal["due", "sending", "delivered", "failed"]


class NotificationMessage(BaseModel):
    """A message on its way, or sent."""

    model_config = ConfigDict(from_attributes=True, frozen=True)

    id: int
    target_id: int
    is_test: bool
    state: MessageState
    attempts: int
    last_error: Annotated[str | None, Field(description="Why the last attempt failed, such as `SMTP 550`.")]
    give_up_at: Annotated[datetime, Field(description="A message that has not arrived by then has failed.")]
    created_at: datetime
    ended_at: datetime | None
