"""Create, change, delete and revive the users of SCIM, which are learners of an organisation.

Only a change of `active` withdraws anybody. It happens under the locks of person and learner, and the event that it
stands for is recorded in the same transaction. Sending the same state again changes nothing.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from uuid import UUID, uuid4

import psycopg
import sqlalchemy.exc
import structlog
from sqlalchemy import ColumnElement, Connection

from schemas.catalogue import ReceiptStatus
from schemas.events import PersonEvent
from worker.access import erased
from worker.database import Database
from worker.errors import ConflictError, MutabilityError, NotFoundError, PreconditionError, UniquenessError
from worker.jobs.submit import Requester
from worker.ledger import erasures, jobs, person_events, scim_users
from worker.ledger.scim_users import SOURCE, ScimUser
from worker.people import events

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class UserAttributes:
    """What a SCIM client writes of a user. `external_id` never changes."""

    user_name: str
    external_id: str
    display_name: str | None
    active: bool


def attributes(user: ScimUser) -> UserAttributes:
    """What a SCIM client sees of a user; a learner without an address goes by its external id."""
    return UserAttributes(user.email or user.external_id, user.external_id, user.display_name, user.active)


def version(user: ScimUser) -> str:
    """A weak entity tag of what a client sees; it also changes when the platform changes the row."""
    seen = repr((user.id, user.external_id, user.email, user.display_name, user.active))
    return f'W/"{hashlib.sha256(seen.encode()).hexdigest()[:16]}"'


def show(database: Database, organisation_id: int, learner_id: int) -> ScimUser:
    """One user.

    Raises:
        NotFoundError: the organisation has no such user, or the user was deleted.
    """
    with database.begin() as connection:
        return _not_deleted(scim_users.find(connection, organisation_id, learner_id))


def search(
    database: Database, organisation_id: int, condition: ColumnElement[bool], *, offset: int, limit: int
) -> tuple[int, list[ScimUser]]:
    """How many users match a condition over `lms.learners`, and one page of them by id."""
    with database.begin() as connection:
        return scim_users.search(connection, organisation_id, condition, offset=offset, limit=limit)


def create(database: Database, *, organisation_id: int, actor: str, wanted: UserAttributes) -> ScimUser:
    """Create a user, or revive one that was deleted, here or by the platform: that is a reactivation.

    Somebody whom SCIM creates for the first time gets the state that the events of HR systems have left.

    Raises:
        UniquenessError: a user that is not deleted has this name or external id.
        ConflictError: `active` could not be set.
    """
    call = uuid4()

    def work(connection: Connection) -> ScimUser:
        jobs.lock_settings(connection, organisation_id)
        found = scim_users.find_alike(
            connection, organisation_id, external_id=wanted.external_id, user_name=wanted.user_name
        )
        if found and found[0].last_call == call:  # the answer to the first commit was lost
            return found[0]
        if any(user.deleted_at is None for user in found):
            raise UniquenessError("a user with this userName or externalId exists")
        if found:
            return _revive(connection, organisation_id, actor, call, found[0], wanted)
        return _create(connection, organisation_id, actor, call, wanted)

    wait = partial(_wait_for_alike, organisation_id=organisation_id, wanted=wanted)
    user = _translate_duplicates(lambda: database.run(work, patient=True, wait=wait))
    log.info("user.created", learner_id=user.id, organisation_id=organisation_id)
    return user


def change(
    database: Database,
    *,
    organisation_id: int,
    actor: str,
    learner_id: int,
    wanted: Callable[[UserAttributes], UserAttributes],
    is_expected: Callable[[str], bool] = lambda _: True,
) -> ScimUser:
    """Write what `wanted` makes of a locked user's attributes: all of it, or nothing.

    `is_expected`: whether a version is one that the client expects (If-Match).

    Raises:
        NotFoundError: the organisation has no such user, or the user was deleted.
        PreconditionError: the user has changed since the client read it.
        UniquenessError: another user has the name.
        MutabilityError: the external id would change.
        ConflictError: `active` could not be set.
    """
    call = uuid4()

    def work(connection: Connection) -> ScimUser:
        user = _not_deleted(_lock(connection, organisation_id, learner_id))
        if user.last_call == call:  # the answer to the first commit was lost
            return user
        if not is_expected(version(user)):
            raise PreconditionError("the user has changed since you read it; read it again")
        before = attributes(user)
        after = wanted(before)
        if after == before:
            return user
        if after.external_id != before.external_id:
            raise MutabilityError("externalId: cannot be changed")
        email = user.email if after.user_name == before.user_name else after.user_name
        if not scim_users.rename(connection, organisation_id, learner_id, email=email, display_name=after.display_name):
            raise UniquenessError("userName: another user has it")
        scim_users.record_call(connection, organisation_id, learner_id, call)
        if after.active is not before.active:
            _set_active(connection, organisation_id, actor, call.hex, user, active=after.active)
        jobs.audit(connection, organisation_id=organisation_id, actor=actor, action="user.change")
        return _not_deleted(scim_users.find(connection, organisation_id, learner_id))

    wait = partial(_wait, organisation_id=organisation_id, learner_id=learner_id)
    user = _translate_duplicates(lambda: database.run(work, patient=True, wait=wait))
    log.info("user.changed", learner_id=learner_id, organisation_id=organisation_id)
    return user


def delete(
    database: Database,
    *,
    organisation_id: int,
    actor: str,
    learner_id: int,
    is_expected: Callable[[str], bool] = lambda _: True,
) -> None:
    """Delete a user, which is a deactivation. The learner's row stays, inactive.

    `is_expected`: whether a version is one that the client expects (If-Match).

    Raises:
        NotFoundError: the organisation has no such user, or the user was deleted.
        PreconditionError: the user has changed since the client read it.
        ConflictError: the user could not be made inactive.
    """
    call = uuid4()

    def work(connection: Connection) -> None:
        user = _lock(connection, organisation_id, learner_id)
        if user is not None and user.last_call == call:  # the answer to the first commit was lost
            return
        user = _not_deleted(user)
        if not is_expected(version(user)):
            raise PreconditionError("the user has changed since you read it; read it again")
        scim_users.record_call(connection, organisation_id, learner_id, call, deleted=True)
        if user.active:
            _set_active(connection, organisation_id, actor, call.hex, user, active=False)
        jobs.audit(connection, organisation_id=organisation_id, actor=actor, action="user.delete")

    wait = partial(_wait, organisation_id=organisation_id, learner_id=learner_id)
    database.run(work, patient=True, wait=wait)
    log.info("user.deleted", learner_id=learner_id, organisation_id=organisation_id)


def _translate_duplicates(write: Callable[[], ScimUser]) -> ScimUser:
    """The platform inserts learners without our locks; its unique indexes refuse the second of two equal ones."""
    try:
        return write()
    except sqlalchemy.exc.IntegrityError as error:
        if isinstance(error.orig, psycopg.errors.UniqueViolation):
            raise UniquenessError("a user with this userName or externalId exists") from None
        raise


def _lock(connection: Connection, organisation_id: int, learner_id: int) -> ScimUser | None:
    """Lock settings, person and learner, in this order. The external id names the person and never changes here."""
    jobs.lock_settings(connection, organisation_id)
    known = scim_users.find(connection, organisation_id, learner_id)
    if known is None:
        return None
    person_events.lock(connection, organisation_id, known.external_id)
    return scim_users.find(connection, organisation_id, learner_id, lock=True)


def _wait(connection: Connection, organisation_id: int, learner_id: int) -> None:
    """Wait for whoever has locked the user, while the organisation's other producers go on."""
    known = scim_users.find(connection, organisation_id, learner_id)
    if known is not None:
        person_events.wait_until_free(connection, organisation_id, known.external_id)


