"""Sends the messages that are due, each at least once: one that a worker dies over is sent again with the same id."""

import json
import threading
from dataclasses import dataclass
from datetime import timedelta
from urllib.parse import urlsplit

import structlog
from sqlalchemy import Connection

from worker.code_words import said
from worker.config import Settings
from worker.database import Database, notify_after_commit
from worker.errors import ConflictError, InvalidInputError, NotFoundError
from worker.ledger import jobs, notices, notification_messages, notification_targets
from worker.ledger.notification_messages import ClaimedMessage, MessageRecord
from worker.notifications import addresses, transport
from worker.notifications.kinds import KINDS
from worker.notifications.messages import LISTED, Message, write_message, write_test
from worker.notifications.scan import LIFETIME
from worker.notifications.targets import EMAIL, URL, notification_seal
from worker.notifications.transport import Reach
from worker.slow_work import SlowWork
from worker.telemetry import metrics
from worker.texts import mark, text
from worker.webhooks.signing import rest_seconds

log = structlog.get_logger(__name__)

_LEASE = timedelta(seconds=3 * transport.SECONDS)
_NEVER = threading.Event()


class Sender(SlowWork):
    """Sends the messages that are due."""

    def step(self) -> bool:
        """Send the message that is due next; whether there was one."""
        claimed = self._database.run(lambda connection: notification_messages.claim(connection, lease=_LEASE))
        if claimed is not None:
            _send(self._database, self._settings, claimed, self._stopping)
        return claimed is not None


def send_test(database: Database, settings: Settings, *, organisation_id: int, target_id: int) -> MessageRecord:
    """Send a target a test message now. The record says what came of it.

    Raises:
        NotFoundError: this organisation has no such target.
    """
    with database.begin() as connection:
        message_id = notification_messages.insert_test(connection, organisation_id, target_id, lifetime=LIFETIME)
    if message_id is None:
        raise NotFoundError(text("there is no notification {target_id} in this organisation", target_id=target_id))
    claimed = database.run(
        lambda connection: notification_messages.claim(connection, lease=_LEASE, message_id=message_id)
    )
    if claimed is not None:  # None: a worker has claimed it already
        _send(database, settings, claimed, _NEVER)
    return show(database, organisation_id=organisation_id, message_id=message_id)


def show(database: Database, *, organisation_id: int, message_id: int) -> MessageRecord:
    """One message.

    Raises:
        NotFoundError: this organisation has no such message.
    """
    with database.begin() as connection:
        found = notification_messages.find_message(connection, organisation_id, message_id)
    if found is None:
        raise NotFoundError(text("there is no message {message_id} in this organisation", message_id=message_id))
    return found


def retry(database: Database, *, organisation_id: int, message_id: int, actor: str) -> MessageRecord:
    """Try a message again that has failed.

    Raises:
        NotFoundError: this organisation has no such message.
        ConflictError: it has not failed.
    """

    def make_due(connection: Connection) -> bool:
        done = notification_messages.retry(connection, organisation_id, message_id, lifetime=LIFETIME)
        if done:
            about = json.dumps({"message": message_id})
            jobs.audit(
                connection, organisation_id=organisation_id, actor=actor, action="notification.retry", detail=about
            )
            notify_after_commit(connection)
        return done

    done = database.run(make_due)
    found = show(database, organisation_id=organisation_id, message_id=message_id)
    if not done and found.state != "due":
        raise ConflictError(
            text(
                "message {message_id} is {state}: only one that has failed is tried again",
                message_id=message_id,
                state=said(found.state),
            )
        )
    return found


def _send(database: Database, settings: Settings, claimed: ClaimedMessage, stopping: threading.Event) -> None:
    """Make one attempt. If this process dies first, the lease runs out and another sends it with the same id."""
    with database.begin() as connection:
        message = _write(connection, settings, claimed)
        way = _find_way(connection, settings, claimed)
    if claimed.is_removed:
        return _record(database, claimed, mark("the notification was removed"), final=True)
    if message is None:
        return _record(database, claimed, mark("nothing is left to tell: it was kept long enough"), final=True)
    if isinstance(way, str):
        error: str | None = way
    else:
        message_id = f"<withdrawals-{claimed.id}@{urlsplit(settings.public_url).hostname or 'withdrawals.invalid'}>"
        error = transport.send(way.url, message, message_id=message_id, reach=way.reach, stopping=stopping)
    return _record(database, claimed, error, final=claimed.up_to_notice is None)


def _record(database: Database, claimed: ClaimedMessage, error: str | None, *, final: bool) -> None:
    """`final`: another attempt would end in the same way, or nobody waits for it."""
    fields = {"message_id": claimed.id, "target_id": claimed.target_id}
    if error is None:
        database.run(lambda connection: notification_messages.record_delivered(connection, claimed))
        metrics.NOTIFICATION_ATTEMPTS.labels("delivered").inc()
        log.info("notification.delivered", **fields)
        return
    rest = timedelta(seconds=rest_seconds(claimed.attempts))
    state = database.run(
        lambda connection: notification_messages.record_failure(
            connection, claimed, error=error, rest=rest, final=final
        )
    )
    metrics.NOTIFICATION_ATTEMPTS.labels("failed").inc()
    log.warning("notification.not_delivered", **fields, error=error, state=state)


def _write(connection: Connection, settings: Settings, claimed: ClaimedMessage) -> Message | None:
    organisation = notices.find_organisation(connection, claimed.organisation_id)
    if claimed.after_notice is None or claimed.up_to_notice is None:
        return write_test(organisation, public_url=settings.public_url, target_id=claimed.target_id)
    told = notices.read_covered(
        connection,
        claimed.organisation_id,
        kinds=[kind for kind in KINDS if kind in claimed.kinds],
        after=claimed.after_notice,
        up_to=claimed.up_to_notice,
        since=claimed.target_since,
        listed=LISTED,
    )
    if not told:
        return None
    return write_message(organisation, told, public_url=settings.public_url, target_id=claimed.target_id)


@dataclass(frozen=True, slots=True)
class _Way:
    """How a message gets to its target."""

    url: str
    reach: Reach


def _find_way(connection: Connection, settings: Settings, claimed: ClaimedMessage) -> _Way | str:
    """How a message gets to its target, or why it cannot."""
    if claimed.address is None:
        email = notification_targets.find_email(connection, claimed.organisation_id, claimed.member_id or 0)
        if not email:
            return mark("the member has no e-mail address")
        try:  # the provider says it, and a list of two would be two receivers
            address = EMAIL + addresses.check_email(email)
        except InvalidInputError:
            return mark("what the provider says of the member is not one e-mail address")
    else:
        opened = notification_seal(settings).open(claimed.address)
        if opened is None:
            return mark("the address cannot be decrypted: WITHDRAWALS_SECRET_KEY has changed")
        address = opened.decode()
    if address.startswith(URL):
        return _Way(address.removeprefix(URL), Reach(settings.notification_networks.split(",")))
    if settings.mail_url is None:
        return mark("the service has no mail server")
    server = settings.mail_url.get_secret_value()
    return _Way(addresses.mail_to(server, address.removeprefix(EMAIL)), Reach(anywhere=True))
