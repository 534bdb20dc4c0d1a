"""Ninth: another system keeps its own list of who was withdrawn, from the feed alone, and it equals the platform's.

It reads pages with a token while jobs run, overlap, are taken back and are decided again by support, and it dies in the
middle: what it has stored is its list and the cursor of its last event. It never sees the platform.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from starlette.testclient import TestClient

from schemas.client import Client
from schemas.feed import FeedEvent
from schemas.reinstate import ReinstateRequest
from tests.world import World, assert_balanced, eventually
from worker.access import tokens
from worker.config import Settings
from worker.database import Database
from worker.dead_letters import remedies
from worker.jobs.reinstate import reinstate
from worker.queue.broker import make_broker
from worker.records import Job
from worker.web.app import make_app

Ended = Callable[[Job], Job]


@dataclass
class OtherSystem:
    """What it has stored."""

    cursor: str | None = None
    withdrawn: set[int] = field(default_factory=set)
    kept: set[int] = field(default_factory=set)
    seen: list[str] = field(default_factory=list)

    def take(self, event: FeedEvent) -> None:
        match event.type:
            case "enrolment.withdrawn":
                self.withdrawn.add(event.data.enrolment_id)
            case "enrolment.reinstated":
                self.withdrawn.discard(event.data.enrolment_id)
            case "enrolment.kept":
                self.kept.add(event.data.enrolment_id)
        self.cursor = event.cursor
        self.seen.append(event.id)


def test_another_system_rebuilds_the_withdrawn_enrolments_from_the_feed_alone(
    service: None, db: Database, world: World, environment: Settings, ended: Ended
) -> None:
    token = tokens.create(db, organisation_id=world.organisation_id, name="crm", role="viewer", actor="test:owner")
    app = make_app(db, make_broker(environment.broker_url.get_secret_value()), environment)
    other, chance = OtherSystem(), random.Random(7)

    with TestClient(app) as http, Client("http://testserver", token.secret, transport=http._transport) as client:

        def read_a_little() -> None:
            """It dies after some events, in the middle of a page; what it read last may not be stored."""
            left = chance.randrange(1, 40)
            for event in client.events(after=other.cursor, limit=7, follow=False):
                other.take(event)
                left -= 1
                if not left:
                    return

        many = world.enrolments(60)
        owned = [world.enrolment("anna", pathway_id=world.pathway()) for _ in range(3)]
        first = world.submit(db, [*many[:40], *owned], chunk_size=9)
        second = world.submit(db, many[25:], chunk_size=5)  # overlaps with the first
        read_a_little()
        world.event(db, "deactivated", "anna")
        for job in (first, second):
            ended(job)
        read_a_little()

        undo = reinstate(db, world.requester(), first.id, ReinstateRequest(), chunk_size=6).job
        read_a_little()
        ended(undo)
        again = world.submit(db, many[:10])
        letters = [letter.id for letter in world.letters() if letter.enrolment_id in owned[:2]]
        remedies.resolve(
            db, organisation_id=world.organisation_id, letter_ids=letters[:1], remedy="override", note="yes",
            actor="test:ada",
        )  # fmt: skip
        kept = world.run("SELECT enrolment_id FROM withdrawals.dead_letters WHERE id = :i", i=letters[1])[0][0]
        remedies.resolve(
            db, organisation_id=world.organisation_id, letter_ids=letters[1:], remedy="keep", note="stays",
            actor="test:ada",
        )  # fmt: skip
        ended(again)
        eventually(lambda: not world.one("SELECT count(*) FROM withdrawals.dead_letters WHERE state = 'redriven'"))

        def platform() -> set[int]:
            return {row.id for row in world.run("SELECT id FROM lms.enrolments WHERE status = 'withdrawn'")}

        def is_equal() -> bool:
            read_a_little()
            return other.withdrawn == platform() and kept in other.kept

        eventually(is_equal, what="the other system's list equals the platform's")
        assert len(platform()) > 20
        assert len(other.seen) == len(set(other.seen)), "a cursor leads to each event once"

        anew = OtherSystem()
        for event in client.events(follow=False):
            anew.take(event)
        assert (anew.withdrawn, anew.seen) == (other.withdrawn, other.seen), "the feed is the same for everybody"
    assert_balanced(db)
