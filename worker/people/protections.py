"""Protect learners and enrolments from being withdrawn, and lift that before its end by a second person.

A protection is honoured by every source at the moment of deciding (`worker/ledger/protections.py`), and ends by itself.
"""

import json
from collections.abc import Sequence

import structlog
from sqlalchemy import Connection

from schemas.approvals import Approval
from schemas.catalogue import GuardedAct
from schemas.protections import Protection, ProtectionPolicy, ProtectionRequest
from worker.access import approvals, erased
from worker.access.approvals import Wanted
from worker.access.persons import Actor
from worker.code_words import said
from worker.database import Database
from worker.errors import ConflictError, InvalidInputError, NotFoundError, OwnProtectionError
from worker.jobs.calendar import effective_time
from worker.ledger import erasures, jobs, protections
from worker.ledger.approvals import AskedFor
from worker.texts import text

log = structlog.get_logger(__name__)


def protect(database: Database, *, organisation_id: int, wanted: ProtectionRequest, who: Actor) -> Protection:
    """Let nothing withdraw a learner or an enrolment from now on. A chunk that is being decided is waited for.

    The same request again, while its protection is live, has the same answer.

    Raises:
        NotFoundError: this organisation has no such learner or enrolment.
        InvalidInputError: `until` has passed.
        ErasedPersonError: the learner was erased.
    """

    def work(connection: Connection) -> Protection:
        _lock(connection, organisation_id, wanted)
        if wanted.learner_external_id is not None:  # an erasure takes these locks, too
            sealed_key = erasures.read_key(connection, organisation_id)
            erased.require_not(connection, organisation_id, wanted.learner_external_id, sealed_key)
        until = effective_time(connection, organisation_id, wanted.until, field="until")
        terms = {
            "made_by": who.name,
            "kind": str(wanted.kind),
            "reason": wanted.reason,
            "until": until,
            "learner_external_id": wanted.learner_external_id,
            "enrolment_id": wanted.enrolment_id,
        }
        known = protections.find_same(connection, organisation_id, terms)
        if known is not None:
            return _find(connection, organisation_id, known)
        made = protections.insert_protection(connection, organisation_id, {**terms, "maker_made_by": who.made_by})
        if made is None:
            raise InvalidInputError(text("until: that time has passed. Nothing was protected."))
        found = _find(connection, organisation_id, made)
        _audit(connection, organisation_id, who, "protection.add", wanted.reason, found)
        return found

    return _logged("protection.added", organisation_id, database.run(work, patient=True))


def lift(database: Database, *, organisation_id: int, protection_id: int, who: Actor, note: str) -> Protection:
    """End a protection before its time, by somebody who did not make it. What it kept back is tried again.

    Raises:
        InvalidInputError: there is no reason.
        NotFoundError: this organisation has no such protection.
        OwnProtectionError: the actor made it, as far as anybody can tell.
        ConflictError: it has ended.
        SecondPersonNeededError: the policies let nobody lift it alone; it waits as an approval.
    """
    if not note.strip():
        raise InvalidInputError(text("note: lifting a protection needs a note that says why."))

    def work(connection: Connection) -> Protection | Approval:
        is_limited = approvals.is_limited(connection, organisation_id, GuardedAct.LIFT)
        if is_limited:
            jobs.lock_settings(connection, organisation_id)
        found = _lock_to_lift(connection, organisation_id, protection_id, who)
        if found.state != "live":
            return found  # the same request again
        asked = _ask_to_lift(connection, organisation_id, found, who, note) if is_limited else None
        return asked or _lift(connection, organisation_id, protection_id, who, note)

    done = database.run(work)
    if isinstance(done, Approval):
        raise approvals.needed(done)
    return _logged("protection.lifted", organisation_id, done)


def lift_approved(connection: Connection, organisation_id: int, asked: AskedFor, by: Actor) -> None:
    """Lift a protection as an approval says.

    Raises:
        OwnProtectionError: the approver made it, as far as anybody can tell.
        ConflictError: it has ended.
    """
    protection_id, requester = asked.arguments["protection_id"], approvals.requester(asked)
    for one in (requester, by):
        found = _lock_to_lift(connection, organisation_id, protection_id, one)
    if found.state != "live":
        raise ConflictError(_say_ended(found))
    _lift(connection, organisation_id, protection_id, requester, asked.approval.reason or "")


def _lock_to_lift(connection: Connection, organisation_id: int, protection_id: int, who: Actor) -> Protection:
    """A protection that somebody may lift: live and another's, or lifted by them before."""
    found = protections.lock_protection(connection, organisation_id, protection_id)
    if found is None:
        raise _not_found(protection_id)
    if (found.state, found.lifted_by) == ("lifted", who.name):
        return found
    if found.state != "live":
        raise ConflictError(_say_ended(found))
    maker = protections.find_makers(connection, [protection_id]).get(protection_id)
    if who.is_known_to_be(Actor(found.made_by, maker)):
        raise OwnProtectionError(
            text(
                "protection {protection_id} was made by {made_by}, and {who} is not a second person; another "
                "approver can lift it",
                protection_id=protection_id,
                made_by=found.made_by,
                who=who.name,
            )
        )
    return found


