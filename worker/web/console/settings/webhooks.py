"""Webhooks: added, looked at, tested, paused, resumed, given a new secret, disabled; deliveries sent again."""

from typing import Annotated

from fastapi import APIRouter, Form
from starlette.responses import Response

from schemas.webhooks import EndpointRequest, WebhookRotation
from worker.errors import ConflictError, GoneError, InvalidInputError, NotFoundError
from worker.ledger import feed, webhook_deliveries, webhook_endpoints
from worker.ledger.webhook_deliveries import DeliveryRecord
from worker.texts import plainly, text
from worker.web.console.forms import Text, parse, parse_number
from worker.web.console.settings import history, shown_once
from worker.web.console.settings.shown_once import SETTINGS, parse_seen
from worker.web.console.view import Looking, Operating, Owning, View
from worker.web.context import RowId
from worker.webhooks import batches, deliveries, endpoints

router = APIRouter(prefix=SETTINGS, include_in_schema=False)

HERE = f"{SETTINGS}/webhooks"
ROWS = 25
EVENTS = (
    ("job.completed", text("A job has ended")),
    ("job.held", text("A job waits for a second person")),
    ("dead_letter.opened", text("Something needs attention")),
    ("dead_letter.overdue", text("Something has needed attention for too long")),
    ("enrolment.withdrawn", text("An enrolment was withdrawn")),
    ("enrolment.reinstated", text("An enrolment was reinstated")),
    ("enrolment.kept", text("An enrolment was kept by support")),
)


@router.get("/webhooks")
def show_all(view: Looking) -> Response:
    """Where events are sent to, whether they arrive, and the form for a new address."""
    return _list_page(view)


@router.post("/webhooks")
def create(
    view: Owning,
    url: Annotated[str, Form(max_length=2000)] = "",
    events: Annotated[list[Text] | None, Form(max_length=20)] = None,
) -> Response:
    """Send events to an address from now on; the next page shows the secret, once. Role: owner."""
    chosen = events or []
    try:
        if not chosen:
            raise InvalidInputError(text("events: tick at least one"))
        wanted = parse(EndpointRequest, url=url.strip(), events=chosen)
        made = endpoints.create(
            view.database,
            view.settings,
            organisation_id=view.organisation_id,
            url=wanted.url,
            events=wanted.events,
            actor=view.actor,
        )
    except InvalidInputError as refused:
        return _list_page(view, error=str(refused), status=422, typed_url=url, chosen=chosen)
    return shown_once.go(view, f"{HERE}/{made.endpoint.id}", text("The webhook is added. Test it now."), made.secret)


@router.get("/webhooks/{webhook_id}")
def show(view: Looking, webhook_id: RowId) -> Response:
    """A webhook: its state, what was sent, and what was changed."""
    return _page(view, webhook_id)


@router.post("/webhooks/{webhook_id}/test")
def test(view: Operating, webhook_id: RowId) -> Response:
    """Send a test event now. Role: operator."""
    sent = deliveries.send_test(
        view.database, view.settings, organisation_id=view.organisation_id, endpoint_id=webhook_id
    )
    if sent.state == "delivered":
        return view.go(f"{HERE}/{webhook_id}", text("The test event arrived: {answer}.", answer=describe_answer(sent)))
    said = text("The test event did not arrive: {answer}.", answer=describe_answer(sent))
    return view.go(f"{HERE}/{webhook_id}", said, tone="warn")


@router.post("/webhooks/{webhook_id}/pause")
def pause(view: Operating, webhook_id: RowId) -> Response:
    """Send nothing until somebody resumes it; what happens meanwhile waits. Role: operator."""
    endpoints.pause(view.database, organisation_id=view.organisation_id, endpoint_id=webhook_id, actor=view.actor)
    return view.go(
        f"{HERE}/{webhook_id}", text("Paused. What happens now is sent once the webhook is resumed."), tone="warn"
    )


