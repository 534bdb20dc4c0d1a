"""Notifications over HTTP: where they go, and the messages."""

from typing import Annotated

from fastapi import APIRouter, Query

from schemas import answers
from schemas.notifications import MessageState, NotificationMessage, NotificationRequest, NotificationTarget
from worker.ids import next_cursor, parse_cursor
from worker.ledger import notification_messages, notification_targets
from worker.notifications import sender, targets
from worker.web.auth import Operator, Owner, Viewer
from worker.web.context import Context, Cursor, Limit, RowId
from worker.web.problems import describes

router = APIRouter(prefix="/v1/notifications", tags=["notifications"], responses=describes())


@router.get("")
def list_notifications(context: Context, who: Viewer) -> answers.Page[NotificationTarget]:
    """Where notifications go, newest first, removed ones included."""
    with context.database.begin() as connection:
        found = notification_targets.list_targets(connection, who.organisation_id)
    return answers.Page(items=[NotificationTarget.model_validate(item) for item in found], next_cursor=None)


@router.post("", status_code=201, responses=describes(404, 409))
def add_notification(context: Context, who: Owner, request: NotificationRequest) -> NotificationTarget:
    """Tell an address of what needs people from now on. What happened before is not told."""
    made = targets.add(
        context.database, context.settings, organisation_id=who.organisation_id, wanted=request, actor=who.actor
    )
    return NotificationTarget.model_validate(made)


@router.get("/messages")
def list_messages(
    context: Context,
    who: Viewer,
    notification_id: Annotated[int | None, Query(ge=1, le=2**63 - 1, description="Only those to this one.")] = None,
    state: Annotated[MessageState | None, Query(description="Only messages in this state.")] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> answers.Page[NotificationMessage]:
    """Messages that were sent, are on their way or have failed, newest first."""
    with context.database.begin() as connection:
        found = notification_messages.list_messages(
            connection, who.organisation_id, notification_id, state=state, before=parse_cursor(cursor), limit=limit
        )
    shown = [NotificationMessage.model_validate(item) for item in found]
    return answers.Page(items=shown, next_cursor=next_cursor(found, limit))


@router.post("/messages/{message_id}/retry", responses=describes(404, 409))
def retry_message(context: Context, who: Operator, message_id: RowId) -> NotificationMessage:
    """Try a message again that has failed."""
    found = sender.retry(context.database, organisation_id=who.organisation_id, message_id=message_id, actor=who.actor)
    return NotificationMessage.model_validate(found)


@router.post("/{notification_id}/test", responses=describes(404))
def test_notification(context: Context, who: Operator, notification_id: RowId) -> NotificationMessage:
    """Send a test message now. The response says what came of it; it takes up to 20 seconds."""
    sent = sender.send_test(
        context.database, context.settings, organisation_id=who.organisation_id, target_id=notification_id
    )
    return NotificationMessage.model_validate(sent)


@router.post("/{notification_id}/remove", responses=describes(404))
def remove_notification(context: Context, who: Owner, notification_id: RowId) -> NotificationTarget:
    """Send nothing more there."""
    found = targets.remove(
        context.database, organisation_id=who.organisation_id, target_id=notification_id, actor=who.actor
    )
    return NotificationTarget.model_validate(found)
