"""Limits of the brake are changed by two people: an owner proposes them, another person approves or rejects them.

One proposal of an organisation waits at a time. Every act takes the lock of the settings row first, which admissions
take as well: a job is admitted by the limits before an approval or by those after it.
"""

import json
from collections.abc import Callable
from datetime import timedelta

import structlog
from sqlalchemy import Connection

from schemas.brake import LimitProposal, LimitRequest
from schemas.catalogue import Role
from worker.access.approvals import require_reason, require_still_may
from worker.access.persons import Actor
from worker.code_words import said
from worker.database import Database
from worker.errors import ConflictError, InvalidInputError, NotFoundError, OwnProposalError
from worker.ledger import brake, jobs, limit_proposals
from worker.texts import mark, text

log = structlog.get_logger(__name__)

LIFETIME = timedelta(days=7)
"""After so long a proposal can be approved no more."""


def propose(database: Database, *, organisation_id: int, wanted: LimitRequest, who: Actor) -> LimitProposal:
    """Propose all limits of an organisation; a limit that is left out follows the default. They do not apply yet.

    Raises:
        InvalidInputError: they are the organisation's limits already, or nothing says why.
        ConflictError: another proposal waits.
    """

    def work(connection: Connection) -> LimitProposal:
        jobs.lock_settings(connection, organisation_id)
        waiting = limit_proposals.find_pending(connection, organisation_id)
        if waiting is not None:
            if who.is_same_as(waiting.proposed_by) and _limits(waiting) == _limits(wanted):
                return waiting  # the same request again
            raise ConflictError(
                text(
                    "proposal {proposal_id} by {proposed_by} waits: it is approved, rejected or withdrawn first",
                    proposal_id=waiting.id,
                    proposed_by=waiting.proposed_by,
                )
            )
        if _limits(wanted) == brake.own(connection, organisation_id):
            raise InvalidInputError(text("floor, share, hours: these are the limits already. Nothing was proposed."))
        require_reason(wanted.note)
        proposal_id = limit_proposals.insert_proposal(
            connection,
            organisation_id,
            wanted,
            note=wanted.note,
            proposed_by=who.name,
            made_by=who.made_by,
            lifetime=LIFETIME,
        )
        _audit(connection, organisation_id, who, "brake.propose", wanted.note, proposal_id, after=_limits(wanted))
        return _find(connection, organisation_id, proposal_id)

    return _logged("limits.proposed", organisation_id, database.run(work))


def approve(
    database: Database, *, organisation_id: int, proposal_id: int, who: Actor, note: str | None = None
) -> LimitProposal:
    """Let proposed limits apply from now on, by somebody who did not propose them. A job that is held stays held.

    Raises:
        NotFoundError: this organisation has no such proposal.
        OwnProposalError: the actor proposed them, as far as anybody can tell.
        ConflictError: the proposal does not wait any more, or its proposer may propose no more.
    """

    def work(connection: Connection, found: LimitProposal) -> None:
        _refuse_own(connection, found, who, "approve")
        proposer = _proposer(connection, found)
        require_still_may(connection, organisation_id, proposer, Role.OWNER, of=f"proposal {found.id}")
        before = brake.own(connection, organisation_id)
        after = _limits(found)
        brake.set_limits(connection, organisation_id, floor=found.floor, share=found.share, hours=found.hours)
        _audit(connection, organisation_id, who, "brake.set", note, proposal_id, before=before, after=after)

    return _decide(database, organisation_id, proposal_id, who, "approved", note, work)


def reject(database: Database, *, organisation_id: int, proposal_id: int, who: Actor, note: str) -> LimitProposal:
    """Refuse proposed limits, with the reason, by somebody who did not propose them.

    Raises:
        InvalidInputError: there is no reason.
        NotFoundError, OwnProposalError, ConflictError: as `approve`.
    """
    if not note.strip():
        raise InvalidInputError(text("note: a rejection needs a note that says why."))

    def work(connection: Connection, found: LimitProposal) -> None:
        _refuse_own(connection, found, who, "reject")
        _audit(connection, organisation_id, who, "brake.reject", note, proposal_id)

    return _decide(database, organisation_id, proposal_id, who, "rejected", note, work)


