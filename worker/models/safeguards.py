"""What stands before a withdrawal: an organisation's settings, protections, the brake and the second person."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Column, ForeignKey, Named, Table, TypedColumns
from sqlalchemy.dialects.postgresql import JSONB

from worker.models.base import Instant, OwnedColumns, SecondPersonColumns, metadata


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


class ProtectionsColumns(OwnedColumns):
    """A learner or an enrolment that nothing withdraws for a time. `ends_at` is `infinity` for one without an end."""

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


class BrakeSeriesColumns(TypedColumns):
    """What a job counts of each Series in the brake's window, where an organisation has a limit for its Series."""

    job_id: Named[int] = Column(BigInteger, ForeignKey("withdrawals.jobs.id"), primary_key=True)
    series_id: Named[int] = Column(BigInteger, primary_key=True)
    organisation_id: Named[int] = Column(BigInteger)
    learners: Named[int] = Column(BigInteger)


brake_series = Table("brake_series", metadata, BrakeSeriesColumns, schema="withdrawals")


class ActsAloneColumns(OwnedColumns):
    """Acts that somebody did alone where the policies limit them."""

    act: Named[str]
    source: Named[str | None]
    size: Named[int] = Column(BigInteger)
    actor: Named[str]
    made_by: Named[str | None]
    at: Named[datetime] = Column(Instant)


acts_alone = Table("acts_alone", metadata, ActsAloneColumns, schema="withdrawals")


class LimitProposalsColumns(SecondPersonColumns):
    """Limits that an owner proposes for the brake, and what a second person decided. Null: the settings' defaults."""

    brake_floor: Named[int | None] = Column(BigInteger)
    brake_share: Named[float | None]
    brake_hours: Named[int | None]
    note: Named[str | None]
    proposed_by: Named[str]
    proposer_made_by: Named[str | None]
    proposed_at: Named[datetime] = Column(Instant)


limit_proposals = Table("limit_proposals", metadata, LimitProposalsColumns, schema="withdrawals")


class ApprovalsColumns(SecondPersonColumns):
    """Acts that need a second person, and what was decided about each."""

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


approvals = Table("approvals", metadata, ApprovalsColumns, schema="withdrawals")
