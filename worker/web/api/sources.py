"""HR sources over HTTP: `/v1/sources`."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Response

from schemas import answers
from schemas.rosters import HeardSource, SilenceLimit
from schemas.sources import ApiAccess, NewSource, SecretRotation, Source, SourcePolicy, SourceRequest
from worker.people import heard, hr_sources, source_events
from worker.web.auth import Operator, Owner, Viewer
from worker.web.context import Context, RowId
from worker.web.problems import describes

router = APIRouter(prefix="/v1/sources", tags=["HR sources"], responses=describes())


@router.get("")
def list_sources(context: Context, who: Viewer) -> answers.Page[Source]:
    """Every HR source, disabled ones included, newest first, without secrets."""
    found = hr_sources.list_sources(context.database, who.organisation_id)
    return answers.Page(items=[hr_sources.show(one) for one in found], next_cursor=None)


@router.post("", status_code=201, responses=describes(409))
def create_source(context: Context, who: Owner, request: SourceRequest, response: Response) -> NewSource:
    """Let an HR system send events. The secret is shown only once."""
    made = hr_sources.create(
        context.database,
        context.settings,
        organisation_id=who.organisation_id,
        actor=who.actor,
        **request.model_dump(),
    )
    return _with_secret(made, response)


@router.get("/heard")
def list_heard(context: Context, who: Viewer) -> answers.Page[HeardSource]:
    """HR systems, the SCIM directory and the rosters, each with the time at which it was last heard."""
    found = heard.list_heard(context.database, organisation_id=who.organisation_id)
    return answers.Page(items=found, next_cursor=None)


@router.put("/{source}/silence", responses=describes(404))
def set_silence_limit(
    context: Context, who: Owner, source: Annotated[str, Path(max_length=63)], body: SilenceLimit
) -> HeardSource:
    """Say after how long without a word a source counts as silent, for the metric and the notifications."""
    return heard.set_limit(
        context.database, organisation_id=who.organisation_id, source=source, hours=body.hours, actor=who.actor
    )


@router.post("/{source_id}/rotate", responses=describes(404))
def rotate_source(
    context: Context, who: Owner, source_id: RowId, request: SecretRotation, response: Response
) -> NewSource:
    """Give a source a new secret. The one before is accepted for some hours more, so that no event is lost."""
    made = hr_sources.rotate(
        context.database,
        context.settings,
        organisation_id=who.organisation_id,
        source_id=source_id,
        actor=who.actor,
        keep_hours=request.keep_hours,
        secret=request.secret,
    )
    return _with_secret(made, response)


@router.put("/{source_id}/api", responses=describes(404))
def set_api(context: Context, who: Owner, source_id: RowId, request: ApiAccess) -> Source:
    """Give a source another key for the HR system's API, which is asked about each event."""
    changed = hr_sources.set_api(
        context.database,
        context.settings,
        organisation_id=who.organisation_id,
        source_id=source_id,
        actor=who.actor,
        api_key=request.api_key,
        api_url=request.api_url,
    )
    return hr_sources.show(changed)


@router.put("/{source_id}/policy", responses=describes(404))
def set_source_policy(context: Context, who: Owner, source_id: RowId, request: SourcePolicy) -> Source:
    """Say what the deactivations of a source do from now on. Jobs that were made already stay as they are."""
    changed = hr_sources.set_policy(
        context.database,
        organisation_id=who.organisation_id,
        source_id=source_id,
        actor=who.actor,
        **request.model_dump(),
    )
    return hr_sources.show(changed)


@router.post("/{source_id}/disable", responses=describes(404))
def disable_source(context: Context, who: Owner, source_id: RowId) -> Source:
    """Accept nothing from a source any more."""
    found = hr_sources.disable(
        context.database, organisation_id=who.organisation_id, source_id=source_id, actor=who.actor
    )
    return hr_sources.show(found)


@router.post("/{source_id}/test", responses=describes(404, 409))
def test_source(context: Context, who: Operator, source_id: RowId) -> answers.ShownReceipt:
    """Take in a test event as if the source had sent it. It is about nobody: it is stored, and ignored."""
    found = source_events.send_test(
        context.database, context.settings, organisation_id=who.organisation_id, source_id=source_id, actor=who.actor
    )
    return answers.ShownReceipt.model_validate(found)


@router.get("/{source_id}/events", responses=describes(404))
def list_source_events(
    context: Context,
    who: Viewer,
    source_id: RowId,
    limit: Annotated[int, Query(ge=1, le=100, description="Maximum number of items.")] = 20,
) -> answers.Page[answers.ShownReceipt]:
    """The receipts of a source's newest events, among the last 20,000 of the service."""
    found = source_events.list_latest(
        context.database, organisation_id=who.organisation_id, source_id=source_id, limit=limit
    )
    return answers.Page(items=[answers.ShownReceipt.model_validate(one) for one in found], next_cursor=None)


def _with_secret(made: hr_sources.NewSecret, response: Response) -> NewSource:
    response.headers["Cache-Control"] = "no-store"
    return NewSource(**hr_sources.show(made.source).model_dump(), secret=made.secret)
