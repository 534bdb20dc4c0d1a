"""Limits that an owner proposes for the brake. Every statement that writes runs under the lock of the settings row."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, Select, case, func, insert, select, update

from schemas.brake import LimitProposal
from schemas.control import BrakeSetting
from worker.models import limit_proposals

_STATE = case(
    (
        (limit_proposals.c.state == "pending") & (limit_proposals.c.expires_at <= func.now()),
        "expired",
    ),
    else_=limit_proposals.c.state,
)
_IS_PENDING = (limit_proposals.c.state == "pending") & (limit_proposals.c.expires_at > func.now())
_PROPOSALS = select(
    limit_proposals.c.id,
    _STATE.label("state"),
    limit_proposals.c.brake_floor.label("floor"),
    limit_proposals.c.brake_share.label("share"),
    limit_proposals.c.brake_hours.label("hours"),
    limit_proposals.c.note,
    limit_proposals.c.proposed_by,
    limit_proposals.c.proposed_at,
    limit_proposals.c.expires_at,
    limit_proposals.c.decided_by,
    limit_proposals.c.decided_at,
    limit_proposals.c.decision_note,
)


def insert_proposal(
    connection: Connection,
    organisation_id: int,
    wanted: BrakeSetting,
    *,
    note: str | None,
    proposed_by: str,
    made_by: str | None,
    lifetime: timedelta,
) -> int:
    """A new proposal that waits; its id."""
    row = {
        "organisation_id": organisation_id,
        "brake_floor": wanted.floor,
        "brake_share": wanted.share,
        "brake_hours": wanted.hours,
        "note": note,
        "proposed_by": proposed_by,
        "proposer_made_by": made_by,
        "expires_at": func.now() + lifetime,
    }
    made = connection.execute(insert(limit_proposals).values(row).returning(limit_proposals.c.id)).one()
    return int(made.id)


def find_pending(connection: Connection, organisation_id: int) -> LimitProposal | None:
    """The proposal that waits for a second person, if any has not expired."""
    newest = _of(organisation_id).where(_IS_PENDING).order_by(limit_proposals.c.id.desc()).limit(1)
    return _one(connection, newest)


def pending_ids(organisation_id: int) -> Select[int]:
    """The ids of the proposals that wait."""
    return select(limit_proposals.c.id).where(limit_proposals.c.organisation_id == organisation_id, _IS_PENDING)


def find(connection: Connection, organisation_id: int, proposal_id: int) -> LimitProposal | None:
    """A proposal of an organisation."""
    return _one(connection, _of(organisation_id).where(limit_proposals.c.id == proposal_id))


def find_maker(connection: Connection, proposal_id: int) -> str | None:
    """Who created the token by which it was proposed; None: it was no token."""
    return connection.scalar(select(limit_proposals.c.proposer_made_by).where(limit_proposals.c.id == proposal_id))


def list_proposals(
    connection: Connection, organisation_id: int, *, before: int | None, limit: int
) -> Sequence[LimitProposal]:
    """Proposals of an organisation, newest first."""
    statement = _of(organisation_id).order_by(limit_proposals.c.id.desc()).limit(limit)
    if before is not None:
        statement = statement.where(limit_proposals.c.id < before)
    return [LimitProposal.model_validate(row) for row in connection.execute(statement)]


def decide(
    connection: Connection, organisation_id: int, proposal_id: int, *, state: str, actor: str, note: str | None
) -> bool:
    """End a proposal that waits as approved, rejected or withdrawn; False: it does not wait any more."""
    statement = (
        update(limit_proposals)
        .where(
            limit_proposals.c.id == proposal_id,
            limit_proposals.c.organisation_id == organisation_id,
            limit_proposals.c.state == "pending",
            limit_proposals.c.expires_at > func.now(),
        )
        .values(state=state, decided_by=actor, decided_at=func.now(), decision_note=note)
    )
    return connection.execute(statement).rowcount == 1


def _of(organisation_id: int) -> Select[Any]:
    return _PROPOSALS.where(limit_proposals.c.organisation_id == organisation_id)


def _one(connection: Connection, statement: Select[Any]) -> LimitProposal | None:
    row = connection.execute(statement).one_or_none()
    return LimitProposal.model_validate(row) if row else None
