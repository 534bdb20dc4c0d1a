"""The platform's learners and enrolments, as people search for them, and what the ledger says of one. Read only.

These tables are the platform's and can hold millions of rows: every statement has a limit, and none counts all rows.
"""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import (
    ColumnElement,
    CompoundSelect,
    Connection,
    Double,
    Select,
    case,
    cast,
    func,
    literal_column,
    or_,
    select,
    text,
    union,
)

from schemas.catalogue import JobState, Outcome
from worker.ledger.fragments import LIVE, UNFINISHED, among, one_of, sql_list
from worker.models import dead_letters, enrolments, learners, outcomes, pathways, series
from worker.rules import ACTIVE

T = TypeVar("T")

MOST_LEARNERS = 200
"""Learners that one search finds."""


@dataclass(frozen=True, slots=True)
class EnrolmentSearch:
    """Which enrolments are searched for. A condition that is None or empty is not applied."""

    series_id: int | None = None
    learner_ids: Sequence[int] | None = None
    status: Sequence[str] = ()
    pathway_id: int | None = None
    enrolled_after: datetime | None = None
    enrolled_before: datetime | None = None


@dataclass(frozen=True, slots=True)
class EnrolmentDetails:
    """An enrolment with the names of its Series, pathway and learner."""

    id: int
    status: str
    enrolled_at: datetime
    due_at: datetime | None
    progress: float
    withdrawn_at: datetime | None
    withdrawal_reason: str | None
    withdrawn_by: str | None
    series_id: int
    series_code: str
    series_title: str
    pathway_id: int | None
    pathway_title: str | None
    learner_id: int
    learner_external_id: str
    learner_name: str | None
    learner_email: str | None
    learner_active: bool

    @property
    def is_active(self) -> bool:
        return self.status in ACTIVE

    @property
    def can_be_withdrawn(self) -> bool:
        """Whether a request would withdraw it as it is now (rules 2 and 6). The attempt decides again."""
        return self.is_active and self.pathway_id is None


def find_learners(connection: Connection, organisation_id: int, text: str) -> tuple[list[int], bool]:
    """Ids of learners, up to `MOST_LEARNERS`, and whether there are more.

    Those with exactly this external id or e-mail address, by index. If there are none, those whose external id,
    name or e-mail address contains the text without the spaces around it, in capitals or not, with accents or not.
    """
    if ids := list(connection.scalars(_exactly(learners.c.id, organisation_id, text))):
        return ids, False
    own = select(learners.c.id).where(learners.c.organisation_id == organisation_id)
    columns = (learners.c.external_id, learners.c.display_name, learners.c.email)
    wanted = _without_marks(text.strip())
    similar = own.where(or_(*(_bare(column).contains(wanted, autoescape=True) for column in columns)))
    found = list(connection.scalars(similar.limit(MOST_LEARNERS + 1)))
    return sorted(found[:MOST_LEARNERS]), len(found) > MOST_LEARNERS


def find_exactly(connection: Connection, organisation_id: int, text: str) -> str | None:
    """The external id of the one learner who has exactly this external id or e-mail address, if there is one."""
    found = list(connection.scalars(_exactly(learners.c.external_id, organisation_id, text).limit(2)))
    return found[0] if len(found) == 1 else None


def _exactly(column: ColumnElement[T], organisation_id: int, text: str) -> CompoundSelect[T]:
    """A column of the learners who have exactly this external id or e-mail address, each by its index."""
    own = select(column).where(learners.c.organisation_id == organisation_id)
    return union(own.where(learners.c.external_id == text), own.where(func.lower(learners.c.email) == func.lower(text)))


def list_enrolments(
    connection: Connection, organisation_id: int, search: EnrolmentSearch, *, before: int | None, limit: int
) -> list[EnrolmentDetails]:
    """A page of enrolments, newest first. `before`: the last id of the page before."""
    found = _own_enrolments(organisation_id)
    if search.series_id is not None:
        found = found.where(enrolments.c.series_id == search.series_id)
    if search.learner_ids is not None:
        found = found.where(among(enrolments.c.learner_id, search.learner_ids))
    if search.status:
        found = found.where(enrolments.c.status.in_(search.status))
    if search.pathway_id is not None:
        found = found.where(enrolments.c.pathway_id == search.pathway_id)
    if search.enrolled_after is not None:
        found = found.where(enrolments.c.enrolled_at > search.enrolled_after)
    if search.enrolled_before is not None:
        found = found.where(enrolments.c.enrolled_at < search.enrolled_before)
    if before is not None:
        found = found.where(enrolments.c.id < before)
    page = found.order_by(enrolments.c.id.desc()).limit(limit)
    return [EnrolmentDetails(**row) for row in connection.execute(_with_names(page)).mappings()]


def find_enrolment(connection: Connection, organisation_id: int, enrolment_id: int) -> EnrolmentDetails | None:
    """One enrolment of an organisation."""
    one = _own_enrolments(organisation_id).where(enrolments.c.id == enrolment_id)
    row = connection.execute(_with_names(one)).mappings().one_or_none()
    return EnrolmentDetails(**row) if row else None


