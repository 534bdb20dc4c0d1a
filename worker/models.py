"""The tables: the platform's own (`lms`) and the ledger's (`withdrawals`), as typed metadata for composed statements.

The migrations make the tables, with their checks, indexes and triggers; a test compares this metadata with a migrated
database. Large set statements are SQL text in `worker/ledger/`; what is composed of conditions is built from here.
"""

from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Column,
    Computed,
    DateTime,
    ForeignKey,
    ForeignKeyConstraint,
    Identity,
    Integer,
    Interval,
    LargeBinary,
    MetaData,
    Named,
    SmallInteger,
    Table,
    Text,
    TypedColumns,
)
from sqlalchemy.dialects.postgresql import JSONB

Instant = DateTime(timezone=True)
Ids = ARRAY(BigInteger)

metadata = MetaData()

# The platform's tables, in schema `lms`. The service writes no more of them than its role is granted.


class OrganisationsColumns(TypedColumns):
    """A tenant of the platform."""

    id: Named[int] = Column(BigInteger, primary_key=True)
    name: Named[str]
    timezone: Named[str]


organisations = Table("organisations", metadata, OrganisationsColumns, schema="lms")


class LearnersColumns(TypedColumns):
    """A person in an organisation; `active` is false after a deactivation."""

    id: Named[int] = Column(BigInteger, primary_key=True)
    organisation_id: Named[int] = Column(BigInteger, ForeignKey("lms.organisations.id"))
    external_id: Named[str]
    email: Named[str | None]
    display_name: Named[str | None]
    active: Named[bool]


learners = Table("learners", metadata, LearnersColumns, schema="lms")


class SeriesColumns(TypedColumns):
    """What learners enrol in."""

    id: Named[int] = Column(BigInteger, primary_key=True)
    organisation_id: Named[int] = Column(BigInteger, ForeignKey("lms.organisations.id"))
    code: Named[str]
    title: Named[str]


series = Table("series", metadata, SeriesColumns, schema="lms")


class PathwaysColumns(TypedColumns):
    """A Learning Pathway, which owns enrolments."""

    id: Named[int] = Column(BigInteger, primary_key=True)
    organisation_id: Named[int] = Column(BigInteger, ForeignKey("lms.organisations.id"))
    title: Named[str]


pathways = Table("pathways", metadata, PathwaysColumns, schema="lms")


class EnrolmentsColumns(TypedColumns):
    """One learner in one Series; `pathway_id` names the Learning Pathway that owns it."""

    id: Named[int] = Column(BigInteger, primary_key=True)
    organisation_id: Named[int] = Column(BigInteger, ForeignKey("lms.organisations.id"))
    learner_id: Named[int] = Column(BigInteger, ForeignKey("lms.learners.id"))
    series_id: Named[int] = Column(BigInteger, ForeignKey("lms.series.id"))
    pathway_id: Named[int | None] = Column(BigInteger, ForeignKey("lms.pathways.id"))
    status: Named[str]
    enrolled_at: Named[datetime] = Column(Instant)
    due_at: Named[datetime | None] = Column(Instant)
    progress: Named[Decimal]
    withdrawn_at: Named[datetime | None] = Column(Instant)
    withdrawal_reason: Named[str | None]
    withdrawn_by: Named[str | None]


enrolments = Table("enrolments", metadata, EnrolmentsColumns, schema="lms")


class ResourceAccessColumns(TypedColumns):
    """Never written by the service (rule 4)."""

    learner_id: Named[int] = Column(BigInteger, ForeignKey("lms.learners.id"), primary_key=True)
    series_id: Named[int] = Column(BigInteger, ForeignKey("lms.series.id"), primary_key=True)
    granted_at: Named[datetime] = Column(Instant)


resource_access = Table("resource_access", metadata, ResourceAccessColumns, schema="lms")


# The ledger, in schema `withdrawals`.


class OrganisationSettingsColumns(TypedColumns):
    """One row an organisation; admission takes its lock. Null limits: the settings' defaults."""

    organisation_id: Named[int] = Column(BigInteger, primary_key=True)
    brake_floor: Named[int | None] = Column(BigInteger)
    brake_share: Named[float | None]
    brake_hours: Named[int | None]
    population: Named[int | None] = Column(BigInteger)
    counted_at: Named[datetime | None] = Column(Instant)
    passed_at: Named[datetime] = Column(Instant)
    erasure_key: Named[str | None]
    protected_letters: Named[bool]
    policies: Named[list[dict[str, Any]]] = Column(JSONB)


