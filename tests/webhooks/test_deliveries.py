"""Outgoing webhooks: written in the deciding transaction, signed, sent again, never into a private network."""

import pytest
from standardwebhooks import Webhook

from tests.support.commandline import done, refused, withdrawals
from tests.webhooks.conftest import Receiver
from tests.world import World, decide_due, eventually
from worker.config import Settings
from worker.database import Database
from worker.errors import ConflictError, InvalidInputError
from worker.ledger import webhook_deliveries, webhook_endpoints
from worker.ledger.webhook_deliveries import DeliveryRecord
from worker.queue.broker import make_broker
from worker.queue.hints import WEBHOOKS_QUEUE
from worker.queue.relay import Relay
from worker.webhooks import deliveries, endpoints
from worker.webhooks.deliveries import Deliverer


def endpoint(db: Database, world: World, local: Settings, url: str, *events: str) -> endpoints.CreatedEndpoint:
    return endpoints.create(
        db,
        local,
        organisation_id=world.organisation_id,
        url=url,
        events=events or endpoints.EVENTS,
        actor="test:approver",
    )


def awake(world: World) -> None:
    """Let every endpoint's rest be over."""
    world.run("UPDATE withdrawals.endpoints SET rest_until = '-infinity'")


def test_a_help_desk_is_told_of_letters_and_of_the_job_that_opened_them(
    db: Database, world: World, local: Settings, receiver: Receiver
) -> None:
    made = endpoint(db, world, local, receiver.url)
    owned = [world.enrolment(pathway_id=world.pathway()) for _ in range(3)]
    job = world.submit(db, [*owned, world.enrolment()])
    decide_due(db, local)
    assert Deliverer(db, local).run() == 2
    opened, completed = receiver.events
    assert opened["type"] == "dead_letter.opened"
    letters = [letter.id for letter in world.letters()]
    assert opened["data"] == {"code": "pathway_owned", "count": 3, "dead_letter_ids": letters}
    assert completed["type"] == "job.completed"
    assert completed["data"]["job_id"] == job.id
    assert completed["data"]["state"] == "completed_with_exceptions"
    assert completed["data"]["outcomes"] == {"pathway_owned": 3, "withdrawn": 1}
    for headers, body in receiver.got:
        Webhook(made.secret).verify(body, headers)
    assert Deliverer(db, local).run() == 0


def test_nobody_is_told_of_another_organisation_or_of_what_they_did_not_ask_for(
    db: Database, world: World, local: Settings, receiver: Receiver
) -> None:
    endpoint(db, world, local, receiver.url, "job.held")
    endpoints.create(
        db, local, organisation_id=world.organisation("Other"), url=receiver.url, events=["job.completed"], actor="x:y"
    )
    world.submit(db, [world.enrolment()])
    decide_due(db, local)
    assert world.one("SELECT count(*) FROM withdrawals.deliveries") == 0


def test_what_is_rolled_back_is_never_told(db: Database, world: World, local: Settings, receiver: Receiver) -> None:
    endpoint(db, world, local, receiver.url)
    job = world.submit(db, [world.enrolment()])
    with db.engine.connect() as connection, connection.begin() as transaction:
        connection.exec_driver_sql(
            "UPDATE withdrawals.jobs SET state = 'held', held_because = 'policy', admitted_at = NULL"
        )
        assert connection.exec_driver_sql("SELECT count(*) FROM withdrawals.deliveries").scalar() == 1
        transaction.rollback()
    assert world.one("SELECT state FROM withdrawals.jobs WHERE id = :i", i=job.id) == "queued"
    assert world.one("SELECT count(*) FROM withdrawals.deliveries") == 0


def test_a_failure_is_sent_again_under_the_same_id_after_a_rest(
    db: Database, world: World, local: Settings, receiver: Receiver
) -> None:
    endpoint(db, world, local, receiver.url, "job.completed")
    for _ in range(2):
        world.submit(db, [world.enrolment()])
    decide_due(db, local)
    receiver.status = 500
    deliverer = Deliverer(db, local)
    assert deliverer.run() == 1, "after one failure the endpoint rests"
    assert deliverer.run() == 0
    receiver.status = 200
    awake(world)
    assert deliverer.run() == 2
    first, other, again = [headers["webhook-id"] for headers, _ in receiver.got]
    assert first == again != other, "one that is refused keeps no other waiting"
    states = world.run("SELECT state, attempts, last_status FROM withdrawals.deliveries ORDER BY id")
    assert [tuple(row) for row in states] == [("delivered", 2, 200), ("delivered", 1, 200)]


def test_one_that_never_arrives_has_failed_and_can_be_replayed(
    db: Database, world: World, local: Settings, receiver: Receiver
) -> None:
    made = endpoint(db, world, local, receiver.url, "job.completed")
    world.submit(db, [world.enrolment()])
    decide_due(db, local)
    receiver.status = 503
    for _ in range(deliveries.MOST_ATTEMPTS):
        awake(world)
        assert Deliverer(db, local).run() == 1
    (lost,) = listed(db, world, made, "failed")
    assert lost.last_status == 503
    receiver.status = 200
    deliveries.replay(db, organisation_id=world.organisation_id, delivery_id=lost.id, actor="test:operator")
    assert Deliverer(db, local).run() == 1
    assert [item.id for item in listed(db, world, made, "delivered")] == [lost.id]


def listed(db: Database, world: World, made: endpoints.CreatedEndpoint, state: str) -> list[DeliveryRecord]:
    with db.begin() as connection:
        return webhook_deliveries.list_deliveries(connection, world.organisation_id, made.endpoint.id, state=state)