def find_job_that_withdrew(connection: Connection, organisation_id: int, enrolment_id: int) -> int | None:
    """The job that withdrew an enrolment and was not reinstated."""
    withdrawals = select(outcomes.c.job_id).where(
        outcomes.c.enrolment_id == enrolment_id,
        outcomes.c.organisation_id == organisation_id,
        outcomes.c.outcome == Outcome.WITHDRAWN,
        outcomes.c.reinstated_by.is_(None),
    )
    return connection.scalar(withdrawals.order_by(outcomes.c.decided_at.desc()).limit(1))


# As in `decision_receipts.list_undecided`: what is unfinished is a backlog, and looked through.
_LIVE_REQUEST = text(f"""
SELECT j.id, j.state, j.effective_at, j.held_because FROM (
    SELECT c.job_id FROM withdrawals.job_chunks c
    WHERE c.state IN ({sql_list(UNFINISHED)}) AND c.organisation_id = :organisation_id
        AND c.enrolment_ids && CAST(:enrolment_ids AS bigint[])
    UNION
    SELECT c.job_id FROM withdrawals.job_chunks c
    WHERE c.state IN ({sql_list(UNFINISHED)}) AND c.organisation_id = :organisation_id
        AND c.learner_external_id = CAST(:learner AS text)
) c JOIN withdrawals.jobs j ON j.id = c.job_id
WHERE j.kind = 'withdraw' AND j.finished_at IS NULL ORDER BY j.state = 'scheduled', j.id LIMIT 1
""")


@dataclass(frozen=True, slots=True)
class LiveRequest:
    """A job that is to withdraw an enrolment, and has not decided it yet."""

    job_id: int
    state: JobState
    """As it is stored: `queued` while it runs."""
    effective_at: datetime
    held_because: str | None


def find_live_request(
    connection: Connection, organisation_id: int, enrolment_ids: Sequence[int], *, learner: str
) -> LiveRequest | None:
    """The job that has been asked for already, and is to withdraw one of these enrolments of a learner; the first.

    One that is due, or waits for a second person, comes before one with a later time.
    """
    values = {"organisation_id": organisation_id, "enrolment_ids": list(enrolment_ids), "learner": learner}
    row = connection.execute(_LIVE_REQUEST, values).one_or_none()
    return LiveRequest(row.id, JobState(row.state), row.effective_at, row.held_because) if row else None


def list_open_letters(connection: Connection, organisation_id: int, enrolment_id: int) -> list[int]:
    """Ids of the dead letters about an enrolment that are not closed."""
    letters = select(dead_letters.c.id).where(
        dead_letters.c.organisation_id == organisation_id,
        dead_letters.c.enrolment_id == enrolment_id,
        one_of(dead_letters.c.state, LIVE),
    )
    return list(connection.scalars(letters.order_by(dead_letters.c.id)))


def _own_enrolments(organisation_id: int) -> Select[Any]:
    return select(enrolments).where(enrolments.c.organisation_id == organisation_id)


def _with_names(page: Select[Any]) -> Select[Any]:
    """The rows of a page with their names, which are looked up for these rows alone."""
    e = page.subquery("e")
    rows = e.join(series, series.c.id == e.c.series_id).join(learners, learners.c.id == e.c.learner_id)
    return (
        select(
            e.c.id,
            e.c.status,
            e.c.enrolled_at,
            e.c.due_at,
            cast(e.c.progress, Double).label("progress"),
            e.c.withdrawn_at,
            e.c.withdrawal_reason,
            e.c.withdrawn_by,
            series.c.id.label("series_id"),
            series.c.code.label("series_code"),
            series.c.title.label("series_title"),
            pathways.c.id.label("pathway_id"),
            pathways.c.title.label("pathway_title"),
            learners.c.id.label("learner_id"),
            learners.c.external_id.label("learner_external_id"),
            learners.c.display_name.label("learner_name"),
            learners.c.email.label("learner_email"),
            learners.c.active.label("learner_active"),
        )
        .select_from(rows.outerjoin(pathways, pathways.c.id == e.c.pathway_id))
        .order_by(e.c.id.desc())
    )


# Accents become characters of their own, which are left out. Most text has none, and is not taken apart.
_MARKS = r"[\u0300-\u036f]"


def _bare(column: Any) -> Any:
    """A column for comparison in a search, in small letters and without accents."""
    apart = func.normalize(column, literal_column("NFKD"))
    has_marks = func.octet_length(column) != func.char_length(column)
    return func.lower(case((has_marks, func.regexp_replace(apart, _MARKS, "", "g")), else_=column))


def _without_marks(text: str) -> str:
    """The same of what was typed."""
    apart = unicodedata.normalize("NFKD", text)
    return "".join(one for one in apart if not "\u0300" <= one <= "\u036f").lower()
