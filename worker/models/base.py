"""What the tables are made with, and the columns that several share."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import ARRAY, BigInteger, Column, DateTime, MetaData, Named, TypedColumns

Instant = DateTime(timezone=True)
Ids = ARRAY(BigInteger)

metadata = MetaData()


class OwnedColumns(TypedColumns):
    """A row of an organisation, with an id of its own."""

    id: Named[int] = Column(BigInteger, primary_key=True)
    organisation_id: Named[int] = Column(BigInteger)


class SecondPersonColumns(OwnedColumns):
    """What waits for a second person until it expires, and what they decided."""

    expires_at: Named[datetime] = Column(Instant)
    state: Named[str]
    decided_by: Named[str | None]
    decided_at: Named[datetime | None] = Column(Instant)
    decision_note: Named[str | None]


class SecretColumns(OwnedColumns):
    """Another system, and the secret shared with it. The one before counts until `previous_until`."""

    secret: Named[str]
    previous_secret: Named[str | None]
    previous_until: Named[datetime | None] = Column(Instant)
    rotated_at: Named[datetime | None] = Column(Instant)
    created_at: Named[datetime] = Column(Instant)
    created_by: Named[str]
    disabled_at: Named[datetime | None] = Column(Instant)


class SendingColumns(OwnedColumns):
    """What is sent under a lease, again and again until it arrives or has failed."""

    state: Named[str]
    token: Named[UUID | None]
    lease_until: Named[datetime | None] = Column(Instant)
    attempts: Named[int]
    last_error: Named[str | None]
    created_at: Named[datetime] = Column(Instant)