def _wait_for_alike(connection: Connection, organisation_id: int, wanted: UserAttributes) -> None:
    """Wait for whoever has locked the user that a POST would revive."""
    for user in scim_users.find_alike(
        connection, organisation_id, external_id=wanted.external_id, user_name=wanted.user_name
    )[:1]:
        person_events.wait_until_free(connection, organisation_id, user.external_id)


def _not_deleted(user: ScimUser | None) -> ScimUser:
    if user is None or user.deleted_at is not None:
        raise NotFoundError("this organisation has no such user")
    return user


def _create(connection: Connection, organisation_id: int, actor: str, call: UUID, wanted: UserAttributes) -> ScimUser:
    _admit(connection, organisation_id, wanted.external_id)
    has_events = scim_users.has_events(connection, organisation_id, wanted.external_id)
    if has_events:
        person_events.lock(connection, organisation_id, wanted.external_id)
    came_back = scim_users.was_known(connection, organisation_id, wanted.external_id)
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
    scim_users.record_call(connection, organisation_id, learner_id, call, created=True)
    if has_events and wanted.active:
        person_events.sync_learner(connection, organisation_id, wanted.external_id, was_active=True)
    user = _not_deleted(scim_users.find(connection, organisation_id, learner_id))
    if user.active is not wanted.active and (came_back or not has_events):
        _set_active(connection, organisation_id, actor, call.hex, user, active=wanted.active)
    jobs.audit(connection, organisation_id=organisation_id, actor=actor, action="user.create")
    return _not_deleted(scim_users.find(connection, organisation_id, learner_id))


