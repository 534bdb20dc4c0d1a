"""The platform at work: it changes, deletes, makes anew and holds rows while the service decides them."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import Random

from sqlalchemy import Connection, text

from schemas.catalogue import Outcome
from tests.support.load import Load, Verdict
from tests.world import World
from worker.rules import ACTIVE

_TRIGGER = """
CREATE TABLE lms.changes (enrolment_id bigint, before text, after text, pathway_id bigint);
CREATE FUNCTION lms.slow() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN
    IF coalesce(current_setting('chaos.platform', true), '') <> 'on' THEN
        PERFORM pg_sleep(0.004);
        INSERT INTO lms.changes VALUES (new.id, old.status, new.status, old.pathway_id);
    END IF;
    RETURN new;
END $$;
CREATE TRIGGER slow BEFORE UPDATE OF status ON lms.enrolments FOR EACH ROW EXECUTE FUNCTION lms.slow();
"""


def watched_platform(world: World) -> None:
    """Let every withdrawal take its time, and let the platform keep count of what others do to its rows."""
    world.run(_TRIGGER)


@dataclass
class Platform:
    """Acts on enrolments at random until its block ends, and knows what each may have come to by that."""

    load: Load
    random: Random
    touched: dict[int, set[Outcome]] = field(default_factory=dict)
    """For each enrolment: what it may be decided as, because of what was done to it."""
    acts: Counter[str] = field(default_factory=Counter)
    errors: list[BaseException] = field(default_factory=list)

    @contextmanager
    def at_work(self) -> Iterator[None]:
        stopping = threading.Event()
        threads = [threading.Thread(target=self._work, args=[stopping, acts]) for acts in (_CHANGES, [_hold])]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            stopping.set()
            for thread in threads:
                thread.join()
        if self.errors:
            raise self.errors[0]

    def _work(self, stopping: threading.Event, acts: "list[Act]") -> None:
        random = Random(self.random.random())
        owner = self.load.world.owner
        try:
            while not stopping.wait(0.02):
                act = random.choice(acts)
                with owner.begin() as connection:
                    connection.execute(text("SET LOCAL chaos.platform = 'on'"))
                    connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
                    act(self, connection, random, stopping)
                self.acts[act.__name__] += 1
        except BaseException as error:
            self.errors.append(error)

    def may_be(self, enrolment_id: int, outcome: Outcome) -> None:
        self.touched.setdefault(enrolment_id, set()).add(outcome)

    def verdict(self) -> Verdict:
        """What became of everything, judged by what the platform did meanwhile."""
        load, world = self.load, self.load.world
        load.db.engine.dispose()
        found = Verdict(accepted=sum(map(len, load.jobs.values())))
        outcomes = world.run("SELECT job_id, enrolment_id, outcome FROM withdrawals.outcomes")
        decided = {(row.job_id, row.enrolment_id) for row in outcomes}
        wanted = {(job_id, enrolment_id) for job_id, ids in load.jobs.items() for enrolment_id in ids}
        found.lost = len(wanted - decided)
        found.double = len(outcomes) - len(decided) + len(decided - wanted)
        expected = load.expected()
        bad = [
            row for row in outcomes if row.outcome not in {*expected[row.enrolment_id], *self._also(row.enrolment_id)}
        ]
        found.problems += [f"job {row.job_id}: enrolment {row.enrolment_id} is {row.outcome}" for row in bad[:5]]
        withdrawn = Counter(row.enrolment_id for row in outcomes if row.outcome == "withdrawn")
        changes = world.run("SELECT * FROM lms.changes")
        seen = Counter(row.enrolment_id for row in changes)
        found.double += sum(count - 1 for count in withdrawn.values())
        unfit = [row for row in changes if row.before not in ACTIVE or row.after != "withdrawn" or row.pathway_id]
        found.wrong = len(bad) + len(unfit) + len((seen - withdrawn) + (withdrawn - seen))
        found.check_books(load.db)
        return found

    def _also(self, enrolment_id: int) -> set[Outcome]:
        return self.touched.get(enrolment_id, set())


Act = Callable[[Platform, Connection, Random, threading.Event], None]


def _end(platform: Platform, connection: Connection, random: Random, _: threading.Event) -> None:
    _change(platform, connection, random, "status = 'mastered'", Outcome.ENROLMENT_ENDED)


def _invent_status(platform: Platform, connection: Connection, random: Random, _: threading.Event) -> None:
    _change(platform, connection, random, "status = 'on_hold'", Outcome.UNKNOWN_STATUS)


def _hand_to_pathway(platform: Platform, connection: Connection, random: Random, _: threading.Event) -> None:
    _change(platform, connection, random, "pathway_id = (SELECT id FROM lms.pathways LIMIT 1)", Outcome.PATHWAY_OWNED)


def _take_from_pathway(platform: Platform, connection: Connection, random: Random, _: threading.Event) -> None:
    """Whoever decides it later withdraws it."""
    enrolment_id = random.choice(platform.load.owned)
    for outcome in (Outcome.WITHDRAWN, Outcome.ALREADY_WITHDRAWN):
        platform.may_be(enrolment_id, outcome)
    connection.execute(text("UPDATE lms.enrolments SET pathway_id = NULL WHERE id = :id"), {"id": enrolment_id})


def _delete(platform: Platform, connection: Connection, random: Random, _: threading.Event) -> None:
    enrolment_id = random.choice(platform.load.active)
    platform.may_be(enrolment_id, Outcome.NOT_FOUND)
    connection.execute(text("DELETE FROM lms.enrolments WHERE id = :id"), {"id": enrolment_id})


def _make_anew(platform: Platform, connection: Connection, random: Random, _: threading.Event) -> None:
    """Delete an active enrolment and its learner, and make both again with their ids."""
    enrolment_id = random.choice(platform.load.active)
    found = connection.execute(
        text("""DELETE FROM lms.enrolments WHERE id = :id AND status = 'in_progress' AND pathway_id IS NULL
            RETURNING organisation_id, learner_id, series_id"""),
        {"id": enrolment_id},
    ).first()
    if found is None:
        return
    platform.may_be(enrolment_id, Outcome.NOT_FOUND)  # for a decision that waited for the row
    of_learner = {"l": found.learner_id, "o": found.organisation_id}
    external_id = connection.scalar(text("DELETE FROM lms.learners WHERE id = :l RETURNING external_id"), of_learner)
    connection.execute(
        text("INSERT INTO lms.learners (id, organisation_id, external_id) VALUES (:l, :o, :e)"),
        {**of_learner, "e": external_id},
    )
    connection.execute(
        text("""INSERT INTO lms.enrolments (id, organisation_id, learner_id, series_id, status)
            VALUES (:id, :o, :l, :s, 'in_progress')"""),
        {**of_learner, "id": enrolment_id, "s": found.series_id},
    )


def _hold(platform: Platform, connection: Connection, random: Random, stopping: threading.Event) -> None:
    """Keep rows locked for far longer than the service waits for one."""
    connection.execute(
        text("SELECT 1 FROM lms.enrolments WHERE id = ANY(:ids) ORDER BY id FOR UPDATE SKIP LOCKED"),
        {"ids": random.sample(platform.load.ids, 5)},
    )
    stopping.wait(random.uniform(1, 6))


def _change(platform: Platform, connection: Connection, random: Random, change: str, outcome: Outcome) -> None:
    """Change an active enrolment, unless it is withdrawn already."""
    enrolment_id = random.choice(platform.load.active)
    platform.may_be(enrolment_id, outcome)
    connection.execute(
        text(f"UPDATE lms.enrolments SET {change} WHERE id = :id AND status = 'in_progress'"), {"id": enrolment_id}
    )


_CHANGES: list[Act] = [_end, _invent_status, _hand_to_pathway, _take_from_pathway, _delete, _make_anew]