organisation_settings = Table("organisation_settings", metadata, OrganisationSettingsColumns, schema="withdrawals")


class ProtectionsColumns(TypedColumns):
    """A learner or an enrolment that nothing withdraws for a time. `ends_at` is `infinity` for one without an end."""

    id: Named[int] = Column(BigInteger, primary_key=True)
    organisation_id: Named[int] = Column(BigInteger)
    learner_external_id: Named[str | None]
    enrolment_id: Named[int | None] = Column(BigInteger)
    kind: Named[str]
    reason: Named[str]
    made_by: Named[str]
    maker_made_by: Named[str | None]
    starts_at: Named[datetime] = Column(Instant)
    until: Named[datetime | None] = Column(Instant)
    lifted_by: Named[str | None]
    lifted_at: Named[datetime | None] = Column(Instant)
    lift_note: Named[str | None]
    ends_at: Named[datetime] = Column(Instant)


protections = Table("protections", metadata, ProtectionsColumns, schema="withdrawals")


class BrakeVolumeColumns(TypedColumns):
    """What counts in the brake's window, by the minute."""

    organisation_id: Named[int] = Column(BigInteger, primary_key=True)
    minute: Named[datetime] = Column(Instant, primary_key=True)
    jobs: Named[int] = Column(BigInteger)
    redrives: Named[int] = Column(BigInteger)


brake_volume = Table("brake_volume", metadata, BrakeVolumeColumns, schema="withdrawals")


class LimitProposalsColumns(TypedColumns):
    """Limits that an owner proposes for the brake, and what a second person decided. Null: the settings' defaults."""

    id: Named[int] = Column(BigInteger, primary_key=True)
    organisation_id: Named[int] = Column(BigInteger)
    brake_floor: Named[int | None] = Column(BigInteger)
    brake_share: Named[float | None]
    brake_hours: Named[int | None]
    note: Named[str | None]
    proposed_by: Named[str]
    proposer_made_by: Named[str | None]
    proposed_at: Named[datetime] = Column(Instant)
    expires_at: Named[datetime] = Column(Instant)
    state: Named[str]
    decided_by: Named[str | None]
    decided_at: Named[datetime | None] = Column(Instant)
    decision_note: Named[str | None]


limit_proposals = Table("limit_proposals", metadata, LimitProposalsColumns, schema="withdrawals")


class ApprovalsColumns(TypedColumns):
    """Acts that need a second person, and what was decided about each."""

    id: Named[int] = Column(BigInteger, primary_key=True)
    organisation_id: Named[int] = Column(BigInteger)
    act: Named[str]
    subject: Named[str]
    consequence: Named[str]
    arguments: Named[dict[str, Any]] = Column(JSONB)
    size: Named[int] = Column(BigInteger)
    alone_up_to: Named[int] = Column(BigInteger)
    reason: Named[str | None]
    requested_by: Named[str]
    requester_made_by: Named[str | None]
    requested_at: Named[datetime] = Column(Instant)
    expires_at: Named[datetime] = Column(Instant)
    state: Named[str]
    decided_by: Named[str | None]
    decided_at: Named[datetime | None] = Column(Instant)
    decision_note: Named[str | None]


approvals = Table("approvals", metadata, ApprovalsColumns, schema="withdrawals")


class JobsColumns(TypedColumns):
    """What one producer asked for."""

    id: Named[int] = Column(BigInteger, primary_key=True)
    organisation_id: Named[int] = Column(BigInteger)
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


class RostersColumns(TypedColumns):
    """What an HR system says at one time about everybody."""

    id: Named[int] = Column(BigInteger, primary_key=True)
    organisation_id: Named[int] = Column(BigInteger)
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


class SilenceLimitsColumns(TypedColumns):
    """After how long without a word somebody has to look at a source."""

    organisation_id: Named[int] = Column(BigInteger, primary_key=True)
    source: Named[str] = Column(primary_key=True)
    hours: Named[int]
    set_by: Named[str]
    set_at: Named[datetime] = Column(Instant)


silence_limits = Table("silence_limits", metadata, SilenceLimitsColumns, schema="withdrawals")


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


class DeadLettersColumns(TypedColumns):
    """What needs a person."""

    id: Named[int] = Column(BigInteger, primary_key=True)
    organisation_id: Named[int] = Column(BigInteger)
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


class RunsColumns(TypedColumns):
    """One act on all dead letters that match a filter."""

    id: Named[int] = Column(BigInteger, primary_key=True)
    organisation_id: Named[int] = Column(BigInteger)
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


