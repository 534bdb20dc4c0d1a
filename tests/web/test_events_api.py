"""The feed over HTTP, and the client that follows it."""

from collections.abc import Callable
from itertools import islice
from typing import Any

import httpx2
import pytest
from starlette.testclient import TestClient

from schemas.client import Client, GoneError
from tests.world import World, decide_due
from worker.config import Settings
from worker.database import Database
from worker.ledger import feed

Bearer = Callable[..., dict[str, str]]


def test_a_follower_waits_for_events_and_for_a_service_that_is_away(
    client: TestClient,
    bearer: Bearer,
    db: Database,
    world: World,
    environment: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    network, pauses = client._transport, []

    class Flaky(httpx2.BaseTransport):
        away = False

        def handle_request(self, request: httpx2.Request) -> httpx2.Response:
            if self.away:
                raise httpx2.ConnectError("away", request=request)
            return network.handle_request(request)

    flaky = Flaky()

    def pause(seconds: float) -> None:
        """What happens while the follower sleeps: the service goes away, comes back, and withdraws again."""
        pauses.append(seconds)
        flaky.away = len(pauses) == 2
        if len(pauses) == 3:
            withdraw(1)

    def withdraw(count: int) -> list[int]:
        ids.extend(world.enrolments(count))
        world.submit(db, ids[-count:])
        decide_due(db, environment)
        db.run(feed.number)
        return ids

    ids: list[int] = []
    monkeypatch.setattr("schemas.client.time.sleep", pause)
    token = bearer("viewer")["Authorization"].removeprefix("Bearer ")
    with Client("http://testserver", token, transport=flaky, patience=0) as following:
        start = following.feed_end()
        withdraw(3)
        found = list(islice(following.events(after=start, limit=2), 4))
        assert [event.data.enrolment_id for event in found] == ids
        assert len(pauses) >= 3
        with pytest.raises(GoneError) as gone:
            next(following.events(after="9.0.1"))
        assert gone.value.problem.type.endswith(":cursor_gone")


def test_a_reader_sees_its_own_organisation_and_asks_with_a_cursor(
    client: TestClient, bearer: Bearer, db: Database, world: World, environment: Settings
) -> None:
    ids = world.enrolments(2)
    world.submit(db, ids)
    decide_due(db, environment)
    db.run(feed.number)

    def ask(headers: dict[str, str], **query: Any) -> Any:
        return client.get("/v1/events", headers=headers, params=query)

    mine, theirs = bearer("viewer"), bearer("viewer", organisation_id=world.organisation("Other"))
    assert [event["subject"] for event in ask(mine).json()["items"]] == [str(one) for one in ids]
    assert ask(theirs).json() == {"items": [], "next_cursor": "0.0.0", "more": False}
    assert ask(mine, type="enrolment.kept").json()["items"] == []
    for wrong in ("1.2", "a.b.c", "-1.0.0", "9" * 30):
        assert ask(mine, after=wrong).status_code == 422
    assert ask(bearer("producer")).status_code == 403
