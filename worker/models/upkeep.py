"""What processes write of themselves, what the relay keeps for search, and what people keep of lists."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, BigInteger, Column, Integer, Named, Table, TypedColumns
from sqlalchemy.dialects.postgresql import JSONB

from worker.models.base import Instant, OwnedColumns, metadata


class ProcessesColumns(TypedColumns):
    """What runs, by its heartbeat."""

    id: Named[UUID] = Column(primary_key=True)
    kind: Named[str]
    threads: Named[int]
    started_at: Named[datetime] = Column(Instant)
    seen_at: Named[datetime] = Column(Instant)


processes = Table("processes", metadata, ProcessesColumns, schema="withdrawals")


class LeaderColumns(TypedColumns):
    """The relay that leads: one row, with its own heartbeat and the steps of its rounds that fail."""

    one: Named[bool] = Column(primary_key=True)
    process_id: Named[UUID | None]
    locked: Named[bool]
    since: Named[datetime | None] = Column(Instant)
    seen_at: Named[datetime | None] = Column(Instant)
    failing: Named[dict[str, Any]] = Column(JSONB)


leader = Table("leader", metadata, LeaderColumns, schema="withdrawals")


class FindableColumns(TypedColumns):
    """What can be found by words, kept by the relay: a row of the platform, and the keys of the parts of its words."""

    kind: Named[str] = Column(primary_key=True)
    platform_id: Named[int] = Column(BigInteger, primary_key=True)
    organisation_id: Named[int] = Column(BigInteger)
    digest: Named[int] = Column(BigInteger)
    parts: Named[list[int]] = Column(ARRAY(Integer))


findable = Table("findable", metadata, FindableColumns, schema="withdrawals")


class SavedViewsColumns(OwnedColumns):
    """Filters of lists that people keep under a name."""

    list_name: Named[str]
    name: Named[str]
    filter: Named[dict[str, Any]] = Column(JSONB)
    shared: Named[bool]
    owner: Named[str]
    owner_key: Named[str]
    created_at: Named[datetime] = Column(Instant)
    changed_at: Named[datetime] = Column(Instant)


saved_views = Table("saved_views", metadata, SavedViewsColumns, schema="withdrawals")