class SourcesColumns(TypedColumns):
    """An HR system that may send events."""

    id: Named[int] = Column(BigInteger, primary_key=True)
    organisation_id: Named[int] = Column(BigInteger)
    name: Named[str]
    kind: Named[str]
    on_deactivate: Named[str]
    grace_hours: Named[int]
    secret: Named[str]
    previous_secret: Named[str | None]
    previous_until: Named[datetime | None] = Column(Instant)
    created_at: Named[datetime] = Column(Instant)
    created_by: Named[str]
    disabled_at: Named[datetime | None] = Column(Instant)
    api_key: Named[str | None]
    api_url: Named[str | None]
    last_event_at: Named[datetime | None] = Column(Instant)
    rotated_at: Named[datetime | None] = Column(Instant)


sources = Table("sources", metadata, SourcesColumns, schema="withdrawals")


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


class TokensColumns(TypedColumns):
    """Who may call over HTTP."""

    id: Named[int] = Column(BigInteger, primary_key=True)
    organisation_id: Named[int] = Column(BigInteger)
    name: Named[str]
    role: Named[str]
    selector: Named[str]
    hash: Named[bytes]
    created_at: Named[datetime] = Column(Instant)
    created_by: Named[str]
    last_used_at: Named[datetime | None] = Column(Instant)
    revoked_at: Named[datetime | None] = Column(Instant)
    owner: Named[bool]


tokens = Table("tokens", metadata, TokensColumns, schema="withdrawals")


class MembersColumns(TypedColumns):
    """People who have signed in with a provider."""

    id: Named[int] = Column(BigInteger, primary_key=True)
    organisation_id: Named[int] = Column(BigInteger)
    issuer: Named[str]
    subject: Named[str]
    name: Named[str]
    email: Named[str | None]
    created_at: Named[datetime] = Column(Instant)
    signed_in_at: Named[datetime] = Column(Instant)


members = Table("members", metadata, MembersColumns, schema="withdrawals")


class SessionsColumns(TypedColumns):
    """Who is signed in to the console: a token or a member."""

    hash: Named[bytes] = Column(LargeBinary, primary_key=True)
    id: Named[int] = Column(BigInteger, Identity(always=True))
    token_id: Named[int | None] = Column(BigInteger, ForeignKey("withdrawals.tokens.id"))
    member_id: Named[int | None] = Column(BigInteger, ForeignKey("withdrawals.members.id"))
    role: Named[str | None]
    provider_session: Named[str | None]
    browser: Named[str | None]
    created_at: Named[datetime] = Column(Instant)
    expires_at: Named[datetime] = Column(Instant)
    last_used_at: Named[datetime] = Column(Instant)
    idle_limit: Named[timedelta] = Column(Interval)


sessions = Table("sessions", metadata, SessionsColumns, schema="withdrawals")


class LogoutTokensColumns(TypedColumns):
    """Logout tokens of providers that were taken in."""

    issuer: Named[str] = Column(Text, primary_key=True)
    jti: Named[str] = Column(Text, primary_key=True)
    expires_at: Named[datetime] = Column(Instant)


logout_tokens = Table("logout_tokens", metadata, LogoutTokensColumns, schema="withdrawals")


class SignInLinksColumns(TypedColumns):
    """Links that sign in once."""

    hash: Named[bytes] = Column(LargeBinary, primary_key=True)
    token_id: Named[int] = Column(BigInteger, ForeignKey("withdrawals.tokens.id"))
    expires_at: Named[datetime] = Column(Instant)


sign_in_links = Table("sign_in_links", metadata, SignInLinksColumns, schema="withdrawals")


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


class ErasuresColumns(TypedColumns):
    """A person who was erased: a keyed hash of the external id, and the pseudonym that stands in its place."""

    id: Named[int] = Column(BigInteger, primary_key=True)
    organisation_id: Named[int] = Column(BigInteger)
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


class FindableColumns(TypedColumns):
    """What can be found by words, kept by the relay: a row of the platform, and the keys of the parts of its words."""

    kind: Named[str] = Column(primary_key=True)
    platform_id: Named[int] = Column(BigInteger, primary_key=True)
    organisation_id: Named[int] = Column(BigInteger)
    digest: Named[int] = Column(BigInteger)
    parts: Named[list[int]] = Column(ARRAY(Integer))


findable = Table("findable", metadata, FindableColumns, schema="withdrawals")


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
