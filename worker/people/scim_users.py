"""Learners' accounts as a directory keeps them (SCIM): made, changed, deleted, revived.

The learner's `active` is the only thing that withdraws. It changes under the locks of person and learner, and the
event it stands for is recorded in the same transaction; the same state sent again changes nothing.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID, uuid4

import psycopg
import sqlalchemy.exc
import structlog
from sqlalchemy import Connection

from schemas.events import PersonEvent
from worker.database import Database
from worker.errors import ConflictError, MutabilityError, NotFoundError, PreconditionError, UniquenessError
from worker.jobs.submit import Requester
from worker.ledger import jobs, person_events, scim_users
from worker.ledger.scim_users import Learner
from worker.people import events

log = structlog.get_logger(__name__)

SOURCE = "scim"


@dataclass(frozen=True, slots=True)
class Account:
    """What a directory says of a user. `external_id` never changes."""

    user_name: str
    external_id: str
    display_name: str | None
    active: bool


def account(learner: Learner) -> Account:
    """A learner as a directory knows it; one without an address goes by its external id."""
    return Account(learner.email or learner.external_id, learner.external_id, learner.display_name, learner.active)


def version(learner: Learner) -> str:
    """A weak entity tag of what a directory sees; it changes whoever changes the row."""
    seen = repr((learner.id, learner.external_id, learner.email, learner.display_name, learner.active))
    return f'W/"{hashlib.sha256(seen.encode()).hexdigest()[:16]}"'


def show(database: Database, organisation_id: int, learner_id: int) -> Learner:
    """One user.

    Raises:
        NotFoundError: there is no such user in this organisation, or no longer.
    """
    with database.begin() as connection:
        return _live(scim_users.learner(connection, organisation_id, learner_id))


def create(database: Database, *, organisation_id: int, actor: str, wanted: Account) -> Learner:
    """Make a user, or revive a deleted one of the same name or external id: that is a reactivation.

    A person that an HR system has told of before gets the state that its events left.

    Raises:
        UniquenessError: a live user has this name or external id.
    """
    call = uuid4()

    def work(connection: Connection) -> Learner:
        jobs.lock_settings(connection, organisation_id)
        found = scim_users.alike(connection, organisation_id, external_id=wanted.external_id, email=wanted.user_name)
        if found and found[0].last_call == call:  # the answer to the first commit was lost
            return found[0]
        if any(learner.deleted_at is None for learner in found):
            raise UniquenessError("a user with this userName or externalId exists")
        if found:
            return _revive(connection, organisation_id, actor, call, found[0], wanted)
        return _create(connection, organisation_id, actor, call, wanted)

    learner = _unique(lambda: database.run(work, patient=True))
    log.info("user.created", learner_id=learner.id, organisation_id=organisation_id)
    return learner


def change(
    database: Database,
    *,
    organisation_id: int,
    actor: str,
    learner_id: int,
    wanted: Callable[[Account], Account],
    unless: Callable[[str], bool] = lambda _: True,
) -> Learner:
    """Bring a user to what `wanted` makes of it, all or nothing.

    `unless`: whether the version that is locked is the one the caller has seen.

    Raises:
        NotFoundError: there is no such user in this organisation, or no longer.
        PreconditionError: the user has changed since the caller saw it.
        UniquenessError: another user has the name.
        MutabilityError: the external id would change.
    """
    call = uuid4()

    def work(connection: Connection) -> Learner:
        learner = _live(_lock(connection, organisation_id, learner_id))
        if learner.last_call == call:  # the answer to the first commit was lost
            return learner
        if not unless(version(learner)):
            raise PreconditionError("the user has changed since; read it again")
        before = account(learner)
        after = wanted(before)
        if after == before:
            return learner
        if after.external_id != before.external_id:
            raise MutabilityError("externalId: cannot be changed")
        email = learner.email if after.user_name == before.user_name else after.user_name
        if not scim_users.update(connection, organisation_id, learner_id, email=email, display_name=after.display_name):
            raise UniquenessError("userName: another user has it")
        scim_users.remember(connection, organisation_id, learner_id, call)
        if after.active is not before.active:
            _tell(connection, organisation_id, actor, call.hex, learner.external_id, active=after.active)
        jobs.audit(connection, organisation_id=organisation_id, actor=actor, action="user.change")
        return _live(scim_users.learner(connection, organisation_id, learner_id))

    learner = _unique(lambda: database.run(work, patient=True))
    log.info("user.changed", learner_id=learner_id, organisation_id=organisation_id)
    return learner


def delete(
    database: Database,
    *,
    organisation_id: int,
    actor: str,
    learner_id: int,
    unless: Callable[[str], bool] = lambda _: True,
) -> None:
    """Let a user be absent for the directory: a deactivation. The learner's row stays, inactive.

    Raises:
        NotFoundError: there is no such user in this organisation, or no longer.
        PreconditionError: the user has changed since the caller saw it.
    """
    call = uuid4()

    def work(connection: Connection) -> None:
        learner = _lock(connection, organisation_id, learner_id)
        if learner is not None and learner.last_call == call:
            return
        learner = _live(learner)
        if not unless(version(learner)):
            raise PreconditionError("the user has changed since; read it again")
        scim_users.remember(connection, organisation_id, learner_id, call, deleted=True)
        if learner.active:
            _tell(connection, organisation_id, actor, call.hex, learner.external_id, active=False)
        jobs.audit(connection, organisation_id=organisation_id, actor=actor, action="user.delete")

    database.run(work, patient=True)
    log.info("user.deleted", learner_id=learner_id, organisation_id=organisation_id)


def _unique(write: Callable[[], Learner]) -> Learner:
    """The platform adds learners without our locks: of two that come at once its own index refuses one."""
    try:
        return write()
    except sqlalchemy.exc.IntegrityError as error:
        if isinstance(error.orig, psycopg.errors.UniqueViolation):
            raise UniquenessError("a user with this userName or externalId exists") from None
        raise


def _lock(connection: Connection, organisation_id: int, learner_id: int) -> Learner | None:
    """Lock settings, person and learner, in that order; the external id, by which persons go, never changes here."""
    jobs.lock_settings(connection, organisation_id)
    known = scim_users.learner(connection, organisation_id, learner_id)
    if known is None:
        return None
    person_events.lock(connection, organisation_id, known.external_id)
    return scim_users.learner(connection, organisation_id, learner_id, lock=True)


def _live(learner: Learner | None) -> Learner:
    if learner is None or learner.deleted_at is not None:
        raise NotFoundError("there is no such user in this organisation")
    return learner


def _create(connection: Connection, organisation_id: int, actor: str, call: UUID, wanted: Account) -> Learner:
    known = scim_users.has_events(connection, organisation_id, wanted.external_id)
    person = person_events.lock(connection, organisation_id, wanted.external_id) if known else None
    learner_id = scim_users.create(
        connection,
        organisation_id=organisation_id,
        external_id=wanted.external_id,
        email=wanted.user_name,
        display_name=wanted.display_name,
        active=wanted.active,
    )
    if learner_id is None:
        raise UniquenessError("a user with this userName or externalId exists")
    scim_users.remember(connection, organisation_id, learner_id, call, made=True)
    if person is not None and wanted.active:
        person_events.sync_learner(connection, organisation_id, wanted.external_id, was_active=True)
    jobs.audit(connection, organisation_id=organisation_id, actor=actor, action="user.create")
    return _live(scim_users.learner(connection, organisation_id, learner_id))


def _revive(
    connection: Connection, organisation_id: int, actor: str, call: UUID, deleted: Learner, wanted: Account
) -> Learner:
    person_events.lock(connection, organisation_id, deleted.external_id)
    learner = scim_users.learner(connection, organisation_id, deleted.id, lock=True)
    if learner is None:
        raise UniquenessError("a user with this userName or externalId was there a moment ago; try again")
    if not scim_users.update(
        connection, organisation_id, learner.id, email=wanted.user_name, display_name=wanted.display_name
    ):
        raise UniquenessError("userName: another user has it")
    scim_users.remember(connection, organisation_id, learner.id, call, made=True)
    if wanted.active is not learner.active:  # an HR system can have brought them back after the DELETE
        _tell(connection, organisation_id, actor, call.hex, learner.external_id, active=wanted.active)
    jobs.audit(connection, organisation_id=organisation_id, actor=actor, action="user.create")
    return _live(scim_users.learner(connection, organisation_id, learner.id))


def _tell(
    connection: Connection, organisation_id: int, actor: str, key: str, external_id: str, *, active: bool
) -> None:
    """Record the event that a change of `active` stands for; its time is the database's."""
    event = PersonEvent(type="user.reactivated" if active else "user.deactivated", external_id=external_id)
    receipt = events.record_in(connection, Requester(organisation_id, actor, "scim", key), SOURCE, event)
    if receipt.status == "ignored":  # rather refused than a success that has changed nothing
        raise ConflictError("active: an event of another source is newer by its own clock; try again in a few minutes")
