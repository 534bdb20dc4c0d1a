"""Webhooks that follow the feed: CloudEvents in batches, in order, at least once, paused when nobody takes them."""

from typing import Any

import pytest
from standardwebhooks import Webhook

from tests.support.commandline import done, withdrawals
from tests.webhooks.conftest import Receiver
from tests.world import World, decide_due
from worker.config import Settings
from worker.database import Database
from worker.errors import ConflictError
from worker.ledger import feed, webhook_batches, webhook_endpoints
from worker.ledger.webhook_endpoints import EndpointRecord
from worker.webhooks import batches, endpoints, safe_post
from worker.webhooks.deliveries import Deliverer


def follow(db: Database, world: World, local: Settings, url: str, *events: str) -> endpoints.CreatedEndpoint:
    wanted = events or ("enrolment.withdrawn", "enrolment.reinstated", "enrolment.kept")
    organisation_id = world.organisation_id
    return endpoints.create(db, local, organisation_id=organisation_id, url=url, events=wanted, actor="test:owner")


def withdraw(db: Database, world: World, local: Settings, count: int) -> list[int]:
    ids = world.enrolments(count)
    world.submit(db, ids, chunk_size=3)
    decide_due(db, local)
    db.run(feed.number)
    return ids


def shown(db: Database, world: World, endpoint_id: int) -> EndpointRecord:
    with db.begin() as connection:
        found = webhook_endpoints.find_endpoint(connection, world.organisation_id, endpoint_id)
    assert found is not None
    return found


def subjects(receiver: Receiver) -> list[list[int]]:
    return [[int(event["subject"]) for event in batch] for batch in receiver.events]


def fails_until_paused(db: Database, world: World, local: Settings) -> None:
    """As if it had failed for longer than anybody waits, and then once more."""
    Deliverer(db, local).run()
    world.run("UPDATE withdrawals.endpoints SET failing_since = now() - interval '4 days', rest_until = '-infinity'")
    Deliverer(db, local).run()


def test_what_is_decided_is_sent_as_signed_cloudevents_in_batches(
    db: Database, world: World, local: Settings, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "MOST_EVENTS", 4)
    withdraw(db, world, local, 1)  # before anybody followed
    made = follow(db, world, local, receiver.url)
    other = world.organisation("Other")
    endpoints.create(
        db, local, organisation_id=other, url=receiver.url, events=["enrolment.withdrawn"], actor="test:owner"
    )
    ids = withdraw(db, world, local, 10)
    assert Deliverer(db, local).run() == 3
    assert subjects(receiver) == [ids[:4], ids[4:8], ids[8:]]
    for headers, body in receiver.got:
        assert headers["content-type"] == "application/cloudevents-batch+json"
        Webhook(made.secret).verify(body, headers)
    first: dict[str, Any] = receiver.events[0][0]
    job = world.one("SELECT max(id) FROM withdrawals.jobs")
    assert first == {
        "specversion": "1.0", "id": f"withdrawn-{job}-{ids[0]}", "source": f"/organisations/{world.organisation_id}",
        "type": "enrolment.withdrawn", "subject": str(ids[0]), "time": first["time"],
        "datacontenttype": "application/json", "sequence": first["sequence"], "cursor": first["cursor"],
        "data": {"enrolment_id": ids[0], "status": "withdrawn", "prior_status": "in_progress", "job_id": job,
                 "reason": "not_required", "source": "bulk", "dead_letter_id": None},
    }  # fmt: skip
    assert Deliverer(db, local).run() == 0