def test_retry_after_is_heeded_and_gone_disables_the_endpoint(
    db: Database, world: World, local: Settings, receiver: Receiver
) -> None:
    made = endpoint(db, world, local, receiver.url, "job.completed")
    world.submit(db, [world.enrolment()])
    decide_due(db, local)
    receiver.status, receiver.headers = 429, {"Retry-After": "3600"}
    Deliverer(db, local).run()
    rest = world.one("SELECT extract(epoch FROM rest_until - now()) FROM withdrawals.endpoints")
    assert 3000 < rest <= 3600
    receiver.status, receiver.headers = 410, {}
    awake(world)
    Deliverer(db, local).run()
    with db.begin() as connection:
        (known,) = webhook_endpoints.list_endpoints(connection, world.organisation_id)
    assert known.disabled_because == "it answered 410 Gone"
    (waiting,) = listed(db, world, made, "due")
    world.run("UPDATE withdrawals.deliveries SET state = 'failed'")
    with pytest.raises(ConflictError):
        deliveries.replay(db, organisation_id=world.organisation_id, delivery_id=waiting.id, actor="test:operator")


def test_a_worker_that_dies_while_it_sends_leaves_it_to_another(
    db: Database, world: World, local: Settings, receiver: Receiver
) -> None:
    endpoint(db, world, local, receiver.url, "job.completed")
    world.submit(db, [world.enrolment()])
    decide_due(db, local)
    with db.begin() as connection:
        lost = webhook_deliveries.claim_due(connection, lease=deliveries._LEASE)
    assert lost is not None
    assert Deliverer(db, local).run() == 0
    world.run("UPDATE withdrawals.deliveries SET lease_until = now() - interval '1 second'")
    assert Deliverer(db, local).run() == 1
    with db.begin() as connection:  # the one thought dead comes back and changes nothing
        webhook_deliveries.record_failure(
            connection, lost, status=500, error=None, rest=deliveries._LEASE, most_attempts=1
        )
    assert world.one("SELECT state FROM withdrawals.deliveries") == "delivered"
    assert len(receiver.got) == 1


def test_the_relay_hints_at_what_is_to_be_told(db: Database, world: World, local: Settings, receiver: Receiver) -> None:
    endpoint(db, world, local, receiver.url, "job.completed")
    broker = make_broker(local.broker_url.get_secret_value())
    relay = Relay(db, broker, local)
    world.submit(db, [world.enrolment()])
    relay.publish()
    assert broker.client.llen(f"withdrawals:{WEBHOOKS_QUEUE}") == 0
    decide_due(db, local)
    relay.publish()
    relay.publish()
    assert broker.client.llen(f"withdrawals:{WEBHOOKS_QUEUE}") == 1


@pytest.mark.parametrize(
    "url",
    [
        "http://help.example/", "ftp://help.example/", "https://", "https://127.0.0.1/", "https://[::1]:8000/",
        "https://10.0.0.8/", "https://169.254.169.254/latest", "https://[::ffff:10.0.0.1]/", "https://user:p@help.example/",
        "https://help.example:99999/", "https://help .example/", "https://[64:ff9b::a00:1]/", "nonsense",
    ],
)  # fmt: skip
def test_an_address_inside_is_refused(db: Database, world: World, environment: Settings, url: str) -> None:
    with pytest.raises(InvalidInputError, match="url"):
        endpoint(db, world, environment, url)


def test_a_redirect_is_not_followed(db: Database, world: World, local: Settings, receiver: Receiver) -> None:
    made = endpoint(db, world, local, receiver.url)
    receiver.status, receiver.headers = 302, {"Location": receiver.url}
    sent = deliveries.send_test(db, local, organisation_id=world.organisation_id, endpoint_id=made.endpoint.id)
    assert (sent.state, sent.last_status) == ("due", 302)
    assert len(receiver.got) == 1


def test_the_command_line_makes_tests_and_replays(
    world: World, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "private" in refused("webhooks", "create", "--url", "https://127.0.0.1/", "--event", "job.held")
    monkeypatch.setenv("WITHDRAWALS_WEBHOOKS_ALLOW_PRIVATE", "true")
    assert "events" in refused("webhooks", "create", "--url", receiver.url, "--event", "job.began")
    made = done("webhooks", "create", "--url", receiver.url, "--event", "job.held", "--event", "job.completed")
    assert made["secret"].startswith("whsec_")
    sent = done("webhooks", "test", made["id"])
    assert sent["state"] == "delivered"
    Webhook(made["secret"]).verify(receiver.got[0][1], receiver.got[0][0])
    assert done("webhooks", "replay", sent["id"])["state"] == "due"
    assert [item["id"] for item in done("webhooks", "deliveries", made["id"])["items"]] == [sent["id"]]
    assert "secret" not in done("webhooks", "list")["items"][0]
    done("webhooks", "disable", made["id"])
    assert withdrawals("webhooks", "test", made["id"]).code == 1
    assert withdrawals("webhooks", "list").code == 0


@pytest.mark.long
def test_a_worker_sends_it_by_its_actor(
    db: Database, world: World, local: Settings, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Small: `test_the_relay_hints_at_what_is_to_be_told`."""
    from ops.local.supervisor import Supervisor
    from tests.support.processes import RELAY, WORKER

    monkeypatch.setenv("WITHDRAWALS_WEBHOOKS_ALLOW_PRIVATE", "true")
    endpoint(db, world, local, receiver.url, "job.completed")
    with Supervisor({"relay": RELAY, "worker": WORKER}):
        job = world.submit(db, [world.enrolment()])
        eventually(lambda: receiver.events, what="the receiver is told")
    assert receiver.events[0]["data"]["job_id"] == job.id
