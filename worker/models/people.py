"""What HR systems say of people: sources, their events and rosters, and what follows from them."""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, Column, ForeignKey, ForeignKeyConstraint, Interval, Named, Table, TypedColumns
from sqlalchemy.dialects.postgresql import JSONB

from worker.models.base import Instant, OwnedColumns, SecretColumns, metadata


class SourcesColumns(SecretColumns):
    """An HR system that may send events."""

    name: Named[str]
    kind: Named[str]
    on_deactivate: Named[str]
    grace_hours: Named[int]
    api_key: Named[str | None]
    api_url: Named[str | None]
    last_event_at: Named[datetime | None] = Column(Instant)
    refused_signature: Named[int] = Column(BigInteger)
    refused_time: Named[int] = Column(BigInteger)
    refused_since: Named[datetime | None] = Column(Instant)
    refused_at: Named[datetime | None] = Column(Instant)


sources = Table("sources", metadata, SourcesColumns, schema="withdrawals")


class SilenceLimitsColumns(TypedColumns):
    """After how long without a word somebody has to look at a source."""

    organisation_id: Named[int] = Column(BigInteger, primary_key=True)
    source: Named[str] = Column(primary_key=True)
    hours: Named[int]
    set_by: Named[str]
    set_at: Named[datetime] = Column(Instant)


silence_limits = Table("silence_limits", metadata, SilenceLimitsColumns, schema="withdrawals")


class ReceiptsColumns(TypedColumns):
    """What was answered to an event, by its key; an HR event waits in it until it is applied."""

    organisation_id: Named[int] = Column(BigInteger, primary_key=True)
    door: Named[str] = Column(primary_key=True)
    idempotency_key: Named[str] = Column(primary_key=True)
    request_hash: Named[bytes]
    status: Named[str]
    job_id: Named[int | None] = Column(BigInteger, ForeignKey("withdrawals.jobs.id"))
    received_at: Named[datetime] = Column(Instant)
    id: Named[int] = Column(BigInteger)
    dead_letter_id: Named[int | None] = Column(BigInteger, ForeignKey("withdrawals.dead_letters.id"))
    waiting: Named[bool]
    type: Named[str | None]
    external_id: Named[str | None]
    sequence: Named[int | None] = Column(BigInteger)
    occurred_at: Named[datetime | None] = Column(Instant)
    effective_at: Named[datetime | None] = Column(Instant)
    run_after: Named[datetime | None] = Column(Instant)
    together: Named[int]
    attempts: Named[int]
    own_failures: Named[int]
    tried_for: Named[timedelta] = Column(Interval)
    applied_at: Named[datetime | None] = Column(Instant)
    request_id: Named[str | None]
    traceparent: Named[str | None]
    lookup: Named[bool]
    looked_up_at: Named[datetime | None] = Column(Instant)


receipts = Table("receipts", metadata, ReceiptsColumns, schema="withdrawals")


class PersonsColumns(TypedColumns):
    """A person as the events of all sources leave them, from the first event on."""

    organisation_id: Named[int] = Column(BigInteger, primary_key=True)
    external_id: Named[str] = Column(primary_key=True)
    epoch: Named[int] = Column(BigInteger)
    active: Named[bool]
    effective_at: Named[datetime | None] = Column(Instant)
    deactivation_due: Named[bool]


persons = Table("persons", metadata, PersonsColumns, schema="withdrawals")


class PersonEventsColumns(TypedColumns):
    """The newest event of each source."""

    organisation_id: Named[int] = Column(BigInteger, primary_key=True)
    external_id: Named[str] = Column(primary_key=True)
    source: Named[str] = Column(primary_key=True)
    type: Named[str]
    sequence: Named[int | None] = Column(BigInteger)
    occurred_at: Named[datetime] = Column(Instant)
    effective_at: Named[datetime] = Column(Instant)


person_events = Table(
    "person_events",
    metadata,
    PersonEventsColumns,
    ForeignKeyConstraint(
        ["organisation_id", "external_id"], ["withdrawals.persons.organisation_id", "withdrawals.persons.external_id"]
    ),
    schema="withdrawals",
)


class ScimUsersColumns(TypedColumns):
    """What SCIM remembers of a user beside the learner's row."""

    learner_id: Named[int] = Column(BigInteger, primary_key=True)
    organisation_id: Named[int] = Column(BigInteger)
    last_call: Named[UUID]
    created_at: Named[datetime | None] = Column(Instant)
    changed_at: Named[datetime] = Column(Instant)
    deleted_at: Named[datetime | None] = Column(Instant)
    external_id: Named[str | None]


scim_users = Table("scim_users", metadata, ScimUsersColumns, schema="withdrawals")


class RostersColumns(OwnedColumns):
    """What an HR system says at one time about everybody."""

    state: Named[str]
    as_of: Named[datetime] = Column(Instant)
    kind: Named[str]
    file_name: Named[str | None]
    sha256: Named[str]
    people: Named[int]
    active: Named[int]
    missing: Named[str]
    findings: Named[dict[str, Any]] = Column(JSONB)
    shrink_reason: Named[str | None]
    planned_by: Named[str]
    planned_at: Named[datetime] = Column(Instant)
    accepted_by: Named[str | None]
    accepted_at: Named[datetime | None] = Column(Instant)
    done_at: Named[datetime | None] = Column(Instant)
    job_id: Named[int | None] = Column(BigInteger, ForeignKey("withdrawals.jobs.id"))
    attempts: Named[int]
    run_after: Named[datetime] = Column(Instant)
    failure: Named[str | None]
    failed_at: Named[datetime | None] = Column(Instant)


rosters = Table("rosters", metadata, RostersColumns, schema="withdrawals")


class RosterLinesColumns(TypedColumns):
    """A person of a roster; without a line, one whom the platform has and the roster does not."""

    roster_id: Named[int] = Column(BigInteger, ForeignKey("withdrawals.rosters.id"), primary_key=True)
    organisation_id: Named[int] = Column(BigInteger)
    external_id: Named[str] = Column(primary_key=True)
    line: Named[int | None]
    active: Named[bool]
    finding: Named[str | None]
    result: Named[str | None]
    epoch: Named[int | None] = Column(BigInteger)


roster_lines = Table("roster_lines", metadata, RosterLinesColumns, schema="withdrawals")
