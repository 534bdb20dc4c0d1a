"""Where notifications go: added with the address encrypted, shown without its secrets, removed."""

import json
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import structlog
from sqlalchemy import Connection

from schemas.notifications import NotificationRequest
from worker.access.sealing import Seal
from worker.config import Settings
from worker.database import Database
from worker.errors import ConflictError, InvalidInputError, NotFoundError
from worker.ledger import jobs, notification_targets
from worker.ledger.notification_targets import TargetRecord
from worker.notifications import addresses, transport
from worker.texts import text

log = structlog.get_logger(__name__)

URL, EMAIL = "url:", "mail:"
"""What a sealed address begins with."""


def add(
    database: Database, settings: Settings, *, organisation_id: int, wanted: NotificationRequest, actor: str
) -> TargetRecord:
    """Tell an address of these kinds from now on. What happened before is not told.

    Raises:
        InvalidInputError: the address cannot be used.
        NotFoundError: this organisation has no such member.
        ConflictError: the member's own address is told already, or no mail server is set for an e-mail address.
        SettingsError: no key is set to encrypt the address with.
    """
    address, shown = _read_address(settings, wanted)
    sealed = None if address is None else notification_seal(settings).seal(address.encode())

    def insert(connection: Connection) -> TargetRecord:
        known = notification_targets.find_by_address(connection, organisation_id, sealed)
        if known is not None:  # the answer to the first commit was lost
            return known
        _check_member(connection, organisation_id, wanted, alone=address is None)
        now = jobs.database_now(connection)
        zone = jobs.timezone(connection, organisation_id)
        made = notification_targets.insert_target(
            connection,
            organisation_id,
            member_id=wanted.member_id,
            kinds=[str(kind) for kind in dict.fromkeys(wanted.kinds)],
            address=sealed,
            shown=shown,
            digest_hour=wanted.digest_hour,
            created_by=actor,
            **({} if wanted.digest_hour is None else {"next_at": next_digest(now, wanted.digest_hour, zone)}),
        )
        _audit(connection, made, actor, "add")
        return made

    made = database.run(insert)
    log.info("notification.added", target_id=made.id, organisation_id=organisation_id)
    return made


def remove(database: Database, *, organisation_id: int, target_id: int, actor: str) -> TargetRecord:
    """Tell a target nothing more. A second call changes nothing.

    Raises:
        NotFoundError: this organisation has no such target.
    """

    def work(connection: Connection) -> TargetRecord:
        before = notification_targets.find_target(connection, organisation_id, target_id)
        after = notification_targets.remove_target(connection, organisation_id, target_id, actor=actor)
        if before is None or after is None:
            raise NotFoundError(text("there is no notification {target_id} in this organisation", target_id=target_id))
        if before.removed_at is None:
            _audit(connection, after, actor, "remove")
        return after

    removed = database.run(work)
    log.info("notification.removed", target_id=target_id, organisation_id=organisation_id)
    return removed


def _audit(connection: Connection, target: TargetRecord, actor: str, act: str) -> None:
    jobs.audit(
        connection,
        organisation_id=target.organisation_id,
        actor=actor,
        action=f"notification.{act}",
        detail=json.dumps({"id": target.id}),
    )


def notification_seal(settings: Settings) -> Seal:
    """What encrypts the addresses at rest."""
    return Seal(settings, "notification-address")


def next_digest(now: datetime, hour: int, zone: str) -> datetime:
    """When it is this hour next in a time zone; UTC where the platform's zone is unknown."""
    try:
        known = ZoneInfo(zone)
    except (ValueError, ZoneInfoNotFoundError):
        known = ZoneInfo("UTC")
    today = now.astimezone(known).date()
    found = datetime.combine(today, time(hour), known).astimezone(UTC)
    if found <= now:
        found = datetime.combine(today + timedelta(days=1), time(hour), known).astimezone(UTC)
    return found


def _read_address(settings: Settings, wanted: NotificationRequest) -> tuple[str | None, str]:
    """What is to be sealed, and what is shown of it. None: the member's e-mail address."""
    if wanted.url is not None:
        seen = transport.look_at(addresses.check_url(wanted.url, schemas=settings.notification_services))
        if seen.receivers != 1:  # else an attempt could arrive in part, and its repetition twice
            raise InvalidInputError(
                text("url: must have one receiver, and has {receivers}. Add one for each.", receivers=seen.receivers)
            )
        return URL + wanted.url, seen.shown
    if settings.mail_url is None:
        raise ConflictError(
            text("no mail server is set, so nothing can be sent to an e-mail address: WITHDRAWALS_MAIL_URL")
        )
    if wanted.to is None:
        return None, f"mail to member {wanted.member_id}"
    email = addresses.check_email(wanted.to)
    return EMAIL + email, f"mail to {email}"


def _check_member(connection: Connection, organisation_id: int, wanted: NotificationRequest, *, alone: bool) -> None:
    if wanted.member_id is None:
        return
    email = notification_targets.find_email(connection, organisation_id, wanted.member_id)
    if email is None:
        raise NotFoundError(
            text("member_id: there is no member {member_id} with an e-mail address here", member_id=wanted.member_id)
        )
    if alone:
        known = notification_targets.find_of_member(connection, organisation_id, wanted.member_id)
        if known is not None:
            raise ConflictError(
                text("notification {target_id} goes to this member's e-mail address already", target_id=known.id)
            )
