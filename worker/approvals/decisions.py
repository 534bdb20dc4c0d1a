"""What a second person decides about an act that was asked for. Approving does the act, in the same transaction.

Every decision takes the lock of the organisation's settings row first: of two at once the second finds the approval
decided. Whatever refuses the act leaves the approval as it is.
"""

from collections.abc import Callable, Sequence
from functools import partial

import structlog
from sqlalchemy import Connection

from schemas.approvals import Approval, Waiting
from schemas.catalogue import GuardedAct
from worker.access import approvals as asking
from worker.access import policies, tokens
from worker.access.persons import Actor
from worker.code_words import said
from worker.database import Database
from worker.dead_letters import remedies, runs
from worker.errors import ConflictError, InvalidInputError, NotFoundError, OwnApprovalError
from worker.jobs import held, releases
from worker.ledger import approvals, dead_letters, jobs, limit_proposals, waiting
from worker.ledger.approvals import AskedFor
from worker.people import protections
from worker.texts import text

log = structlog.get_logger(__name__)

Act = Callable[[Connection, int, AskedFor, Actor], None]
"""Does what was asked for: connection, organisation, the approval, who approves it."""


def _act_on_letters(connection: Connection, organisation_id: int, asked: AskedFor, by: Actor) -> None:
    act = remedies.do_approved if "letter_ids" in asked.arguments else runs.start_approved
    act(connection, organisation_id, asked, by)


_ACTS: dict[GuardedAct, Act] = {
    GuardedAct.RELEASE: releases.release_approved,
    GuardedAct.OVERRIDE: _act_on_letters,
    GuardedAct.CASCADE: _act_on_letters,
    GuardedAct.LIFT: protections.lift_approved,
    GuardedAct.TOKEN: tokens.create_approved,
    GuardedAct.POLICIES: policies.set_approved,
}


def approve(
    database: Database, *, organisation_id: int, approval_id: int, who: Actor, note: str | None = None
) -> Approval:
    """Do what was asked for, by somebody who did not ask.

    Raises:
        NotFoundError: this organisation has no such approval.
        OwnApprovalError: the actor asked for it, as far as anybody can tell.
        ConflictError: it does not wait any more, what it is about has changed, or its requester may ask no more.
        WithdrawalsError: the act itself is refused, as by the brake; the approval goes on waiting.
    """

    def act(connection: Connection, found: AskedFor) -> None:
        _refuse_own(found, who, "approve")
        asking.require_requester(connection, organisation_id, found)
        _ACTS[found.approval.act](connection, organisation_id, found, who)

    return _decide(database, organisation_id, approval_id, who, "approved", note, act)


def reject(database: Database, *, organisation_id: int, approval_id: int, who: Actor, note: str) -> Approval:
    """Refuse what was asked for, with the reason, by somebody who did not ask.

    Raises:
        InvalidInputError: there is no reason.
        NotFoundError, OwnApprovalError, ConflictError: as `approve`.
    """
    if not note.strip():
        raise InvalidInputError(text("note: a rejection needs a note that says why."))
    refuse = partial(_refuse_own, who=who, act="reject")
    return _decide(database, organisation_id, approval_id, who, "rejected", note, lambda _, found: refuse(found))


def withdraw(database: Database, *, organisation_id: int, approval_id: int, who: Actor) -> Approval:
    """Take back what one has asked for.

    Raises:
        NotFoundError: this organisation has no such approval.
        ConflictError: somebody else asked for it, or it does not wait any more.
    """

    def act(_: Connection, found: AskedFor) -> None:
        if not who.is_known_to_be(asking.requester(found)):
            raise ConflictError(
                text(
                    "approval {approval_id} was asked for by {requested_by}; reject it, with the reason",
                    approval_id=approval_id,
                    requested_by=found.approval.requested_by,
                )
            )

    return _decide(database, organisation_id, approval_id, who, "withdrawn", None, act)


def show(database: Database, *, organisation_id: int, approval_id: int) -> Approval:
    """An approval of an organisation.

    Raises:
        NotFoundError: this organisation has no such approval.
    """
    with database.begin() as connection:
        return _find(connection, organisation_id, approval_id).approval


def list_own(database: Database, *, organisation_id: int, found: Sequence[Waiting], who: Actor) -> set[tuple[str, int]]:
    """Kind and id of what somebody asked for, as far as anybody can tell: somebody else has to decide on it."""
    with database.begin() as connection:
        requesters = releases.Requesters(connection, organisation_id)
        ids = {kind: [one.id for one in found if one.kind == kind] for kind in ("approval", "limits")}
        makers = {
            "approval": approvals.find_makers(connection, organisation_id, ids["approval"]),
            "limits": {one: limit_proposals.find_maker(connection, one) for one in ids["limits"]},
        }
    return {
        (one.kind, one.id)
        for one in found
        if (
            requesters.are_known_to_be(one.requested_by, who)
            if one.kind == "job"
            else who.is_known_to_be(Actor(one.requested_by, makers[one.kind].get(one.id)))
        )
    }


