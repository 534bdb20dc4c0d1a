"""What is asked, the chunks in which it is decided, and what came of it."""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Column,
    ForeignKey,
    Integer,
    Interval,
    LargeBinary,
    Named,
    SmallInteger,
    Table,
    TypedColumns,
)
from sqlalchemy.dialects.postgresql import JSONB

from worker.models.base import Ids, Instant, OwnedColumns, metadata


class JobsColumns(OwnedColumns):
    """What one producer asked for."""

    kind: Named[str]
    reason: Named[str | None]
    source: Named[str]
    requested_by: Named[str]
    note: Named[str | None]
    door: Named[str]
    idempotency_key: Named[str]
    request_hash: Named[bytes]
    state: Named[str]
    learner_external_id: Named[str | None]
    epoch: Named[int | None] = Column(BigInteger)
    accepted: Named[int]
    duplicates: Named[int]
    created_at: Named[datetime] = Column(Instant)
    effective_at: Named[datetime] = Column(Instant)
    admitted_at: Named[datetime | None] = Column(Instant)
    finished_at: Named[datetime | None] = Column(Instant)
    held_because: Named[str | None]
    learners: Named[int | None] = Column(BigInteger)
    brake: Named[dict[str, Any] | None] = Column(JSONB)
    released_at: Named[datetime | None] = Column(Instant)
    released_by: Named[str | None]
    reinstates: Named[int | None] = Column(BigInteger, ForeignKey("withdrawals.jobs.id"))
    file_name: Named[str | None]
    deactivated_external_id: Named[str | None]
    correct_due: Named[bool]
    begun: Named[bool]
    request_id: Named[str | None]
    traceparent: Named[str | None]
    received_at: Named[datetime | None] = Column(Instant)
    prune_id: Named[int | None] = Column(BigInteger)
    pruned_counts: Named[dict[str, Any] | None] = Column(JSONB)
    series_id: Named[int | None] = Column(BigInteger)


jobs = Table("jobs", metadata, JobsColumns, schema="withdrawals")


class FileLinesColumns(TypedColumns):
    """The line on which each id of a file first stood."""

    job_id: Named[int] = Column(BigInteger, ForeignKey("withdrawals.jobs.id"), primary_key=True)
    first_id: Named[int] = Column(BigInteger, primary_key=True)
    enrolment_ids: Named[list[int]] = Column(Ids)
    lines: Named[list[int]] = Column(ARRAY(Integer))


file_lines = Table("file_lines", metadata, FileLinesColumns, schema="withdrawals")


class BatchJobsColumns(TypedColumns):
    """A job of a file that was sent after others of the same batch; what those have taken is not taken again."""

    job_id: Named[int] = Column(BigInteger, ForeignKey("withdrawals.jobs.id"), primary_key=True)
    first_job_id: Named[int] = Column(BigInteger, ForeignKey("withdrawals.jobs.id"))
    organisation_id: Named[int] = Column(BigInteger)


batch_jobs = Table("batch_jobs", metadata, BatchJobsColumns, schema="withdrawals")


class UploadsColumns(TypedColumns):
    """A file that was sent, kept for a day."""

    id: Named[UUID] = Column(primary_key=True)
    organisation_id: Named[int] = Column(BigInteger)
    requested_by: Named[str]
    file_name: Named[str | None]
    faults: Named[str | None]
    created_at: Named[datetime] = Column(Instant)


uploads = Table("uploads", metadata, UploadsColumns, schema="withdrawals")


class UploadPartsColumns(TypedColumns):
    """A part of an upload: of the file as it came, or of its rows with faults."""

    upload_id: Named[UUID] = Column(ForeignKey("withdrawals.uploads.id"), primary_key=True)
    kind: Named[str] = Column(primary_key=True)
    number: Named[int] = Column(primary_key=True)
    content: Named[bytes] = Column(LargeBinary)


upload_parts = Table("upload_parts", metadata, UploadPartsColumns, schema="withdrawals")


class ChunkColumns(TypedColumns):
    """What job chunks and letter chunks share."""

    id: Named[int] = Column(BigInteger, primary_key=True)
    job_id: Named[int] = Column(BigInteger, ForeignKey("withdrawals.jobs.id"))
    organisation_id: Named[int] = Column(BigInteger)
    number: Named[int]
    lane: Named[int] = Column(SmallInteger)
    enrolment_ids: Named[list[int] | None] = Column(Ids)
    learner_external_id: Named[str | None]
    size: Named[int]
    state: Named[str]
    run_after: Named[datetime] = Column(Instant)
    token: Named[UUID | None]
    claimed_at: Named[datetime | None] = Column(Instant)
    lease_until: Named[datetime | None] = Column(Instant)
    attempts: Named[int]
    claims: Named[int]
    alone: Named[bool]
    override: Named[bool]
    dead_letter_id: Named[int | None] = Column(BigInteger, ForeignKey("withdrawals.dead_letters.id"))
    parent_id: Named[int | None] = Column(BigInteger)
    counts: Named[dict[str, Any]] = Column(JSONB)
    created_at: Named[datetime] = Column(Instant)
    closed_at: Named[datetime | None] = Column(Instant)
    override_pathway: Named[int | None] = Column(BigInteger)


class AllChunkColumns(ChunkColumns):
    """Ids, or a person, decided together. Workers claim here, job chunks and letter chunks alike."""

    redrives: Named[int | None] = Column(BigInteger, ForeignKey("withdrawals.dead_letters.id"))
    asked_by: Named[str | None]
    remedy: Named[str | None]
    tried_for: Named[timedelta] = Column(Interval)
    own_failures: Named[int]
    deferred: Named[bool]
    digest: Named[int | None] = Column(BigInteger)
    learners_back: Named[int | None]


chunks = Table("chunks", metadata, AllChunkColumns, schema="withdrawals")


# View: the chunks that count for their job.
job_chunks = Table("job_chunks", metadata, ChunkColumns, schema="withdrawals")


class LetterChunksColumns(ChunkColumns):
    """View: attempts at dead letters; `letter_id` is the letter tried again."""

    letter_id: Named[int] = Column(BigInteger)
    asked_by: Named[str]
    remedy: Named[str | None]


letter_chunks = Table("letter_chunks", metadata, LetterChunksColumns, schema="withdrawals")


class AttemptsColumns(TypedColumns):
    """An attempt at a chunk that did not decide, and why."""

    id: Named[int] = Column(BigInteger, primary_key=True)
    chunk_id: Named[int] = Column(BigInteger, ForeignKey("withdrawals.chunks.id"))
    token: Named[UUID]
    result: Named[str]
    started_at: Named[datetime] = Column(Instant)
    ended_at: Named[datetime] = Column(Instant)
    error_class: Named[str]
    message: Named[str]
    fingerprint: Named[str]


attempts = Table("attempts", metadata, AttemptsColumns, schema="withdrawals")


class OutcomesColumns(TypedColumns):
    """What happened to one enrolment of a job."""

    job_id: Named[int] = Column(BigInteger, primary_key=True)
    enrolment_id: Named[int] = Column(BigInteger, primary_key=True)
    organisation_id: Named[int] = Column(BigInteger)
    chunk_id: Named[int] = Column(BigInteger)
    outcome: Named[str]
    prior_status: Named[str | None]
    pathway_id: Named[int | None] = Column(BigInteger)
    dead_letter_id: Named[int | None] = Column(BigInteger)
    decided_at: Named[datetime] = Column(Instant)
    reinstated_by: Named[int | None] = Column(BigInteger)


outcomes = Table("outcomes", metadata, OutcomesColumns, schema="withdrawals")
