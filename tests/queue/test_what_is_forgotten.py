"""What the relay deletes after a time: deliveries that arrived or failed, and minutes of the brake."""

from sqlalchemy import text

from tests.world import World
from worker.config import Settings
from worker.database import Database
from worker.ledger import brake
from worker.queue.broker import make_broker
from worker.queue.relay import Relay


def sweep(db: Database, settings: Settings) -> None:
    broker = make_broker(settings.broker_url.get_secret_value())
    Relay(db, broker, settings).sweep()
    broker.close()
    broker.client.close()


def test_deliveries_are_kept_for_the_set_days_whether_they_arrived_or_failed(
    world: World, db: Database, environment: Settings
) -> None:
    world.run(
        """WITH e AS (INSERT INTO withdrawals.endpoints (organisation_id, url, events, secret, created_by)
            VALUES (:o, 'https://desk.example', ARRAY['job.completed'], 'sealed', 'test:admin') RETURNING id)
        INSERT INTO withdrawals.deliveries (endpoint_id, organisation_id, type, data, state, created_at, delivered_at)
        SELECT e.id, :o, state || ' ' || days, '{}', state, now() - days * interval '1 day',
            CASE WHEN state = 'delivered' THEN now() - days * interval '1 day' END
        FROM e, unnest(ARRAY['due', 'delivered', 'failed']) state, unnest(ARRAY[6, 8]) days""",
        o=world.organisation_id,
    )
    kept = environment.model_copy(update={"webhook_keep_days": 7})

    def left() -> list[str]:
        sweep(db, kept)
        return [row.type for row in world.run("SELECT type FROM withdrawals.deliveries ORDER BY type")]

    assert left() == ["delivered 6", "due 6", "due 8", "failed 6"], "what is still to be sent is never deleted"
    world.run("UPDATE withdrawals.endpoints SET paused_because = 'x', paused_at = now() - interval '6 days'")
    assert "due 8" in left(), "it is sent once the webhook is resumed"
    world.run("UPDATE withdrawals.endpoints SET paused_because = 'x', paused_at = now() - interval '8 days'")
    assert left() == ["delivered 6", "due 6", "failed 6"], "nobody resumes it"


def test_minutes_of_the_brake_are_deleted_after_the_longest_window_in_batches(
    world: World, db: Database, environment: Settings
) -> None:
    """Also those of an organisation that admits nothing any more, and so never recounts."""
    world.run(
        """INSERT INTO withdrawals.brake_volume (organisation_id, minute, jobs)
        SELECT :o, date_trunc('minute', now()) - hours * interval '1 hour', hours
        FROM unnest(ARRAY[1, 720, 722, 800, 900]) hours""",
        o=world.organisation_id,
    )
    with db.begin() as connection:
        assert brake.delete_old(connection, most=2) == 2
        left = connection.scalars(text("SELECT jobs FROM withdrawals.brake_volume ORDER BY jobs")).all()
        assert left == [1, 720, 722], "the oldest go first"
    sweep(db, environment)
    assert world.run("SELECT jobs FROM withdrawals.brake_volume ORDER BY jobs") == [(1,), (720,)]
