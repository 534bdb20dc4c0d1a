"""What needs a person, and the acts on many dead letters at once."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Column, ForeignKey, Named, Table, TypedColumns
from sqlalchemy.dialects.postgresql import JSONB

from worker.models.base import Instant, OwnedColumns, metadata


class DeadLettersColumns(OwnedColumns):
    """What needs a person."""

    code: Named[str]
    state: Named[str]
    enrolment_id: Named[int | None] = Column(BigInteger)
    learner_external_id: Named[str | None]
    job_id: Named[int | None] = Column(BigInteger, ForeignKey("withdrawals.jobs.id"))
    error_class: Named[str | None]
    message: Named[str | None]
    fingerprint: Named[str]
    evidence: Named[dict[str, Any]] = Column(JSONB)
    assignee: Named[str | None]
    opened_at: Named[datetime] = Column(Instant)
    closed_at: Named[datetime | None] = Column(Instant)
    closed_by: Named[str | None]
    remedy: Named[str | None]
    evidence_dropped_at: Named[datetime | None] = Column(Instant)
    overdue_told_at: Named[datetime | None] = Column(Instant)


dead_letters = Table("dead_letters", metadata, DeadLettersColumns, schema="withdrawals")


class RunsColumns(OwnedColumns):
    """One act on all dead letters that match a filter."""

    act: Named[str]
    filter: Named[dict[str, Any]] = Column(JSONB)
    actor: Named[str]
    note: Named[str | None]
    rate: Named[int]
    canary: Named[int]
    state: Named[str]
    because: Named[str | None]
    letters: Named[int]
    stepped_at: Named[datetime] = Column(Instant)
    created_at: Named[datetime] = Column(Instant)
    finished_at: Named[datetime | None] = Column(Instant)
    door: Named[str | None]


runs = Table("runs", metadata, RunsColumns, schema="withdrawals")


class RunLettersColumns(TypedColumns):
    """A letter of a run, frozen at its start."""

    run_id: Named[int] = Column(BigInteger, ForeignKey("withdrawals.runs.id"), primary_key=True)
    dead_letter_id: Named[int] = Column(BigInteger, primary_key=True)
    fingerprint: Named[str]
    canary: Named[bool]
    driven_at: Named[datetime | None] = Column(Instant)
    result: Named[str | None]
    ended_at: Named[datetime | None] = Column(Instant)


run_letters = Table("run_letters", metadata, RunLettersColumns, schema="withdrawals")
