"""Scheduled reports, and the files that they became."""

from datetime import date, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, Column, ForeignKey, Integer, LargeBinary, Named, Table, TypedColumns
from sqlalchemy.dialects.postgresql import JSONB

from worker.models.base import Instant, OwnedColumns, metadata


class ReportSchedulesColumns(OwnedColumns):
    """A report that is made again and again."""

    report: Named[str]
    filter: Named[dict[str, Any]] = Column(JSONB)
    covers: Named[str]
    names: Named[bool]
    format: Named[str]
    every: Named[str]
    hour: Named[int]
    next_at: Named[datetime] = Column(Instant)
    created_at: Named[datetime] = Column(Instant)
    created_by: Named[str]
    creator_made_by: Named[str | None]
    paused_at: Named[datetime | None] = Column(Instant)
    ended_at: Named[datetime | None] = Column(Instant)
    ended_by: Named[str | None]
    ended_because: Named[str | None]


report_schedules = Table("report_schedules", metadata, ReportSchedulesColumns, schema="withdrawals")


class ReportFilesColumns(OwnedColumns):
    """A run of a schedule, and the file that it became."""

    schedule_id: Named[int] = Column(BigInteger, ForeignKey("withdrawals.report_schedules.id"))
    due_at: Named[datetime] = Column(Instant)
    first_day: Named[date | None]
    last_day: Named[date | None]
    state: Named[str]
    token: Named[UUID | None]
    lease_until: Named[datetime | None] = Column(Instant)
    attempts: Named[int]
    run_after: Named[datetime] = Column(Instant)
    last_error: Named[str | None]
    row_count: Named[int | None] = Column(BigInteger)
    size: Named[int | None] = Column(BigInteger)
    ended_at: Named[datetime | None] = Column(Instant)


report_files = Table("report_files", metadata, ReportFilesColumns, schema="withdrawals")


class ReportPartsColumns(TypedColumns):
    """The content of a file, in parts."""

    file_id: Named[int] = Column(BigInteger, ForeignKey("withdrawals.report_files.id"), primary_key=True)
    number: Named[int] = Column(Integer, primary_key=True)
    content: Named[bytes] = Column(LargeBinary)


report_parts = Table("report_parts", metadata, ReportPartsColumns, schema="withdrawals")
