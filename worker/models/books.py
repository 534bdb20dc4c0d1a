"""What proves that nothing is missing: the audit, seals over finished days, what was pruned and who was erased."""

from datetime import date, datetime
from typing import Any

from sqlalchemy import BigInteger, Column, ForeignKey, ForeignKeyConstraint, LargeBinary, Named, Table, TypedColumns
from sqlalchemy.dialects.postgresql import JSONB

from worker.models.base import Instant, OwnedColumns, metadata


class AuditColumns(TypedColumns):
    """One row per act of a person or producer; append-only."""

    id: Named[int] = Column(BigInteger, primary_key=True)
    at: Named[datetime] = Column(Instant)
    organisation_id: Named[int] = Column(BigInteger)
    actor: Named[str]
    action: Named[str]
    job_id: Named[int | None] = Column(BigInteger)
    dead_letter_id: Named[int | None] = Column(BigInteger)
    note: Named[str | None]
    detail: Named[dict[str, Any]] = Column(JSONB)


audit = Table("audit", metadata, AuditColumns, schema="withdrawals")


class AuditDaysColumns(TypedColumns):
    """A link of the chain of hashes over the audit of an organisation, one for each finished day; append-only."""

    organisation_id: Named[int] = Column(BigInteger, primary_key=True)
    day: Named[date] = Column(primary_key=True)
    after: Named[date | None]
    row_count: Named[int] = Column(BigInteger)
    hash: Named[bytes] = Column(LargeBinary)
    sealed_at: Named[datetime] = Column(Instant)


audit_days = Table(
    "audit_days",
    metadata,
    AuditDaysColumns,
    ForeignKeyConstraint(
        ["organisation_id", "after"], ["withdrawals.audit_days.organisation_id", "withdrawals.audit_days.day"]
    ),
    schema="withdrawals",
)


class SealsColumns(TypedColumns):
    """How many rows a table had on finished days, with a digest of them; append-only."""

    table_name: Named[str] = Column(primary_key=True)
    day: Named[date] = Column(primary_key=True)
    after: Named[date | None]
    row_count: Named[int] = Column(BigInteger)
    digest: Named[int] = Column(BigInteger)
    last_id: Named[int] = Column(BigInteger)
    looked_at: Named[datetime] = Column(Instant)
    sealed_at: Named[datetime] = Column(Instant)


seals = Table(
    "seals",
    metadata,
    SealsColumns,
    ForeignKeyConstraint(["table_name", "after"], ["withdrawals.seals.table_name", "withdrawals.seals.day"]),
    schema="withdrawals",
)


class PrunesColumns(TypedColumns):
    """What was pruned, for the books; append-only. A day: of rows of a table; none: of jobs."""

    id: Named[int] = Column(BigInteger, primary_key=True)
    kind: Named[str]
    organisation_id: Named[int] = Column(BigInteger)
    day: Named[date | None]
    row_count: Named[int] = Column(BigInteger)
    counts: Named[dict[str, Any]] = Column(JSONB)
    digest: Named[int] = Column(BigInteger)
    files: Named[list[dict[str, Any]]] = Column(JSONB)
    pruned_by: Named[str]
    pruned_at: Named[datetime] = Column(Instant)
    chain: Named[int] = Column(BigInteger)


prunes = Table("prunes", metadata, PrunesColumns, schema="withdrawals")


class PrunedWithdrawalsColumns(TypedColumns):
    """How many withdrawals of a requester were pruned, by their day and reason; append-only."""

    organisation_id: Named[int] = Column(BigInteger, primary_key=True)
    day: Named[date] = Column(primary_key=True)
    requested_by: Named[str] = Column(primary_key=True)
    reason: Named[str] = Column(primary_key=True)
    prune_id: Named[int] = Column(BigInteger, ForeignKey("withdrawals.prunes.id"), primary_key=True)
    withdrawals: Named[int] = Column(BigInteger)


pruned_withdrawals = Table("pruned_withdrawals", metadata, PrunedWithdrawalsColumns, schema="withdrawals")


class ErasuresColumns(OwnedColumns):
    """A person who was erased: a keyed hash of the external id, and the pseudonym that stands in its place."""

    person_hash: Named[bytes]
    pseudonym: Named[str]
    erased_at: Named[datetime] = Column(Instant)
    erased_by: Named[str]
    note: Named[str]
    counts: Named[dict[str, Any]] = Column(JSONB)
    finished_at: Named[datetime | None] = Column(Instant)
    lifted_at: Named[datetime | None] = Column(Instant)


erasures = Table("erasures", metadata, ErasuresColumns, schema="withdrawals")


class ErasedRowsColumns(TypedColumns):
    """A row under a seal that an erasure has changed; never removed."""

    table_name: Named[str] = Column(primary_key=True)
    row_id: Named[int] = Column(BigInteger, primary_key=True)
    erasure_id: Named[int] = Column(BigInteger, ForeignKey("withdrawals.erasures.id"))
    sealed_hash: Named[int] = Column(BigInteger)
    current_hash: Named[int] = Column(BigInteger)
    record_hash: Named[bytes | None]


erased_rows = Table("erased_rows", metadata, ErasedRowsColumns, schema="withdrawals")