def _say_ended(found: Protection) -> str:
    values = {"protection_id": found.id, "state": said(found.state)}
    if found.lifted_by is None:
        return text("protection {protection_id} is {state}; it protects nothing any more", **values)
    return text(
        "protection {protection_id} is {state} by {who}; it protects nothing any more", who=found.lifted_by, **values
    )


def _ask_to_lift(
    connection: Connection, organisation_id: int, found: Protection, who: Actor, note: str
) -> Approval | None:
    if found.learner_external_id is None:
        consequence = text("Ends the protection of an enrolment now. What it kept back is tried again within a day.")
    else:
        consequence = text("Ends the protection of a learner now. What it kept back is tried again within a day.")
    wanted = Wanted(
        GuardedAct.LIFT,
        f"protection {found.id}",
        consequence,
        {"protection_id": found.id},
        note,
    )
    return approvals.ask_if_needed(connection, organisation_id, wanted, who)


def _lift(connection: Connection, organisation_id: int, protection_id: int, who: Actor, note: str) -> Protection:
    if not protections.lift(connection, organisation_id, protection_id, actor=who.name, note=note):
        raise ConflictError(
            text("protection {protection_id} is ended; it protects nothing any more", protection_id=protection_id)
        )
    lifted = _find(connection, organisation_id, protection_id)
    _audit(connection, organisation_id, who, "protection.lift", note, lifted)
    return lifted


def show(database: Database, *, organisation_id: int, protection_id: int) -> Protection:
    """A protection of an organisation.

    Raises:
        NotFoundError: this organisation has no such protection.
    """
    with database.begin() as connection:
        return _find(connection, organisation_id, protection_id)


def list_protections(
    database: Database,
    *,
    organisation_id: int,
    live: bool = False,
    learner_external_id: str | None = None,
    enrolment_id: int | None = None,
    before: int | None = None,
    limit: int = 50,
) -> list[Protection]:
    """Protections of an organisation, newest first; of a learner also those of their enrolments, and vice versa."""
    with database.begin() as connection:
        return protections.list_protections(
            connection,
            organisation_id,
            live=live,
            learner_external_id=learner_external_id,
            enrolment_id=enrolment_id,
            before=before,
            limit=limit,
        )


def list_own(database: Database, found: Sequence[Protection], who: Actor) -> set[int]:
    """The ids of those that somebody made, as far as anybody can tell: somebody else has to lift them."""
    with database.begin() as connection:
        makers = protections.find_makers(connection, [one.id for one in found])
    return {one.id for one in found if who.is_known_to_be(Actor(one.made_by, makers.get(one.id)))}


def read_policy(database: Database, *, organisation_id: int) -> ProtectionPolicy:
    """What happens to a withdrawal that a protection kept back."""
    with database.begin() as connection:
        return ProtectionPolicy(letters=protections.opens_letters(connection, organisation_id))


def set_policy(database: Database, *, organisation_id: int, wanted: ProtectionPolicy, who: Actor) -> ProtectionPolicy:
    """Change what happens to it from now on. Letters that are open stay open."""

    def work(connection: Connection) -> ProtectionPolicy:
        jobs.lock_settings(connection, organisation_id)
        before = protections.opens_letters(connection, organisation_id)
        if before != wanted.letters:
            protections.set_opens_letters(connection, organisation_id, letters=wanted.letters)
            detail = json.dumps({"before": {"letters": before}, "after": {"letters": wanted.letters}})
            jobs.audit(
                connection,
                organisation_id=organisation_id,
                actor=who.name,
                action="protection.policy",
                detail=detail,
            )
        return wanted

    return database.run(work)


def _lock(connection: Connection, organisation_id: int, wanted: ProtectionRequest) -> None:
    if wanted.learner_external_id is not None:
        if not protections.lock_learner(connection, organisation_id, wanted.learner_external_id):
            raise NotFoundError(
                text(
                    "there is no learner {learner_external_id!r} in this organisation; ids are compared exactly",
                    learner_external_id=wanted.learner_external_id,
                )
            )
    elif not protections.lock_enrolment(connection, organisation_id, wanted.enrolment_id or 0):
        raise NotFoundError(
            text("there is no enrolment {enrolment_id} in this organisation", enrolment_id=wanted.enrolment_id)
        )


def _find(connection: Connection, organisation_id: int, protection_id: int) -> Protection:
    found = protections.find(connection, organisation_id, protection_id)
    if found is None:
        raise _not_found(protection_id)
    return found


def _not_found(protection_id: int) -> NotFoundError:
    return NotFoundError(
        text("there is no protection {protection_id} in this organisation", protection_id=protection_id)
    )


def _audit(
    connection: Connection, organisation_id: int, who: Actor, action: str, note: str, protection: Protection
) -> None:
    terms = protection.model_dump(mode="json", include={"learner_external_id", "enrolment_id", "kind", "until"})
    jobs.audit(
        connection,
        organisation_id=organisation_id,
        actor=who.name,
        action=action,
        note=note,
        detail=json.dumps({"protection": protection.id, **terms}),
    )


def _logged(event: str, organisation_id: int, protection: Protection) -> Protection:
    log.info(event, protection_id=protection.id, organisation_id=organisation_id, kind=str(protection.kind))
    return protection