def withdraw(database: Database, *, organisation_id: int, proposal_id: int, who: Actor) -> LimitProposal:
    """Take a proposal back, by its proposer.

    Raises:
        NotFoundError: this organisation has no such proposal.
        ConflictError: somebody else proposed it, or it does not wait any more.
    """

    def work(connection: Connection, found: LimitProposal) -> None:
        if not who.is_same_as(found.proposed_by):
            raise ConflictError(
                text(
                    "proposal {id} was made by {proposed_by}; reject it, with the reason",
                    id=found.id,
                    proposed_by=found.proposed_by,
                )
            )
        _audit(connection, organisation_id, who, "brake.withdraw", None, proposal_id)

    return _decide(database, organisation_id, proposal_id, who, "withdrawn", None, work)


def is_own(database: Database, proposal: LimitProposal, who: Actor) -> bool:
    """Whether somebody proposed these limits, as far as anybody can tell: then somebody else has to decide."""
    with database.begin() as connection:
        return _is_own(connection, proposal, who)


def list_proposals(
    database: Database, *, organisation_id: int, before: int | None = None, limit: int = 50
) -> list[LimitProposal]:
    """Proposals of an organisation, newest first."""
    with database.begin() as connection:
        return list(limit_proposals.list_proposals(connection, organisation_id, before=before, limit=limit))


def _decide(
    database: Database,
    organisation_id: int,
    proposal_id: int,
    who: Actor,
    state: str,
    note: str | None,
    act: Callable[[Connection, LimitProposal], None],
) -> LimitProposal:
    """End a proposal that waits; asked again by the same person, the answer is the same and nothing is recorded."""

    def work(connection: Connection) -> LimitProposal:
        jobs.lock_settings(connection, organisation_id)
        found = _find(connection, organisation_id, proposal_id)
        if found.state == state and found.decided_by is not None and who.is_same_as(found.decided_by):
            return found
        if found.state != "pending":
            raise ConflictError(_say_ended(found))
        act(connection, found)
        if not limit_proposals.decide(
            connection, organisation_id, proposal_id, state=state, actor=who.name, note=note
        ):  # it has expired between two statements; what `act` wrote is rolled back
            raise ConflictError(
                text("proposal {proposal_id} is expired; propose the limits again if needed", proposal_id=proposal_id)
            )
        return _find(connection, organisation_id, proposal_id)

    return _logged(f"limits.{state}", organisation_id, database.run(work))


def _say_ended(found: LimitProposal) -> str:
    values = {"proposal_id": found.id, "state": said(found.state)}
    if found.decided_by is None:
        return text("proposal {proposal_id} is {state}; propose the limits again if needed", **values)
    template = mark("proposal {proposal_id} is {state} by {who}; propose the limits again if needed")
    return text(template, who=found.decided_by, **values)


def _refuse_own(connection: Connection, found: LimitProposal, who: Actor, act: str) -> None:
    if _is_own(connection, found, who):
        raise OwnProposalError(
            text(
                "proposal {id} was made by {proposed_by}, and {who} is not a second person; another owner or "
                "approver can {act} it",
                id=found.id,
                proposed_by=found.proposed_by,
                who=who.name,
                act=said(act),
            )
        )


def _is_own(connection: Connection, found: LimitProposal, who: Actor) -> bool:
    return who.is_known_to_be(_proposer(connection, found))


def _proposer(connection: Connection, found: LimitProposal) -> Actor:
    return Actor(found.proposed_by, limit_proposals.find_maker(connection, found.id))


def _find(connection: Connection, organisation_id: int, proposal_id: int) -> LimitProposal:
    found = limit_proposals.find(connection, organisation_id, proposal_id)
    if found is None:
        raise NotFoundError(text("there is no proposal {proposal_id} in this organisation", proposal_id=proposal_id))
    return found


def _limits(of: LimitRequest | LimitProposal) -> dict[str, float | int | None]:
    return {"floor": of.floor, "share": of.share, "hours": of.hours}


def _audit(
    connection: Connection,
    organisation_id: int,
    who: Actor,
    action: str,
    note: str | None,
    proposal_id: int,
    **detail: object,
) -> None:
    jobs.audit(
        connection,
        organisation_id=organisation_id,
        actor=who.name,
        action=action,
        note=note,
        detail=json.dumps({"proposal": proposal_id, **detail}),
    )


def _logged(event: str, organisation_id: int, proposal: LimitProposal) -> LimitProposal:
    log.info(event, proposal_id=proposal.id, organisation_id=organisation_id)
    return proposal
