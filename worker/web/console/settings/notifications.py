"""Notifications: whom people are told by mail or chat; added, tested, removed; messages that failed tried again."""

from typing import Annotated

from fastapi import APIRouter, Form
from pydantic import StringConstraints
from starlette.responses import Response

from schemas.jobs import Storable
from schemas.notifications import NOTICE_KINDS, NotificationRequest
from worker.errors import ConflictError, InvalidInputError, NotFoundError
from worker.ledger import members, notification_messages, notification_targets
from worker.notifications import sender, targets
from worker.texts import plainly, text
from worker.web.console.forms import Text, parse, parse_choice, parse_number
from worker.web.console.settings import history
from worker.web.console.settings.shown_once import SETTINGS
from worker.web.console.view import Looking, Operating, Owning, View
from worker.web.context import RowId

router = APIRouter(prefix=SETTINGS, include_in_schema=False)

HERE = f"{SETTINGS}/notifications"
ROWS = 25
"""Messages on the page, and failed ones."""
Url = Annotated[str, StringConstraints(max_length=2000, strip_whitespace=True), Storable, Form()]


@router.get("/notifications")
def show(view: Looking) -> Response:
    """Who is told what, whether it arrived, and the form for a new address."""
    return _page(view)


@router.post("/notifications")
def add(
    view: Owning,
    to: Annotated[Text, Form()] = "",
    url: Url = "",
    member: Annotated[Text, Form()] = "",
    kinds: Annotated[list[Text] | None, Form(max_length=50)] = None,
    digest_hour: Annotated[Text, Form()] = "",
) -> Response:
    """Tell an address of what needs people from now on. Role: owner."""
    typed = {"to": to, "member": member, "digest_hour": digest_hour}
    try:
        if not kinds:
            raise InvalidInputError(text("kinds: tick at least one"))
        wanted = parse(
            NotificationRequest,
            to=to or None,
            url=url or None,
            member_id=parse_choice(member, "member"),
            kinds=kinds,
            digest_hour=parse_number(digest_hour, "digest_hour"),
        )
        if wanted.url is None and view.settings.mail_url is None:
            raise ConflictError(
                text(
                    "The service has no mail server, so it cannot send to an e-mail address. Whoever runs the service "
                    "can set one."
                )
            )
        made = targets.add(
            view.database, view.settings, organisation_id=view.organisation_id, wanted=wanted, actor=view.actor
        )
    except (InvalidInputError, ConflictError, NotFoundError) as refused:
        status = 409 if isinstance(refused, ConflictError) else 422
        return _page(view, error=str(refused), status=status, typed=typed, chosen=kinds or [])
    return view.go(HERE, text("Notification {id} is added: {shown}. Test it now.", id=made.id, shown=made.shown))


@router.post("/notifications/{target_id}/test")
def test(view: Operating, target_id: RowId) -> Response:
    """Send a test message now; it takes up to 20 seconds. Role: operator."""
    sent = sender.send_test(
        view.database, view.settings, organisation_id=view.organisation_id, target_id=target_id
    )  # fmt: skip
    if sent.state == "delivered":
        return view.go(HERE, text("The test message was sent."))
    why = plainly(sent.last_error) if sent.last_error else text("it waits for a worker")
    return view.go(HERE, text("The test message was not sent: {why}.", why=why), tone="warn")


@router.post("/notifications/{target_id}/remove")
def remove(view: Owning, target_id: RowId) -> Response:
    """Send nothing more there. Role: owner."""
    found = targets.remove(view.database, organisation_id=view.organisation_id, target_id=target_id, actor=view.actor)
    return view.go(HERE, text("Notification {id} is removed. Nothing more is sent there.", id=found.id))


@router.post("/notifications/messages/{message_id}/retry")
def retry(view: Operating, message_id: RowId) -> Response:
    """Try a message again that has failed. Role: operator."""
    try:
        sender.retry(view.database, organisation_id=view.organisation_id, message_id=message_id, actor=view.actor)
    except ConflictError as refused:
        return _page(view, error=str(refused), status=409)
    return view.go(HERE, text("The message is sent again now."))


def _page(
    view: View,
    *,
    error: str = "",
    status: int = 200,
    typed: dict[str, str] | None = None,
    chosen: list[str] | None = None,
) -> Response:
    with view.database.begin() as connection:
        found = notification_targets.list_targets(connection, view.organisation_id)
        people = members.list_members(connection, view.organisation_id)
        latest = notification_messages.list_messages(connection, view.organisation_id, limit=ROWS)
        failed = notification_messages.list_messages(connection, view.organisation_id, state="failed", limit=ROWS)
    known = {one.id for one in latest}
    return view.page(
        "settings_notifications.html",
        status=status,
        found=found,
        messages=[*latest, *(one for one in failed if one.id not in known)],
        shown={one.id: one.shown for one in found},
        kinds=NOTICE_KINDS,
        members=[(one.id, f"{one.name} ({one.email})") for one in people if one.email],
        has_mail=view.settings.mail_url is not None,
        has_links=bool(view.settings.public_url),
        error=error,
        typed=typed or {},
        chosen=list(NOTICE_KINDS) if chosen is None else chosen,
        acts=history.read(view, "notification"),
    )
