"""The feed over HTTP: what was withdrawn, reinstated and kept, for systems that follow it."""

from typing import Annotated

from fastapi import APIRouter, Query

from schemas.feed import FeedEventType, FeedPage
from worker.ledger import feed
from worker.web.auth import Viewer
from worker.web.context import Context
from worker.web.problems import describes

router = APIRouter(prefix="/v1/events", tags=["events"], responses=describes())


@router.get("", responses=describes("cursor_gone"))
def list_events(
    context: Context,
    who: Viewer,
    after: Annotated[
        str | None,
        Query(
            max_length=60,
            description="`next_cursor` of the page before, or the `cursor` of an event. `latest`: the end of the feed. "
            "Leave it out to start with the oldest event that is kept.",
        ),
    ] = None,
    type: Annotated[  # noqa: A002 - the attribute's name in CloudEvents
        list[FeedEventType] | None, Query(description="Only events of this type. Repeat it for several.")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=1000, description="Maximum number of events that are read.")] = 1000,
) -> FeedPage:
    """What was withdrawn, reinstated and kept, in order, as CloudEvents 1.0; `next_cursor` is always there.

    No event is left out, whatever commits at the same time. The events of one enrolment come in the order in which
    they happened. With `type` a page may have no items although there is `more`.
    """
    with context.database.begin() as connection:
        if after == feed.LATEST:
            return FeedPage(items=[], next_cursor=str(feed.find_end(connection, who.organisation_id)), more=False)
        place = feed.Place.parse(after) if after is not None else None
        page = feed.read(connection, who.organisation_id, place, limit=limit, types=type or ())
    return FeedPage(items=page.events, next_cursor=str(page.place), more=page.more)