def test_a_batch_that_failed_is_sent_again_before_what_follows(
    db: Database, world: World, local: Settings, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "MOST_EVENTS", 4)
    made = follow(db, world, local, receiver.url)
    ids = withdraw(db, world, local, 6)
    receiver.status = 500
    assert Deliverer(db, local).run() == 1, "after one failure the endpoint rests"
    receiver.status = 200
    world.run("UPDATE withdrawals.endpoints SET rest_until = '-infinity'")
    # A worker that dies after it has sent: its lease runs out, and another sends the same batch.
    monkeypatch.setattr(webhook_batches, "advance", lambda *_, **__: False)
    batches.send_next(db, local)
    monkeypatch.undo()
    monkeypatch.setattr(batches, "MOST_EVENTS", 4)
    assert Deliverer(db, local).run() == 0, "its lease still runs"
    world.run("UPDATE withdrawals.endpoints SET feed_lease_until = now() - interval '1 s'")
    assert Deliverer(db, local).run() == 2
    assert subjects(receiver) == [ids[:4], ids[:4], ids[:4], ids[4:]]
    names = [headers["webhook-id"] for headers, _ in receiver.got]
    assert names[0] == names[1] == names[2] != names[3]
    assert shown(db, world, made.endpoint.id).failures == 0


def test_a_webhook_that_catches_up_does_not_keep_the_others_waiting(
    db: Database, world: World, local: Settings, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is far behind, or of an organisation with few events, has the lower place for hours."""
    monkeypatch.setattr(batches, "MOST_EVENTS", 1)
    follow(db, world, local, f"{receiver.url}&far-behind")
    withdraw(db, world, local, 4)
    follow(db, world, local, f"{receiver.url}&up-to-date")
    withdraw(db, world, local, 4)
    sent: list[str] = []

    def post(url: str, *_: Any, **__: Any) -> safe_post.Answer:
        sent.append(url.partition("&")[2])
        return safe_post.Answer(status=204)

    monkeypatch.setattr(safe_post, "post", post)
    for _ in range(4):
        assert batches.send_next(db, local)
    assert sent == ["far-behind", "up-to-date"] * 2


def test_who_fails_for_days_is_paused_and_goes_on_from_a_place(
    db: Database, world: World, local: Settings, receiver: Receiver
) -> None:
    made = follow(db, world, local, receiver.url, "enrolment.withdrawn")
    ids = withdraw(db, world, local, 3)
    receiver.status = 500
    fails_until_paused(db, world, local)
    paused = shown(db, world, made.endpoint.id)
    assert paused.paused_because == "it has failed for 3 days, last with HTTP 500"
    receiver.status = 200
    world.run("UPDATE withdrawals.endpoints SET rest_until = '-infinity'")
    assert Deliverer(db, local).run() == 0
    assert "paused: it has failed for 3 days" in withdrawals("webhooks", "list").out

    done("webhooks", "resume", made.endpoint.id)
    assert Deliverer(db, local).run() == 1
    assert subjects(receiver)[-1] == ids
    place = receiver.events[-1][0]["cursor"]  # a replay of what follows the first
    done("webhooks", "resume", made.endpoint.id, "--after", place)
    assert Deliverer(db, local).run() == 1
    assert subjects(receiver)[-1] == ids[1:]
    assert [row.action for row in world.run("SELECT action FROM withdrawals.audit WHERE action ~ 'webhook' ORDER BY id")
            ] == ["webhook.create", "webhook.resume", "webhook.resume"]  # fmt: skip


def test_who_was_away_longer_than_events_are_kept_is_paused_and_told(
    db: Database, world: World, local: Settings, receiver: Receiver
) -> None:
    made = follow(db, world, local, receiver.url)
    withdraw(db, world, local, 1)
    withdraw(db, world, local, 1)
    world.run("DELETE FROM withdrawals.feed WHERE position = 1")
    assert Deliverer(db, local).run() == 1
    paused = shown(db, world, made.endpoint.id)
    assert paused.paused_because is not None
    assert paused.paused_because.startswith("after: what follows this place was deleted.")
    assert receiver.got == []
    batches.resume(
        db, organisation_id=world.organisation_id, endpoint_id=made.endpoint.id, after="latest", actor="test:ada"
    )
    ids = withdraw(db, world, local, 2)
    Deliverer(db, local).run()
    assert subjects(receiver) == [ids]
    deaf = follow(db, world, local, receiver.url, "job.held")
    with pytest.raises(ConflictError, match="wants no events of enrolments"):
        batches.resume(
            db, organisation_id=world.organisation_id, endpoint_id=deaf.endpoint.id, after=None, actor="test:ada"
        )
