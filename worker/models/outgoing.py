"""What is sent out: webhooks, notifications and the feed of events."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, BigInteger, Column, Computed, ForeignKey, Named, Table, Text, TypedColumns
from sqlalchemy.dialects.postgresql import JSONB

from worker.models.base import Ids, Instant, metadata


class EndpointsColumns(TypedColumns):
    """Where webhooks go."""

    id: Named[int] = Column(BigInteger, primary_key=True)
    organisation_id: Named[int] = Column(BigInteger)
    url: Named[str]
    events: Named[list[str]] = Column(ARRAY(Text))
    secret: Named[str]
    failures: Named[int]
    rest_until: Named[datetime] = Column(Instant)
    created_at: Named[datetime] = Column(Instant)
    created_by: Named[str]
    disabled_at: Named[datetime | None] = Column(Instant)
    disabled_because: Named[str | None]
    previous_secret: Named[str | None]
    previous_until: Named[datetime | None] = Column(Instant)
    follows: Named[bool] = Column(Computed("events && ARRAY['enrolment.withdrawn', …]", persisted=True))
    feed_cursor: Named[str | None]
    feed_position: Named[int] = Column(BigInteger)
    feed_token: Named[UUID | None]
    feed_lease_until: Named[datetime | None] = Column(Instant)
    failing_since: Named[datetime | None] = Column(Instant)
    paused_at: Named[datetime | None] = Column(Instant)
    paused_because: Named[str | None]
    rotated_at: Named[datetime | None] = Column(Instant)


endpoints = Table("endpoints", metadata, EndpointsColumns, schema="withdrawals")


class DeliveriesColumns(TypedColumns):
    """A webhook on its way, or sent."""

    id: Named[int] = Column(BigInteger, primary_key=True)
    endpoint_id: Named[int] = Column(BigInteger, ForeignKey("withdrawals.endpoints.id"))
    organisation_id: Named[int] = Column(BigInteger)
    type: Named[str]
    data: Named[dict[str, Any]] = Column(JSONB)
    state: Named[str]
    token: Named[UUID | None]
    lease_until: Named[datetime | None] = Column(Instant)
    attempts: Named[int]
    last_status: Named[int | None]
    last_error: Named[str | None]
    created_at: Named[datetime] = Column(Instant)
    delivered_at: Named[datetime | None] = Column(Instant)


deliveries = Table("deliveries", metadata, DeliveriesColumns, schema="withdrawals")


class FeedColumns(TypedColumns):
    """What one statement withdrew or reinstated in an organisation, or a letter that was closed by `keep`."""

    id: Named[int] = Column(BigInteger, primary_key=True)
    organisation_id: Named[int] = Column(BigInteger)
    position: Named[int | None] = Column(BigInteger)
    chunk_ids: Named[list[int] | None] = Column(Ids)
    job_id: Named[int | None] = Column(BigInteger)
    enrolment_id: Named[int | None] = Column(BigInteger)
    dead_letter_id: Named[int | None] = Column(BigInteger)
    size: Named[int]
    at: Named[datetime] = Column(Instant)


feed = Table("feed", metadata, FeedColumns, schema="withdrawals")


class NotificationTargetsColumns(TypedColumns):
    """Whom an organisation's notifications go to."""

    id: Named[int] = Column(BigInteger, primary_key=True)
    organisation_id: Named[int] = Column(BigInteger)
    member_id: Named[int | None] = Column(BigInteger, ForeignKey("withdrawals.members.id"))
    kinds: Named[list[str]] = Column(ARRAY(Text))
    address: Named[str | None]
    shown: Named[str]
    digest_hour: Named[int | None]
    next_at: Named[datetime] = Column(Instant)
    told_up_to: Named[int] = Column(BigInteger)
    created_at: Named[datetime] = Column(Instant)
    created_by: Named[str]
    removed_at: Named[datetime | None] = Column(Instant)
    removed_by: Named[str | None]


notification_targets = Table("notification_targets", metadata, NotificationTargetsColumns, schema="withdrawals")


class NoticesColumns(TypedColumns):
    """Something to tell, once for each subject of a kind."""

    id: Named[int] = Column(BigInteger, primary_key=True)
    organisation_id: Named[int] = Column(BigInteger)
    kind: Named[str]
    subject: Named[str]
    at: Named[datetime] = Column(Instant)
    found_at: Named[datetime] = Column(Instant)
    detail: Named[dict[str, Any]] = Column(JSONB)


notices = Table("notices", metadata, NoticesColumns, schema="withdrawals")


class NoticeScansColumns(TypedColumns):
    """Up to when everything of a kind of notices has been found."""

    kind: Named[str] = Column(primary_key=True)
    since: Named[datetime] = Column(Instant)


notice_scans = Table("notice_scans", metadata, NoticeScansColumns, schema="withdrawals")


class NotificationMessagesColumns(TypedColumns):
    """A message on its way, or sent; without a range of notices it is a test."""

    id: Named[int] = Column(BigInteger, primary_key=True)
    target_id: Named[int] = Column(BigInteger, ForeignKey("withdrawals.notification_targets.id"))
    organisation_id: Named[int] = Column(BigInteger)
    after_notice: Named[int | None] = Column(BigInteger)
    up_to_notice: Named[int | None] = Column(BigInteger)
    state: Named[str]
    token: Named[UUID | None]
    lease_until: Named[datetime | None] = Column(Instant)
    attempts: Named[int]
    run_after: Named[datetime] = Column(Instant)
    give_up_at: Named[datetime] = Column(Instant)
    last_error: Named[str | None]
    created_at: Named[datetime] = Column(Instant)
    ended_at: Named[datetime | None] = Column(Instant)


notification_messages = Table("notification_messages", metadata, NotificationMessagesColumns, schema="withdrawals")