def _revive(
    connection: Connection, organisation_id: int, actor: str, call: UUID, deleted: ScimUser, wanted: UserAttributes
) -> ScimUser:
    _admit(connection, organisation_id, deleted.external_id)
    person_events.lock(connection, organisation_id, deleted.external_id)
    user = scim_users.find(connection, organisation_id, deleted.id, lock=True)
    if user is None:
        raise UniquenessError("a user with this userName or externalId has just been removed; try again")
    if not scim_users.rename(
        connection, organisation_id, user.id, email=wanted.user_name, display_name=wanted.display_name
    ):
        raise UniquenessError("userName: another user has it")
    scim_users.record_call(connection, organisation_id, user.id, call, created=True)
    if wanted.active is not user.active:  # an HR system may have reactivated the person after the DELETE
        _set_active(connection, organisation_id, actor, call.hex, user, active=wanted.active)
    jobs.audit(connection, organisation_id=organisation_id, actor=actor, action="user.create")
    return _not_deleted(scim_users.find(connection, organisation_id, user.id))


def _admit(connection: Connection, organisation_id: int, external_id: str) -> None:
    """A directory that creates somebody, or makes them active, knows them again, although they were erased before."""
    sealed_key = erasures.read_key(connection, organisation_id)
    erased.lift(connection, organisation_id, sealed_key, external_id)


def _set_active(
    connection: Connection, organisation_id: int, actor: str, key: str, user: ScimUser, *, active: bool
) -> None:
    """Record the event that a change of `active` stands for; its time is the database's.

    The learner is read again after it: a success that has changed nothing, or somebody else, would be believed.
    """
    if active:
        _admit(connection, organisation_id, user.external_id)
    event = PersonEvent(type="user.reactivated" if active else "user.deactivated", external_id=user.external_id)
    receipt = events.record_in(connection, Requester(organisation_id, actor, "scim", key), SOURCE, event)
    if receipt.status == ReceiptStatus.IGNORED:
        raise ConflictError("active: another source has sent a newer event; try again in a few minutes")
    changed = scim_users.find(connection, organisation_id, user.id)
    if changed is None or changed.active is not active:
        raise ConflictError("active: the platform did not take the change, so nothing was changed; read the user again")
