"""The feed: `withdrawals events`."""

import sys
import time
from typing import Annotated

import typer

from ops.cli import common
from ops.cli.common import AsJson, Limit, Organisation
from schemas.feed import FeedEvent, FeedPage
from worker.database import Database
from worker.faults import is_passing
from worker.ledger import feed

POLL_SECONDS = 1.0
GIVE_UP_SECONDS = 300.0


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("events")(events)


def events(
    after: Annotated[
        str | None,
        typer.Option(help="Start after this place: a cursor, or latest. Default: the oldest event that is kept."),
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Wait for more until stopped with Ctrl-C.")] = False,
    limit: Limit = None,
    organisation: Organisation = None,
    json: AsJson = False,
) -> None:
    """List what was withdrawn, reinstated and kept, oldest first, as other systems read it.

    With --follow and --json: a JSON document for each event, on a line of its own.
    """
    with common.database() as db:
        organisation_id = common.organisation_id(db, organisation)
        page = _read(db, organisation_id, after, common.page_size(limit, json))
        if json and not follow:
            common.print_json(page)
            return
        _print(page, json)
        if follow:
            _follow(db, organisation_id, page, json)
        elif page.more:
            common.err.print(f"The first {len(page.items)}. For more: --after {page.next_cursor}")


def _read(db: Database, organisation_id: int, after: str | None, limit: int) -> FeedPage:
    with db.begin() as connection:
        if after == feed.LATEST:
            return FeedPage(items=[], next_cursor=str(feed.find_end(connection, organisation_id)), more=False)
        place = feed.Place.parse(after) if after is not None else None
        found = feed.read(connection, organisation_id, place, limit=limit)
    return FeedPage(items=found.events, next_cursor=str(found.place), more=found.more)


def _follow(db: Database, organisation_id: int, page: FeedPage, json: bool) -> None:
    """Read on and on; a PostgreSQL that restarts is waited for."""
    answered = time.monotonic()
    while True:
        if not page.more:
            time.sleep(POLL_SECONDS)
        try:
            page = _read(db, organisation_id, page.next_cursor, 1000)
        except Exception as error:
            if not is_passing(error) or time.monotonic() - answered > GIVE_UP_SECONDS:
                raise
            page = page.model_copy(update={"items": [], "more": False})
        else:
            answered = time.monotonic()
        _print(page, json)


def _print(page: FeedPage, json: bool) -> None:
    for event in page.items:
        sys.stdout.write((event.model_dump_json() if json else _line(event)) + "\n")
    sys.stdout.flush()


def _line(event: FeedEvent) -> str:
    about = [f"{event.time:%Y-%m-%d %H:%M:%SZ}", event.type, f"enrolment {event.subject}", f"job {event.data.job_id}"]
    return "  ".join([*about, event.data.reason or event.data.status or "", event.cursor])
