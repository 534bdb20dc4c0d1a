"""Approvals, and the policies that say which acts need one. Every statement that writes runs under the lock of the
organisation's settings row, so that of two decisions one comes first."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Select, and_, case, func, insert, select, union, update

from schemas.approvals import Approval
from schemas.catalogue import GuardedAct, JobState, Role
from schemas.dead_letters import LetterFilter
from schemas.job_filter import ReleaseFilter
from worker.ledger.attempts_preview import matching_open
from worker.ledger.fragments import among
from worker.ledger.job_lists import job_conditions
from worker.ledger.sessions import NOT_EXPIRED
from worker.ledger.tokens import IS_LIVE
from worker.models import (
    approvals,
    dead_letters,
    job_chunks,
    jobs,
    members,
    organisation_settings,
    outcomes,
    sessions,
    tokens,
)

_IS_PENDING = (approvals.c.state == "pending") & (approvals.c.expires_at > func.now())
_IS_EXPIRED = (approvals.c.state == "pending") & (approvals.c.expires_at <= func.now())
_SHOWN = (
    approvals.c.id,
    approvals.c.act,
    case((_IS_EXPIRED, "expired"), else_=approvals.c.state).label("state"),
    approvals.c.subject,
    approvals.c.consequence,
    approvals.c.size,
    approvals.c.alone_up_to,
    approvals.c.reason,
    approvals.c.requested_by,
    approvals.c.requested_at,
    approvals.c.expires_at,
    approvals.c.decided_by,
    approvals.c.decided_at,
    approvals.c.decision_note,
)


@dataclass(frozen=True, slots=True)
class AskedFor:
    """An approval with what the act needs, which is shown to nobody."""

    approval: Approval
    arguments: dict[str, Any]
    made_by: str | None
    """Who created the requester's token."""


def insert_approval(connection: Connection, organisation_id: int, row: dict[str, Any], *, lifetime: timedelta) -> int:
    """A new approval that waits; its id."""
    values = {**row, "organisation_id": organisation_id, "expires_at": func.now() + lifetime}
    return connection.execute(insert(approvals).values(values).returning(approvals.c.id)).scalar_one()


def find(connection: Connection, organisation_id: int, approval_id: int) -> AskedFor | None:
    """An approval of an organisation."""
    return _one(connection, _of(organisation_id).where(approvals.c.id == approval_id))


def find_pending(
    connection: Connection, organisation_id: int, act: GuardedAct, subject: str | None = None
) -> AskedFor | None:
    """The approval of an act that waits. `subject`: about it alone."""
    waiting = _of(organisation_id).where(_IS_PENDING, approvals.c.act == act)
    if subject is not None:
        waiting = waiting.where(approvals.c.subject == subject)
    return _one(connection, waiting.order_by(approvals.c.id.desc()).limit(1))


def list_approvals(
    connection: Connection, organisation_id: int, *, state: str | None, before: int | None, limit: int
) -> list[Approval]:
    """Approvals of an organisation, newest first. `state`: only those."""
    statement = _of(organisation_id).order_by(approvals.c.id.desc()).limit(limit)
    if before is not None:
        statement = statement.where(approvals.c.id < before)
    if state is not None:
        by_state = {"pending": _IS_PENDING, "expired": _IS_EXPIRED}
        statement = statement.where(by_state.get(state, approvals.c.state == state))
    return [Approval.model_validate(row) for row in connection.execute(statement)]


def find_several(connection: Connection, organisation_id: int, approval_ids: Sequence[int]) -> list[Approval]:
    """Approvals of an organisation by id, newest first."""
    statement = _of(organisation_id).where(among(approvals.c.id, approval_ids)).order_by(approvals.c.id.desc())
    return [Approval.model_validate(row) for row in connection.execute(statement)]


def list_pending(
    connection: Connection, organisation_id: int, *, since: datetime | None = None, limit: int = 100
) -> list[Approval]:
    """Approvals that wait for a second person, oldest first. `since`: asked for from this time on."""
    statement = _of(organisation_id).where(_IS_PENDING).order_by(approvals.c.requested_at, approvals.c.id).limit(limit)
    if since is not None:
        statement = statement.where(approvals.c.requested_at >= since)
    return [Approval.model_validate(row) for row in connection.execute(statement)]


def pending_ids(organisation_id: int) -> Select[int]:
    """The ids of the approvals that wait."""
    return select(approvals.c.id).where(approvals.c.organisation_id == organisation_id, _IS_PENDING)


def find_makers(connection: Connection, organisation_id: int, approval_ids: Sequence[int]) -> dict[int, str | None]:
    """Who created the token by which each of these was asked for; None: it was no token."""
    found = select(approvals.c.id, approvals.c.requester_made_by).where(
        approvals.c.organisation_id == organisation_id, among(approvals.c.id, approval_ids)
    )
    return {row.id: row.requester_made_by for row in connection.execute(found)}


