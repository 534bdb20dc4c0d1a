"""What is sent out: webhooks, notifications and the feed of events."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, BigInteger, Column, Computed, ForeignKey, Named, Table, Text, TypedColumns
from sqlalchemy.dialects.postgresql import JSONB

from worker.models.base import Ids, Instant, OwnedColumns, SecretColumns, SendingColumns, metadata


class EndpointsColumns(SecretColumns):
    """Where webhooks go."""

    url: Named[str]
    events: Named[list[str]] = Column(ARRAY(Text))
    failures: Named[int]
    rest_until: Named[datetime] = Column(Instant)
    disabled_because: Named[str | None]
    follows: Named[bool] = Column(Computed("events && ARRAY['enrolment.withdrawn', …]", persisted=True))
    feed_cursor: Named[str | None]
    feed_position: Named[int] = Column(BigInteger)
    feed_token: Named[UUID | None]
    feed_lease_until: Named[datetime | None] = Column(Instant)
    failing_since: Named[datetime | None] = Column(Instant)
    paused_at: Named[datetime | None] = Column(Instant)
    paused_because: Named[str | None]


endpoints = Table("endpoints", metadata, EndpointsColumns, schema="withdrawals")


class DeliveriesColumns(SendingColumns):
    """A webhook on its way, or sent."""

    endpoint_id: Named[int] = Column(BigInteger, ForeignKey("withdrawals.endpoints.id"))
    type: Named[str]
    data: Named[dict[str, Any]] = Column(JSONB)
    last_status: Named[int | None]
    delivered_at: Named[datetime | None] = Column(Instant)


deliveries = Table("deliveries", metadata, DeliveriesColumns, schema="withdrawals")


class FeedColumns(OwnedColumns):
    """What one statement withdrew or reinstated in an organisation, or a letter that was closed by `keep`."""

    position: Named[int | None] = Column(BigInteger)
    chunk_ids: Named[list[int] | None] = Column(Ids)
    job_id: Named[int | None] = Column(BigInteger)
    enrolment_id: Named[int | None] = Column(BigInteger)
    dead_letter_id: Named[int | None] = Column(BigInteger)
    size: Named[int]
    at: Named[datetime] = Column(Instant)


feed = Table("feed", metadata, FeedColumns, schema="withdrawals")


class NotificationTargetsColumns(OwnedColumns):
    """Whom an organisation's notifications go to."""

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


class NoticesColumns(OwnedColumns):
    """Something to tell, once for each subject of a kind."""

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


class NotificationMessagesColumns(SendingColumns):
    """A message on its way, or sent; without a range of notices it is a test."""

    target_id: Named[int] = Column(BigInteger, ForeignKey("withdrawals.notification_targets.id"))
    after_notice: Named[int | None] = Column(BigInteger)
    up_to_notice: Named[int | None] = Column(BigInteger)
    run_after: Named[datetime] = Column(Instant)
    give_up_at: Named[datetime] = Column(Instant)
    ended_at: Named[datetime | None] = Column(Instant)


notification_messages = Table("notification_messages", metadata, NotificationMessagesColumns, schema="withdrawals")
