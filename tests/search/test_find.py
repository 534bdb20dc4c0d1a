"""Find anything: what the relay keeps, what is found by it, and what is not found any more."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import event

from schemas.jobs import JobRequest
from schemas.people import ErasureRequest
from schemas.search import FoundKind
from tests.world import World, decide_due
from worker.config import Settings
from worker.database import Database
from worker.jobs.submit import submit
from worker.people import erasure
from worker.queue.broker import make_broker
from worker.queue.relay import Relay
from worker.search import keeper
from worker.search.find import find

Sweep = Callable[..., None]


@pytest.fixture
def sweep(db: Database, environment: Settings) -> Sweep:
    """A round of the relay."""
    return Relay(db, make_broker(environment.broker_url.get_secret_value()), environment).sweep


def learner(world: World, external_id: str, name: str, email: str | None = None, organisation_id: int = 0) -> int:
    """A learner of the platform, with a name."""
    found = world.learner(external_id, organisation_id or world.organisation_id)
    world.run("UPDATE lms.learners SET display_name = :n, email = :e WHERE id = :i", n=name, e=email, i=found)
    return found


def found(db: Database, world: World, words: str) -> list[tuple[str, str]]:
    answer = find(db, organisation_id=world.organisation_id, text=words)
    return [(str(one.kind), one.learner_external_id or one.title) for one in answer.items]


def test_the_relay_keeps_up_with_what_the_platform_adds_changes_and_deletes(
    db: Database, world: World, sweep: Sweep
) -> None:
    newcomers = keeper.Keeper(db)
    maria = learner(world, "E-1", "María O\u2019Brien", "m.obrien@example.org")
    learner(world, "E-2", "Mario Brindisi")
    other = world.organisation("Other")
    learner(world, "E-1", "Maria O'Brien", organisation_id=other)
    world.run("INSERT INTO lms.series (organisation_id, code, title) VALUES (:o, 'FS', 'Brandschutz für alle')",
        o=world.organisation_id)  # fmt: skip
    newcomers.add_new()
    assert found(db, world, "o'bri mar") == [("learner", "E-1")]
    assert found(db, world, "mar bri") == [("learner", "E-2"), ("learner", "E-1")], "by beginnings of words first"
    assert found(db, world, "E-1") == [("learner", "E-1")]
    assert found(db, world, "OBRIEN@example.org")[0] == ("learner", "E-1")
    assert found(db, world, "fur brand") == [("series", "Brandschutz für alle")]
    for nothing in ("", "!?", "\0", "\udcff", "9" * 19, "job 0", "x" * 1000, "%", "_"):
        assert found(db, world, nothing) == [], nothing

    learner(world, "E-3", "Late Comer")
    learner(world, "E-2", "Mario Rossi")
    newcomers.add_new()
    assert found(db, world, "comer") == [("learner", "E-3")]
    assert found(db, world, "brindisi") == [], "nobody is found under a name that they have no more"
    assert found(db, world, "rossi") == [], "a pass finds what was changed"
    sweep()
    assert found(db, world, "rossi") == [("learner", "E-2")]

    world.run("DELETE FROM lms.learners WHERE id = :i", i=maria)
    assert found(db, world, "o'brien") == [], "not even before the pass has come by"
    world.run("UPDATE lms.learners SET organisation_id = :o WHERE external_id = 'E-3'", o=other)
    assert found(db, world, "comer") == []
    sweep()
    assert (
        world.one("SELECT count(*) FROM withdrawals.findable WHERE platform_id = :i AND kind = 'learner'", i=maria) == 0
    )
    assert find(db, organisation_id=other, text="comer").items


def test_rows_that_have_come_late_or_are_many_are_taken_up_page_by_page(
    db: Database, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An identity does not say in which order transactions commit."""
    monkeypatch.setattr(keeper, "MOST", 2)
    monkeypatch.setattr(keeper, "COMPARED", 3)
    ids = [learner(world, f"E-{number}", f"Anna Number{number}") for number in range(7)]
    keeping = keeper.Keeper(db)

    def kept() -> list[int]:
        rows = world.run("SELECT platform_id FROM withdrawals.findable WHERE kind = 'learner' ORDER BY 1")
        return [row.platform_id for row in rows]

    keeping.add_new()
    assert kept() == ids[:2], "a round takes no more than this"
    for _ in range(3):
        keeping.add_new()
    assert kept() == ids
    world.run("DELETE FROM withdrawals.findable WHERE platform_id = ANY(:i)", i=ids[1:6])
    keeping.add_new()
    assert kept() == [ids[0], ids[6]]
    for _ in range(5):
        keeping.compare()
    assert kept() == ids
    keeper.keep_all(db)
    assert kept() == ids


def test_an_erased_person_is_not_found_and_does_not_come_back(
    db: Database, owner: Database, world: World, sweep: Sweep
) -> None:
    learner(world, "E-1", "Quillon Markham")
    learner(world, "E-2", "Quillon Other")
    world.run("UPDATE lms.learners SET active = false")
    sweep()
    assert len(found(db, world, "quillon")) == 2
    request = ErasureRequest(external_id="E-1", note="request 12")
    done = erasure.erase(owner, organisation_id=world.organisation_id, request=request, actor="dpo")
    assert done.counts["findable.parts"] == 1
    assert found(db, world, "quillon") == [("learner", "E-2")]
    world.run("UPDATE lms.learners SET email = external_id || '@example.org'")
    sweep()
    assert found(db, world, "quillon") == [("learner", "E-2")], "the platform has them still"
    world.run("UPDATE lms.learners SET active = true")
    sweep()
    assert len(found(db, world, "quillon")) == 2, "they are back"


