"""HR sources: added, looked at, tested, given a new secret, disabled."""

import ipaddress
import json
from datetime import UTC, datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Form
from pydantic import StringConstraints
from starlette.responses import Response

from schemas.events import HrEvent
from schemas.jobs import Storable
from schemas.rosters import SilenceLimit
from schemas.sources import LONGEST_SECRET, ApiAccess, SecretRotation, SourcePolicy, SourceRequest
from worker.errors import ConflictError, InvalidInputError
from worker.ledger.hr_sources import RegisteredSource
from worker.people import heard, hr_sources, source_events
from worker.people.source_secrets import API_KEYS
from worker.public_addresses import is_public
from worker.texts import text
from worker.web.console.forms import Text, parse, parse_number
from worker.web.console.settings import history, shown_once, source_steps
from worker.web.console.settings.shown_once import SETTINGS, parse_seen
from worker.web.console.view import Looking, Operating, Owning, View
from worker.web.console.words import word
from worker.web.context import RowId

router = APIRouter(prefix=SETTINGS, include_in_schema=False)

HERE = f"{SETTINGS}/sources"
Secret = Annotated[str, StringConstraints(max_length=LONGEST_SECRET, strip_whitespace=True), Storable, Form()]
Address = Annotated[str, StringConstraints(max_length=2000, strip_whitespace=True), Storable, Form()]
POLICIES = (
    ("withdraw", text("Withdraw all that they are enrolled in")),
    ("hold", text("Ask a second person first")),
    ("ignore", text("Only note it: withdraw nothing")),
)
_OFFERED = (("withdraw", text("Withdraw all (recommended)")), *POLICIES[1:])
"""The same, as the form for a new source has them."""
KINDS = {
    "standard": text("Any other (Standard Webhooks)"),
    "okta": text("Okta, by its event hooks"),
    "bamboohr": text("BambooHR"),
    "hibob": text("HiBob"),
    "personio": text("Personio"),
    "finch": text("Finch, for other HR systems"),
    "security-events": text("A directory's security events"),
}
"""What the form for a new source calls each kind, so that somebody who does not know the term finds theirs."""
OWN_SECRETS = {
    "bamboohr": text("the private key that BambooHR shows when its webhook is added"),
    "finch": text("the secret that Finch shows when its webhook is added"),
    "hibob": text("the secret that HiBob shows when its webhook is added"),
}
"""The kinds that take no secret of this service, and what theirs is."""
_FRESH = timedelta(hours=1)
"""For how long after it was connected, or got a secret, somebody waits for the events of a source."""
_FIRST = {"kind": "", "on_deactivate": "", "grace_hours": "0"}


@router.get("/sources")
def show_all(view: Looking) -> Response:
    """Which HR systems send events, when each was last heard, and the form for a new one."""
    return _list_page(view)


@router.post("/sources")
def create(
    view: Owning,
    name: Annotated[Text, Form()] = "",
    kind: Annotated[Text, Form()] = "",
    on_deactivate: Annotated[Text, Form()] = "",
    grace_hours: Annotated[Text, Form()] = "",
    secret: Secret = "",
    api_key: Secret = "",
    api_url: Address = "",
) -> Response:
    """Let an HR system send events; the next page shows its secret, once. Role: owner."""
    typed = {"name": name, "kind": kind, "on_deactivate": on_deactivate, "grace_hours": grace_hours}
    typed["api_url"] = api_url
    try:
        if not on_deactivate:  # nobody withdraws people by not having chosen
            raise InvalidInputError(text("on_deactivate: choose what happens to their enrolments"))
        wanted = parse(
            SourceRequest,
            name=name,
            kind=kind,
            on_deactivate=on_deactivate,
            grace_hours=parse_number(grace_hours, "grace_hours") or 0,
            secret=secret or None,
            api_key=api_key or None,
            api_url=api_url or None,
        )
        made = hr_sources.create(
            view.database,
            view.settings,
            organisation_id=view.organisation_id,
            actor=view.actor,
            **wanted.model_dump(),
        )
    except (InvalidInputError, ConflictError) as refused:
        return _list_page(view, error=str(refused), status=_status(refused), typed=typed)
    return _go_with(view, made, text("Source {source} is added.", source=made.source.name), secret)