def is_own(database: Database, *, organisation_id: int, approval_id: int, who: Actor) -> bool:
    """Whether somebody asked for it, as far as anybody can tell: then somebody else has to decide."""
    with database.begin() as connection:
        return who.is_known_to_be(asking.requester(_find(connection, organisation_id, approval_id)))


def list_second_people(database: Database, *, organisation_id: int, who: Actor) -> list[str]:
    """Who could decide now on what somebody has asked for, as the audit has them. Members count while signed in."""
    with database.begin() as connection:
        return asking.list_second_people(connection, organisation_id, who)


def list_approvals(
    database: Database, *, organisation_id: int, state: str | None = None, before: int | None = None, limit: int = 50
) -> list[Approval]:
    """Approvals of an organisation, newest first."""
    with database.begin() as connection:
        return approvals.list_approvals(connection, organisation_id, state=state, before=before, limit=limit)


def list_waiting(database: Database, *, organisation_id: int, limit: int = 100) -> list[Waiting]:
    """Everything that waits for a second person, oldest first, of each kind up to `limit`.

    Held jobs come with what they would do now, as many as are looked at together.
    """
    with database.begin() as connection:
        found = waiting.list_waiting(connection, organisation_id, limit=limit)
    return held.with_now(database, organisation_id, found)


def _decide(
    database: Database,
    organisation_id: int,
    approval_id: int,
    who: Actor,
    state: str,
    note: str | None,
    act: Callable[[Connection, AskedFor], None],
) -> Approval:
    """End an approval that waits; asked again by the same person, the answer is the same and nothing is recorded."""

    def work(connection: Connection) -> Approval:
        jobs.lock_settings(connection, organisation_id)
        found = _find(connection, organisation_id, approval_id)
        known = found.approval
        if known.state == state and known.decided_by is not None and who.is_same_as(known.decided_by):
            return known
        if known.state != "pending":
            raise ConflictError(_say_ended(known))
        act(connection, found)
        if not approvals.decide(
            connection, organisation_id, approval_id, state=state, actor=who.name, note=note
        ):  # it has expired while `act` went on; what that wrote is rolled back
            raise ConflictError(text("approval {approval_id} is expired; ask again if needed", approval_id=approval_id))
        detail = {"approval": approval_id, "act": known.act, "subject": known.subject}
        asking.audit(connection, organisation_id, who, f"approval.{_VERBS[state]}", note, **detail)
        return _find(connection, organisation_id, approval_id).approval

    wait = partial(_wait_for_letters, organisation_id=organisation_id, approval_id=approval_id)
    decided = database.run(work, patient=True, wait=wait)
    log.info(f"approval.{state}", approval_id=approval_id, organisation_id=organisation_id, act=decided.act)
    return decided


_VERBS = {"approved": "approve", "rejected": "reject", "withdrawn": "withdraw"}


def _wait_for_letters(connection: Connection, *, organisation_id: int, approval_id: int) -> None:
    """Letters that a worker is deciding are waited for here, where nobody waits for the settings."""
    letter_ids = _find(connection, organisation_id, approval_id).arguments.get("letter_ids")
    if letter_ids:
        dead_letters.lock_letters(connection, organisation_id, letter_ids)


def _say_ended(known: Approval) -> str:
    values = {"approval_id": known.id, "state": said(known.state)}
    if known.decided_by is None:
        return text("approval {approval_id} is {state}; ask again if needed", **values)
    return text("approval {approval_id} is {state} by {who}; ask again if needed", who=known.decided_by, **values)


def _refuse_own(found: AskedFor, who: Actor, act: str) -> None:
    if who.is_known_to_be(asking.requester(found)):
        raise OwnApprovalError(
            text(
                "approval {approval_id} was asked for by {requested_by}, and {who} is not a second person; "
                "another approver can {act} it",
                approval_id=found.approval.id,
                requested_by=found.approval.requested_by,
                who=who.name,
                act=said(act),
            )
        )


def _find(connection: Connection, organisation_id: int, approval_id: int) -> AskedFor:
    found = approvals.find(connection, organisation_id, approval_id)
    if found is None:
        raise NotFoundError(text("there is no approval {approval_id} in this organisation", approval_id=approval_id))
    return found