def test_a_number_finds_the_enrolment_the_job_and_the_dead_letter(
    db: Database, world: World, environment: Settings, sweep: Sweep
) -> None:
    learner(world, "E-1", "Maria O'Brien")
    owned = world.enrolment("E-1", pathway_id=world.pathway())
    job = world.submit(db, [owned, *(world.enrolment(f"other-{n}") for n in range(2))])
    series_id = world.one("SELECT series_id FROM lms.enrolments WHERE id = :i", i=owned)
    world.run("UPDATE lms.series SET title = 'Fire Safety' WHERE id = :i", i=series_id)
    about = submit(db, world.requester(), JobRequest(reason="not_required", filter={"series_id": series_id})).job
    decide_due(db, environment)
    sweep()
    letter = world.letters()[0].id

    def kinds(words: str, organisation_id: int = 0) -> set[tuple[FoundKind, int]]:
        answer = find(db, organisation_id=organisation_id or world.organisation_id, text=words)
        return {(one.kind, one.id) for one in answer.items}

    assert (FoundKind.DEAD_LETTER, letter) in kinds(f"{owned}"), "the letter about the enrolment"
    assert (FoundKind.ENROLMENT, owned) in kinds(f"#{owned}")
    assert kinds(f"job {job.id}") == {(FoundKind.JOB, job.id)}
    assert kinds(f"Letter {letter}") == kinds(f"dead letter #{letter}") == {(FoundKind.DEAD_LETTER, letter)}
    assert (FoundKind.DEAD_LETTER, letter) in kinds("brien"), "beside the person"
    assert (FoundKind.JOB, about.id) in kinds("fire saf"), "beside the Series"
    other = world.organisation("Other")
    assert kinds(f"{owned}", other) == kinds(f"job {job.id}", other) == kinds("brien", other) == set()


def test_what_the_whole_text_names_comes_first(db: Database, world: World, environment: Settings, sweep: Sweep) -> None:
    owned = world.enrolment("590248", pathway_id=world.pathway())
    world.run("UPDATE lms.learners SET email = 'ada@example.org'")
    learner(world, "x-590248-7", "Other")
    job = world.submit(db, [owned])
    decide_due(db, environment)
    learner(world, f"{job.id}", "Like the job")
    series = world.run("UPDATE lms.series SET code = 'EEE-2014J' RETURNING title")[0].title
    sweep()

    assert found(db, world, "590248")[0] == ("learner", "590248"), "and not the letter about them"
    assert found(db, world, "Ada@example.org")[0] == ("learner", "590248")
    assert found(db, world, f"{job.id}")[0] == ("learner", f"{job.id}")
    assert found(db, world, f"job {job.id}")[0][0] == "job"
    assert found(db, world, "eee-2014j")[0] == ("series", series)
    assert found(db, world, "59024")[0][0] == "dead_letter", "a part of an id names nobody"


@pytest.mark.counts
def test_a_search_and_a_page_of_the_pass_read_no_table_whole(
    db: Database, world: World, sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = world.organisation("Other")
    for organisation_id, start in ((world.organisation_id, 0), (other, 100_000)):
        world.run(
            """INSERT INTO lms.learners (organisation_id, external_id, display_name)
            SELECT :o, 'P-' || n, 'Person Number' || n FROM generate_series(:s + 1, :s + 900) n""",
            o=organisation_id,
            s=start,
        )
    learner(world, "E-1", "Maria O'Brien")
    sweep()
    world.run("ANALYZE withdrawals.findable")
    plans: list[Any] = []
    looked_at = "MATERIALIZED"

    def explain(connection: Any, cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if "findable" in statement and looked_at in statement:
            with connection.connection.cursor() as looking:
                looking.execute("EXPLAIN (ANALYZE, FORMAT JSON) " + statement, parameters)
                plans.append(looking.fetchone()[0][0]["Plan"])

    event.listen(db.engine, "before_cursor_execute", explain)
    assert found(db, world, "o'bri mar") == [("learner", "E-1")]
    nodes = [node for plan in plans for node in _nodes(plan)]
    assert {node["Index Name"] for node in nodes if "Bitmap Index" in node["Node Type"]} == {"findable_parts"}
    assert sum(node["Actual Rows"] for node in nodes if node["Node Type"] == "Bitmap Heap Scan") == 1
    assert not [node for node in nodes if node["Node Type"] == "Seq Scan"]

    plans.clear()
    looked_at = "IS DISTINCT FROM"
    monkeypatch.setattr(keeper, "COMPARED", 50)
    keeping = keeper.Keeper(db)
    keeping.compare()
    keeping.compare()
    event.remove(db.engine, "before_cursor_execute", explain)
    scans = [node for plan in plans for node in _nodes(plan) if node["Node Type"].endswith("Scan")]
    assert len(plans) == 4, "two pages of each kind"
    assert all(node["Actual Rows"] * node["Actual Loops"] <= 50 for node in scans), scans

    shared = find(db, organisation_id=world.organisation_id, text="person number")
    assert (len(shared.items), shared.more) == (20, True)
    assert {one.learner_external_id for one in find(db, organisation_id=other, text="100001").items} == {"P-100001"}


def _nodes(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return [plan, *(node for below in plan.get("Plans", []) for node in _nodes(below))]