@router.post("/sources/silence")
def set_silence_limit(
    view: Owning, source: Annotated[Text, Form()] = "", hours: Annotated[Text, Form()] = ""
) -> Response:
    """Say after how long without a word a source counts as silent. Role: owner."""
    try:
        wanted = parse(SilenceLimit, hours=parse_number(hours, "hours") or None)
    except InvalidInputError as refused:
        return _list_page(view, silence_error=str(refused), status=422)
    heard.set_limit(
        view.database, organisation_id=view.organisation_id, source=source, hours=wanted.hours, actor=view.actor
    )
    said = text("Source {source} counts as silent never.", source=source)
    if wanted.hours:
        said = text(
            "Source {source} counts as silent after {hours:,} hours without a word.", source=source, hours=wanted.hours
        )
    return view.go(HERE, said)


@router.get("/sources/{source_id}")
def show(view: Looking, source_id: RowId) -> Response:
    """A source: its address, when it was last heard, its last events, and what was changed."""
    return _page(view, source_id)


@router.post("/sources/{source_id}/rotate")
def rotate(
    view: Owning,
    source_id: RowId,
    keep_hours: Annotated[Text, Form()] = "",
    secret: Secret = "",
    seen: Annotated[Text, Form()] = "",
) -> Response:
    """Give a source a new secret; the one before is accepted for some hours more. Role: owner."""
    typed = {"keep_hours": keep_hours}
    try:
        wanted = parse(SecretRotation, keep_hours=parse_number(keep_hours, "keep_hours") or 0, secret=secret or None)
        made = hr_sources.rotate(
            view.database,
            view.settings,
            organisation_id=view.organisation_id,
            source_id=source_id,
            actor=view.actor,
            keep_hours=wanted.keep_hours,
            secret=wanted.secret,
            seen=parse_seen(seen),
        )
    except (InvalidInputError, ConflictError) as refused:
        return _page(view, source_id, error=str(refused), status=_status(refused), typed=typed)
    return _go_with(view, made, text("The secret is replaced."), secret)


@router.post("/sources/{source_id}/api")
def set_api(view: Owning, source_id: RowId, api_key: Secret = "", api_url: Address = "") -> Response:
    """Give a source another key for the HR system's API. Role: owner."""
    try:
        wanted = parse(ApiAccess, api_key=api_key, api_url=api_url or None)
        hr_sources.set_api(
            view.database,
            view.settings,
            organisation_id=view.organisation_id,
            source_id=source_id,
            actor=view.actor,
            api_key=wanted.api_key,
            api_url=wanted.api_url,
        )
    except InvalidInputError as refused:
        return _page(view, source_id, error=str(refused), status=422, typed={"keep_hours": "72", "api_url": api_url})
    return view.go(f"{HERE}/{source_id}", text("The API key is replaced."))


@router.post("/sources/{source_id}/policy")
def set_policy(
    view: Owning,
    source_id: RowId,
    on_deactivate: Annotated[Text, Form()] = "",
    grace_hours: Annotated[Text, Form()] = "",
) -> Response:
    """Say what the deactivations of a source do from now on. Role: owner."""
    try:
        wanted = parse(
            SourcePolicy, on_deactivate=on_deactivate, grace_hours=parse_number(grace_hours, "grace_hours") or 0
        )
    except InvalidInputError as refused:
        typed = {"keep_hours": "72", "on_deactivate": on_deactivate, "grace_hours": grace_hours}
        return _page(view, source_id, error=str(refused), status=422, typed=typed)
    changed = hr_sources.set_policy(
        view.database,
        organisation_id=view.organisation_id,
        source_id=source_id,
        actor=view.actor,
        **wanted.model_dump(),
    )
    said = text("From now on, when a person is deactivated: {policy}.", policy=_describe_policy(changed))
    return view.go(f"{HERE}/{source_id}", said)


@router.post("/sources/{source_id}/test")
def test(view: Operating, source_id: RowId) -> Response:
    """Take in a test event as if the source had sent it; it is stored and ignored. Role: operator."""
    try:
        source_events.send_test(
            view.database,
            view.settings,
            organisation_id=view.organisation_id,
            source_id=source_id,
            actor=view.actor,
        )
    except ConflictError as refused:
        return _page(view, source_id, error=str(refused), status=409)
    return view.go(
        f"{HERE}/{source_id}",
        text("The test event was taken in: this side works. Events from the HR system appear below."),
    )