def decide(
    connection: Connection, organisation_id: int, approval_id: int, *, state: str, actor: str, note: str | None
) -> bool:
    """End an approval that waits as approved, rejected or withdrawn; False: it does not wait any more."""
    statement = (
        update(approvals)
        .where(
            approvals.c.id == approval_id,
            approvals.c.organisation_id == organisation_id,
            approvals.c.state == "pending",
            approvals.c.expires_at > func.clock_timestamp(),
        )
        .values(state=state, decided_by=actor, decided_at=func.now(), decision_note=note)
    )
    return connection.execute(statement).rowcount == 1


def read_rules(connection: Connection, organisation_id: int) -> list[dict[str, Any]]:
    """The rules that an organisation has set itself."""
    its = select(organisation_settings.c.policies).where(organisation_settings.c.organisation_id == organisation_id)
    return connection.scalar(its) or []


def set_rules(connection: Connection, organisation_id: int, rules: Sequence[dict[str, Any]]) -> None:
    """Give an organisation rules of its own, in place of all that it had."""
    its = organisation_settings.c.organisation_id == organisation_id
    connection.execute(update(organisation_settings).where(its).values(policies=list(rules)))


def list_approvers(connection: Connection, organisation_id: int) -> list[tuple[str | None, int | None, str | None]]:
    """Name, member and maker of all who could decide: live tokens from approver on, and members who are signed in."""
    may = (Role.APPROVER, Role.OWNER)
    # in the table an owner's token has the role of an approver
    by_token = select(tokens.c.name, tokens.c.created_by).where(
        tokens.c.organisation_id == organisation_id, IS_LIVE, tokens.c.role == Role.APPROVER
    )
    by_session = (
        select(members.c.name, members.c.id)
        .distinct()
        .join(sessions, sessions.c.member_id == members.c.id)
        .where(members.c.organisation_id == organisation_id, NOT_EXPIRED, sessions.c.role.in_(may))
    )
    return [
        *((row.name, None, row.created_by) for row in connection.execute(by_token)),
        *((row.name, row.id, None) for row in connection.execute(by_session)),
    ]


def list_sources(connection: Connection, organisation_id: int, letter_ids: Sequence[int]) -> list[str]:
    """The sources of all jobs that refer to these letters."""
    openers = select(dead_letters.c.job_id).where(
        among(dead_letters.c.id, letter_ids), dead_letters.c.organisation_id == organisation_id
    )
    by_outcome = select(outcomes.c.job_id).where(among(outcomes.c.dead_letter_id, letter_ids))
    by_chunk = select(job_chunks.c.job_id).where(among(job_chunks.c.dead_letter_id, letter_ids))
    referring = union(openers, by_outcome, by_chunk).subquery()
    found = select(jobs.c.source).distinct().where(
        jobs.c.id.in_(select(referring.c[0])), jobs.c.organisation_id == organisation_id
    )  # fmt: skip
    return sorted(connection.scalars(found))


def count_letters(
    connection: Connection, organisation_id: int, wanted: LetterFilter, codes: Sequence[str] | None
) -> dict[str | None, int]:
    """Open letters that match, by the source of the job that opened each."""
    its = and_(jobs.c.id == dead_letters.c.job_id, jobs.c.organisation_id == dead_letters.c.organisation_id)
    statement = (
        select(jobs.c.source, func.count())
        .select_from(dead_letters.outerjoin(jobs, its))
        .where(*matching_open(organisation_id, wanted, codes))
        .group_by(jobs.c.source)
    )
    return {source: int(count) for source, count in connection.execute(statement)}


def sum_held(
    connection: Connection, organisation_id: int, wanted: ReleaseFilter, *, ids: Sequence[int] | None = None
) -> dict[str, tuple[int, int]]:
    """Of the held jobs that match, by source: how many, and their learners. `ids`: only these."""
    given = ids if ids is not None else wanted.ids
    learners = func.coalesce(func.sum(func.coalesce(jobs.c.learners, jobs.c.accepted)), 0)
    statement = (
        select(jobs.c.source, func.count(), learners)
        .where(
            jobs.c.organisation_id == organisation_id,
            jobs.c.state == JobState.HELD,
            *job_conditions(organisation_id, wanted),
        )
        .group_by(jobs.c.source)
    )
    if given is not None:
        statement = statement.where(among(jobs.c.id, given))
    return {source: (count, int(total or 0)) for source, count, total in connection.execute(statement)}


def _of(organisation_id: int) -> Select[Any]:
    return select(*_SHOWN, approvals.c.arguments, approvals.c.requester_made_by).where(
        approvals.c.organisation_id == organisation_id
    )


def _one(connection: Connection, statement: Select[Any]) -> AskedFor | None:
    row = connection.execute(statement).one_or_none()
    return AskedFor(Approval.model_validate(row), row.arguments, row.requester_made_by) if row else None