@router.post("/webhooks/{webhook_id}/resume")
def resume(view: Operating, webhook_id: RowId, after: Annotated[Text, Form()] = "") -> Response:
    """Go on, from where it was or from another place of the feed. Role: operator."""
    try:
        batches.resume(
            view.database,
            organisation_id=view.organisation_id,
            endpoint_id=webhook_id,
            after=after or None,
            actor=view.actor,
        )
    except (InvalidInputError, ConflictError, GoneError) as refused:
        status = 422 if isinstance(refused, InvalidInputError) else 409
        return _page(view, webhook_id, error=str(refused), status=status, typed={"after": after})
    return view.go(f"{HERE}/{webhook_id}", text("Resumed. What waits is sent now."))


@router.post("/webhooks/{webhook_id}/rotate")
def rotate(
    view: Owning, webhook_id: RowId, keep_hours: Annotated[Text, Form()] = "", seen: Annotated[Text, Form()] = ""
) -> Response:
    """Give a webhook a new secret; for some hours events bear both signatures. Role: owner."""
    try:
        wanted = parse(WebhookRotation, keep_hours=parse_number(keep_hours, "keep_hours") or 0)
        made = endpoints.rotate(
            view.database,
            view.settings,
            organisation_id=view.organisation_id,
            endpoint_id=webhook_id,
            actor=view.actor,
            keep_hours=wanted.keep_hours,
            seen=parse_seen(seen),
        )
    except (InvalidInputError, ConflictError) as refused:
        status = 409 if isinstance(refused, ConflictError) else 422
        return _page(view, webhook_id, error=str(refused), status=status, typed={"keep_hours": keep_hours})
    return shown_once.go(view, f"{HERE}/{webhook_id}", text("The secret is replaced."), made.secret)


@router.post("/webhooks/{webhook_id}/disable")
def disable(view: Owning, webhook_id: RowId) -> Response:
    """Send nothing more. Role: owner."""
    endpoints.disable(view.database, organisation_id=view.organisation_id, endpoint_id=webhook_id, actor=view.actor)
    return view.go(HERE, text("The webhook is disabled. Nothing more is sent there."))


@router.post("/webhooks/deliveries/{delivery_id}/replay")
def replay(view: Operating, delivery_id: RowId) -> Response:
    """Send a delivery again that failed or arrived. Role: operator."""
    sent = deliveries.show(view.database, organisation_id=view.organisation_id, delivery_id=delivery_id)
    try:
        deliveries.replay(
            view.database, organisation_id=view.organisation_id, delivery_id=delivery_id, actor=view.actor
        )
    except ConflictError as refused:
        return _page(view, sent.endpoint_id, error=str(refused), status=409)
    return view.go(f"{HERE}/{sent.endpoint_id}", text("The event is sent again now."))


def describe_answer(sent: DeliveryRecord) -> str:
    """What came back, in a few words."""
    if sent.last_status is not None:
        return text("the receiver answered {status}", status=sent.last_status)
    return (
        text("no answer ({error})", error=plainly(sent.last_error)) if sent.last_error else text("it was not sent yet")
    )


def _list_page(
    view: View, *, error: str = "", status: int = 200, typed_url: str = "", chosen: list[str] | None = None
) -> Response:
    with view.database.begin() as connection:
        found = webhook_endpoints.list_endpoints(connection, view.organisation_id)
    return view.page(
        "settings_webhooks.html",
        status=status,
        found=found,
        events=EVENTS,
        labels=dict(EVENTS),
        error=error,
        typed_url=typed_url,
        chosen=chosen or [],
        acts=history.read(view, "webhook"),
    )


def _page(
    view: View, webhook_id: int, *, error: str = "", status: int = 200, typed: dict[str, str] | None = None
) -> Response:
    with view.database.begin() as connection:
        found = webhook_endpoints.find_endpoint(connection, view.organisation_id, webhook_id)
        if found is None:
            raise NotFoundError(text("there is no webhook {webhook} in this organisation", webhook=webhook_id))
        sent = webhook_deliveries.list_deliveries(connection, view.organisation_id, webhook_id, limit=ROWS)
    return shown_once.page(
        view,
        "settings_webhook.html",
        status=status,
        hook=found,
        labels=dict(EVENTS),
        sent=[(one, describe_answer(one)) for one in sent],
        latest=feed.LATEST,
        error=error,
        typed=typed or {},
        acts=history.read(view, "webhook", lambda detail: detail.get("webhook") == webhook_id),
    )