@router.post("/sources/{source_id}/disable")
def disable(view: Owning, source_id: RowId) -> Response:
    """Accept nothing from a source any more. Role: owner."""
    ended = hr_sources.disable(
        view.database, organisation_id=view.organisation_id, source_id=source_id, actor=view.actor
    )
    return view.go(HERE, text("Source {source} is disabled. What it sends from now on is refused.", source=ended.name))


def _describe_policy(source: RegisteredSource) -> str:
    policy = dict(POLICIES)[source.on_deactivate]
    if not source.grace_hours:
        return policy
    if source.grace_hours == 1:
        return text("{policy}, 1 hour later", policy=policy)
    return text("{policy}, {hours:,} hours later", policy=policy, hours=source.grace_hours)


def _go_with(view: View, made: hr_sources.NewSecret, said: str, given: str) -> Response:
    """Show a secret that was made here; one that the HR system made is known to whoever typed it."""
    path = f"{HERE}/{made.source.id}"
    return view.go(path, said) if given else shown_once.go(view, path, said, made.secret)


def _list_page(
    view: View,
    *,
    error: str = "",
    silence_error: str = "",
    status: int = 200,
    typed: dict[str, str] | None = None,
) -> Response:
    found = hr_sources.list_sources(view.database, view.organisation_id)
    return view.page(
        "settings_sources.html",
        status=status,
        tested=_list_tested(view),
        not_understood=_list_not_understood(view, found),
        found=[hr_sources.show(one) for one in found],
        heard=heard.list_heard(view.database, organisation_id=view.organisation_id),
        silence_error=silence_error,
        kinds=[(kind, KINDS.get(kind, word(kind))) for kind in hr_sources.KINDS],
        api_keys=API_KEYS,
        own_secrets=OWN_SECRETS,
        directories=source_steps.list_directories(f"{_base(view)}/scim/v2"),
        policies=_OFFERED,
        error=error,
        typed=typed or _FIRST,
        acts=history.read(view, "source"),
    )


def _page(
    view: View, source_id: int, *, error: str = "", status: int = 200, typed: dict[str, str] | None = None
) -> Response:
    found = hr_sources.find(view.database, view.organisation_id, source_id)
    source = hr_sources.show(found)
    origin = _base(view)
    address = f"{origin}{source.path}"
    events = source_events.list_latest(view.database, organisation_id=view.organisation_id, source_id=source_id)
    return shown_once.page(
        view,
        "settings_source.html",
        status=status,
        source=source,
        tested=_list_tested(view),
        not_understood=_list_not_understood(view, [found]),
        example=json.dumps(HrEvent.EXAMPLE, indent=2),
        address=address,
        origin=origin,
        steps=source_steps.steps_of(source.kind, address),
        is_fresh=datetime.now(UTC) - max(source.created_at, source.rotated_at or source.created_at) < _FRESH,
        is_near=_is_near(view.request.url.hostname or ""),
        own_secret=OWN_SECRETS.get(source.kind),
        policies=POLICIES,
        policy=_describe_policy(found),
        api_key=API_KEYS.get(source.kind),
        events=events,
        unknown=source_events.find_unknown_learners(view.database, organisation_id=view.organisation_id, events=events),
        error=error,
        typed=typed or {"keep_hours": "72"},
        acts=history.read(view, "source", lambda detail: detail.get("id") == source_id),
    )


def _base(view: View) -> str:
    return str(view.request.base_url).rstrip("/")


def _is_near(host: str) -> bool:
    """Whether only this machine or a private network finds a host, as far as its name says so."""
    try:
        return not is_public(str(ipaddress.ip_address(host)))
    except ValueError:
        return "." not in host or host.endswith((".localhost", ".local", ".internal"))


def _list_tested(view: View) -> dict[int, datetime]:
    return source_events.list_tested(view.database, organisation_id=view.organisation_id)


def _list_not_understood(view: View, found: list[RegisteredSource]) -> list[int]:
    return source_events.list_not_understood(view.database, organisation_id=view.organisation_id, sources=found)


def _status(refused: Exception) -> int:
    return 409 if isinstance(refused, ConflictError) else 422
