"""The platform's tables, in schema `lms`. The service writes no more of them than its role is granted."""

from datetime import datetime
from decimal import Decimal

from sqlalchemy import BigInteger, Column, ForeignKey, Named, Table, TypedColumns

from worker.models.base import Instant, metadata


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
