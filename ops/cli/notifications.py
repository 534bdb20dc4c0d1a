"""Notifications: who is told by mail or chat what needs people, and whether it arrived."""

import sys
from pathlib import Path
from typing import Annotated, get_args

import typer

from ops.cli import common
from ops.cli.common import As, AsJson, Cursor, Limit, Organisation
from schemas.notifications import (
    NOTICE_KINDS,
    MessageState,
    NotificationMessage,
    NotificationRequest,
    NotificationTarget,
)
from worker.config import settings
from worker.errors import InvalidInputError, unknown_value
from worker.ledger import notification_messages, notification_targets
from worker.ledger.notification_messages import MessageRecord
from worker.ledger.notification_targets import TargetRecord
from worker.notifications import sender, targets

group = typer.Typer(
    no_args_is_help=True, help="Tell people by mail or chat what needs them: add, list, test, remove, messages, retry."
)
TargetId = Annotated[
    int, typer.Argument(help="The notification's id.", callback=common.refuse_large_id("notification"))
]
_LONGEST_URL = 2000


@group.command("add")
def add(
    to: Annotated[str | None, typer.Option(help="An e-mail address; the mail goes by WITHDRAWALS_MAIL_URL.")] = None,
    url_file: Annotated[
        Path | None,
        typer.Option(help="A file with a URL of Apprise, such as slack://…; - reads it. It may have a password."),
    ] = None,
    member: Annotated[int | None, typer.Option(help="A member's id: without an address, their own e-mail.")] = None,
    kind: Annotated[
        list[str] | None, typer.Option(help=f"Repeat it for several; all by default: {', '.join(NOTICE_KINDS)}.")
    ] = None,
    digest_hour: Annotated[
        int | None, typer.Option(help="One message a day at this hour, in the organisation's time zone.")
    ] = None,
    organisation: Organisation = None,
    acting: As = None,
    json: AsJson = False,
) -> None:
    """Tell an address of what needs people from now on."""
    url = None if url_file is None else _read_url(url_file)
    wanted = common.parse(
        NotificationRequest, to=to, url=url, member_id=member, kinds=kind or None, digest_hour=digest_hour
    )
    with common.in_organisation(organisation) as (db, org):
        made = targets.add(db, settings(), organisation_id=org, wanted=wanted, actor=common.actor(acting))
    if json:
        common.print_json(_target(made))
    else:
        common.out.print(f"Notification {made.id}: {made.shown}.", markup=False)
        if not settings().public_url:
            common.err.print("Set WITHDRAWALS_PUBLIC_URL, so that messages have links that work.")


@group.command("list")
def list_notifications(organisation: Organisation = None, json: AsJson = False) -> None:
    """List where notifications go, newest first."""
    with common.in_organisation(organisation) as (db, org), db.begin() as connection:
        found = notification_targets.list_targets(connection, org)
    common.print_list(
        found,
        json,
        columns=("notification", "address", "kinds", "when", "added by", "removed"),
        row=lambda one: (one.id, one.shown, ", ".join(one.kinds), _when(one), one.created_by, one.removed_at),
        document=_target,
    )


@group.command("test")
def test(target_id: TargetId, organisation: Organisation = None, json: AsJson = False) -> None:
    """Send a test message now and show what came of it. Exit code 1: it was not taken in."""
    with common.in_organisation(organisation) as (db, org):
        sent = sender.send_test(db, settings(), organisation_id=org, target_id=target_id)
    why = f": {sent.last_error}" if sent.last_error else ""
    common.print_record(_message(sent), json, said=f"message {sent.id}: {sent.state}{why}")
    if sent.state != "delivered":
        raise typer.Exit(1)


@group.command("remove")
def remove(target_id: TargetId, organisation: Organisation = None, acting: As = None, json: AsJson = False) -> None:
    """Send nothing more there."""
    with common.in_organisation(organisation) as (db, org):
        found = targets.remove(db, organisation_id=org, target_id=target_id, actor=common.actor(acting))
    common.print_record(_target(found), json, said=f"Notification {found.id} is removed.")


@group.command("messages")
def list_messages(
    notification: Annotated[int | None, typer.Option(help="Only those to this notification.")] = None,
    state: Annotated[str | None, typer.Option(help="due, sending, delivered or failed.")] = None,
    limit: Limit = None,
    cursor: Cursor = None,
    organisation: Organisation = None,
    json: AsJson = False,
) -> None:
    """List messages that were sent, are on their way or have failed, newest first."""
    if state is not None and state not in get_args(MessageState):
        raise unknown_value("--state", state, get_args(MessageState))
    with common.in_organisation(organisation) as (db, org):
        most = common.page_size(limit, json)
        with db.begin() as connection:
            found = notification_messages.list_messages(
                connection, org, notification, state=state, before=cursor, limit=most
            )
    common.print_list(
        found,
        json,
        columns=("message", "notification", "state", "attempts", "created", "last error"),
        row=lambda one: (one.id, one.target_id, one.state, one.attempts, one.created_at, one.last_error),
        document=_message,
        most=most,
    )


@group.command("retry")
def retry(
    message_id: Annotated[int, typer.Argument(help="The message's id.", callback=common.refuse_large_id("message"))],
    organisation: Organisation = None,
    acting: As = None,
    json: AsJson = False,
) -> None:
    """Try a message again that has failed."""
    with common.in_organisation(organisation) as (db, org):
        found = sender.retry(db, organisation_id=org, message_id=message_id, actor=common.actor(acting))
    common.print_record(_message(found), json, said=f"Message {found.id} is {found.state}.")


def _read_url(path: Path) -> str:
    try:
        if str(path) == "-":
            found = sys.stdin.readline(_LONGEST_URL + 2)
        else:
            with path.open(encoding="utf-8") as file:
                found = file.readline(_LONGEST_URL + 2)
    except (OSError, UnicodeDecodeError):
        raise InvalidInputError(f"--url-file: {path} cannot be read") from None
    return found.strip()


def _when(one: TargetRecord) -> str:
    return "at once" if one.digest_hour is None else f"daily at {one.digest_hour}:00"


def _target(one: TargetRecord) -> dict[str, object]:
    return NotificationTarget.model_validate(one).model_dump(mode="json")


def _message(one: MessageRecord) -> dict[str, object]:
    return NotificationMessage.model_validate(one).model_dump(mode="json")
