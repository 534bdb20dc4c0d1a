"""The dead-letter desk: what is found, in which order, and acts on all that match."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import Connection

from schemas.dead_letters import LetterFilter
from tests.world import World, assert_balanced, decide_due
from worker.config import Settings, settings
from worker.database import Database
from worker.dead_letters import desk, desk_acts, remedies, runs
from worker.errors import ConflictError, InvalidInputError, NotFoundError, SettingsError


def made(world: World, count: int = 1, code: str = "pathway_owned", *, hours: float = 1, **row: Any) -> list[int]:
    """Letters as if a job had left them, opened so many hours ago."""
    rows = world.run(
        """INSERT INTO withdrawals.dead_letters (organisation_id, code, enrolment_id, message, fingerprint, state,
            assignee, job_id, opened_at, closed_at, closed_by, remedy)
        SELECT :o, :code, coalesce((SELECT max(id) FROM withdrawals.dead_letters), 0) + n, 'a message', :fingerprint,
            :state, :assignee, :job_id, now() - make_interval(secs => :hours * 3600),
            CASE WHEN :closed THEN now() END, CASE WHEN :closed THEN 'dora' END, CASE WHEN :closed THEN 'keep' END
        FROM generate_series(1, :count) n RETURNING id""",
        **{
            "o": world.organisation_id, "code": code, "fingerprint": f"{code}:1", "state": "open", "assignee": None,
            "job_id": None, "hours": hours, "count": count, **row,
            "closed": row.get("state") in ("resolved", "discarded"),
        },
    )  # fmt: skip
    return sorted(row[0] for row in rows)


def listed(db: Database, world: World, **wanted: Any) -> list[int]:
    """The letters that a filter finds, in order, page by page of two."""
    found: list[int] = []
    cursor = None
    while True:
        page = desk.list_letters(db, settings(), world.organisation_id, LetterFilter(**wanted), cursor=cursor, limit=2)
        found += [letter.id for letter in page.items]
        cursor = page.next_cursor
        if cursor is None:
            return found


def assignees(world: World) -> dict[int, str | None]:
    return {row[0]: row[1] for row in world.run("SELECT id, assignee FROM withdrawals.dead_letters")}


def test_every_condition_of_the_filter_narrows_the_list_and_they_add_up(
    db: Database, world: World, environment: Settings, subtests: pytest.Subtests
) -> None:
    job = world.submit(db, [world.enrolment(pathway_id=world.pathway())], source="admin").id
    other = world.submit(db, [999_999]).id
    decide_due(db, environment)
    (of_job,), (of_other,) = (
        [row[0] for row in world.run("SELECT id FROM withdrawals.dead_letters WHERE job_id = :j", j=j)]
        for j in (job, other)
    )
    (old,) = made(world, code="poison", hours=30, fingerprint="vanished", assignee="dora")
    (closed,) = made(world, code="poison", hours=2, state="resolved")
    elsewhere = world.organisation("Other")
    made(world, code="poison", o=elsewhere)
    run = runs.start(
        db, organisation_id=world.organisation_id, act="discard", wanted=LetterFilter(ids=[of_other]), actor="test"
    ).id
    cases: list[tuple[dict[str, Any], set[int]]] = [
        ({}, {of_job, of_other, old, closed}),
        ({"code": "poison"}, {old, closed}),
        ({"state": "resolved"}, {closed}),
        ({"state": "open"}, {of_job, of_other, old}),
        ({"job_id": job}, {of_job}),
        ({"run_id": run}, {of_other}),
        ({"run_id": run + 1}, set()),
        ({"source": "admin"}, {of_job}),
        ({"source": "bulk"}, {of_other}),
        ({"fingerprint": "vanished"}, {old}),
        ({"assignee": "dora"}, {old}),
        ({"assignee": "none"}, {of_job, of_other, closed}),
        ({"older_than": world.one("SELECT now() - interval '1 day'")}, {old}),
        ({"overdue": True}, {old}),
        ({"overdue": False}, {of_job, of_other, closed}),
        ({"code": "poison", "state": "open"}, {old}),
        ({"code": "poison", "job_id": job}, set()),
    ]
    for wanted, expected in cases:
        with subtests.test(str(wanted)):
            found = listed(db, world, **wanted)
            assert set(found) == expected
            assert len(found) == len(expected)


def test_overdue_letters_come_first_and_a_page_goes_on_where_the_last_one_ended(
    db: Database, world: World, environment: Settings
) -> None:
    """Each by its own target: poison after 8 hours, a pathway's after 72; closed ones last, newest first."""
    fresh = made(world, 2, hours=50)
    late = made(world, 2, hours=80)
    poison = made(world, 1, "poison", hours=40)
    closed = made(world, 3, state="discarded")
    order = [*poison, *late, *fresh, *reversed(closed)]
    assert listed(db, world) == order
    first = desk.list_letters(db, environment, world.organisation_id, LetterFilter(), limit=3)
    shown = [remedies.document(letter) for letter in first.items]
    assert [item.overdue for item in shown] == [True, True, True]
    assert desk.count_overdue(db, environment, world.organisation_id, LetterFilter()) == 3
    remedies.discard(db, organisation_id=world.organisation_id, letter_ids=[late[1], fresh[0]], actor="test:support")
    rest = desk.list_letters(db, environment, world.organisation_id, LetterFilter(), cursor=first.next_cursor, limit=10)
    assert [letter.id for letter in rest.items] == [fresh[1], *reversed(closed), late[1], fresh[0]]
    assert not any(remedies.document(letter).overdue for letter in rest.items)


@pytest.mark.parametrize(
    "cursor", ["", "7", "closed", "closed-0", "closed-99999999999999999999", "1-1-1", "9" * 18 + "-1"]
)
def test_a_cursor_that_no_page_gave_is_refused(db: Database, world: World, environment: Settings, cursor: str) -> None:
    with pytest.raises(InvalidInputError, match="cursor"):
        desk.list_letters(db, environment, world.organisation_id, LetterFilter(), cursor=cursor)


def test_letters_are_grouped_by_what_happened_and_counted_by_code_and_age(
    db: Database, world: World, environment: Settings
) -> None:
    owned = made(world, 3, hours=100)
    made(world, 1, state="resolved")
    made(world, 2, "poison", hours=1, fingerprint="vanished", assignee="dora")
    found = desk.groups(db, environment, world.organisation_id, LetterFilter())
    assert (found.groups, found.letters) == (2, 6)
    first, second = found.items
    assert (first.fingerprint, first.count, first.states) == ("pathway_owned:1", 4, {"open": 3, "resolved": 1})
    assert (first.overdue, first.unassigned, first.sample) == (3, 3, owned[0])
    assert "Learning Pathway" in first.sentence
    assert (second.code, second.count, second.overdue, second.unassigned) == ("poison", 2, 0, 0)
    seen = desk.overview(db, environment, world.organisation_id)
    assert (seen.live, seen.overdue) == (5, 3)
    by_code = {item.code: item for item in seen.items}
    assert by_code["pathway_owned"].ages == {"day": 0, "week": 3, "month": 0, "older": 0}
    assert (by_code["poison"].target_hours, by_code["poison"].ages["day"]) == (8, 2)
    assert by_code["not_found"].live == 0


def test_an_assignment_by_filter_is_about_all_that_match_and_each_is_on_record(
    db: Database, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desk_acts, "BATCH", 3)
    mine = made(world, 8)
    (taken,) = made(world, 1, assignee="dora")
    (closed,) = made(world, 1, state="resolved")
    (other,) = made(world, 1, "poison")
    wanted = LetterFilter(code="pathway_owned")
    subject = {"organisation_id": world.organisation_id, "wanted": wanted, "actor": "carla"}
    done = desk_acts.assign_all(db, assignee="dora", **subject)  # type: ignore[arg-type]
    assert (done.matched, done.changed) == (9, 8)
    assert assignees(world) == {**dict.fromkeys([*mine, taken], "dora"), closed: None, other: None}
    rows = world.run("SELECT dead_letter_id, actor, action, detail->>'after' FROM withdrawals.audit ORDER BY 1")
    assert [tuple(row) for row in rows] == [(n, "carla", "dead_letter.assign", "dora") for n in mine]
    noted = desk_acts.note_all(db, note="asked them", **subject)  # type: ignore[arg-type]
    assert (noted.matched, noted.changed) == (10, 10)
    nobody = desk_acts.assign_all(
        db, organisation_id=world.organisation_id, wanted=LetterFilter(assignee="dora"), assignee=None, actor="carla"
    )
    assert nobody.changed == 9
    assert set(assignees(world).values()) == {None}


def test_an_act_whose_answer_was_lost_is_on_record_once(
    db: Database, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every transaction is repeated after its commit, as it is when the answer does not come."""
    monkeypatch.setattr(desk_acts, "BATCH", 2)
    ids = made(world, 5)
    run = db.run

    def twice(work: Callable[[Connection], Any], **more: Any) -> Any:
        run(work, **more)
        return run(work, **more)

    monkeypatch.setattr(db, "run", twice)
    subject = {"organisation_id": world.organisation_id, "actor": "carla"}
    assert desk_acts.note_all(db, wanted=LetterFilter(), note="why", **subject).changed == 5  # type: ignore[arg-type]
    assert desk_acts.assign_all(db, wanted=LetterFilter(), assignee="dora", **subject).changed == 5  # type: ignore[arg-type]
    assert desk_acts.note(db, letter_ids=ids[:1], note="again", **subject).changed == 1  # type: ignore[arg-type]
    assert world.one("SELECT count(*) FROM withdrawals.audit") == 11


def test_a_letter_that_is_closed_or_not_there_is_given_to_nobody(db: Database, world: World) -> None:
    (live,) = made(world)
    (closed,) = made(world, state="discarded")
    other = world.organisation("Other")
    (theirs,) = made(world, o=other)
    subject = {"organisation_id": world.organisation_id, "assignee": "dora", "actor": "carla"}
    with pytest.raises(ConflictError, match="discarded"):
        desk_acts.assign(db, letter_ids=[live, closed], **subject)  # type: ignore[arg-type]
    for missing in (theirs, 999_999):
        with pytest.raises(NotFoundError, match=f"no dead letter {missing}"):
            desk_acts.assign(db, letter_ids=[live, missing], **subject)  # type: ignore[arg-type]
        with pytest.raises(NotFoundError, match=f"no dead letter {missing}"):
            desk_acts.note(
                db, organisation_id=world.organisation_id, letter_ids=[live, missing], note="x", actor="carla"
            )
    assert set(assignees(world).values()) == {None}
    assert world.one("SELECT count(*) FROM withdrawals.audit") == 0
    assert desk_acts.note(
        db, organisation_id=world.organisation_id, letter_ids=[closed], note="late", actor="carla"
    ).changed == 1  # fmt: skip


@pytest.mark.parametrize("count", [12_000, pytest.param(100_000, marks=pytest.mark.long)])
def test_more_letters_than_are_counted_are_listed_grouped_and_assigned(
    db: Database, world: World, environment: Settings, count: int
) -> None:
    for _ in range(11):  # in parts: the ids of all would be fetched for longer than a transaction may be idle
        made(world, (count - 1_000) // 11, hours=100)
    made(world, 1_000, "poison", hours=9, fingerprint="vanished")
    world.run("ANALYZE withdrawals.dead_letters")
    first = desk.list_letters(db, environment, world.organisation_id, LetterFilter(), limit=50)
    assert len(first.items) == 50
    assert all(letter.code == "pathway_owned" for letter in first.items)
    found = desk.groups(db, environment, world.organisation_id, LetterFilter())
    assert [(group.count, group.overdue) for group in found.items] == [(10_001, 10_001), (1_000, 1_000)]
    assert (found.counted_to, found.letters, found.at_least) == (10_000, 11_000, True)
    seen = desk.overview(db, environment, world.organisation_id)
    assert (seen.live, seen.overdue, seen.unassigned, seen.at_least) == (11_000, 11_000, 11_000, True)
    assert seen.items[0].ages == {"day": 0, "week": 10_001, "month": 0, "older": 0}
    assert desk.count_overdue(db, environment, world.organisation_id, LetterFilter()) == 10_001
    shown = remedies.show(db, organisation_id=world.organisation_id, letter_id=first.items[0].id)
    assert remedies.document(shown).diagnosis.shared_by == 10_001
    done = desk_acts.assign_all(
        db, organisation_id=world.organisation_id, wanted=LetterFilter(), assignee="dora", actor="carla"
    )
    assert done.changed == count
    assert world.one("SELECT count(*) FROM withdrawals.dead_letters WHERE assignee = 'dora'") == count
    assert world.one("SELECT count(DISTINCT dead_letter_id) FROM withdrawals.audit") == count


def test_a_closed_letter_loses_its_evidence_in_time_and_an_open_one_never_does(
    db: Database, world: World, environment: Settings
) -> None:
    world.submit(db, [world.enrolment(n, pathway_id=world.pathway()) for n in ("anna", "ben", "carl")])
    decide_due(db, environment)
    old, recent, still_open = (row.id for row in world.letters())
    remedies.discard(db, organisation_id=world.organisation_id, letter_ids=[old, recent], actor="test:support")
    world.run("UPDATE withdrawals.dead_letters SET closed_at = now() - interval '401 days' WHERE id = :id", id=old)
    world.run("UPDATE withdrawals.dead_letters SET opened_at = now() - interval '900 days'")
    assert desk_acts.drop_evidence(db, environment) == 1
    assert desk_acts.drop_evidence(db, environment) == 0
    kept = world.run("SELECT id, evidence <> '{}' FROM withdrawals.dead_letters ORDER BY id")
    assert [tuple(row) for row in kept] == [(old, False), (recent, True), (still_open, True)]
    shown = remedies.document(remedies.show(db, organisation_id=world.organisation_id, letter_id=old))
    assert "Learning Pathway" in shown.diagnosis.sentence
    assert "evidence was dropped" in shown.history[-1].what
    assert_balanced(db)


def test_an_overdue_letter_is_told_of_once(db: Database, world: World, environment: Settings) -> None:
    made(world, 2, hours=100)
    made(world, 1, hours=1)
    assert desk_acts.announce_overdue(db, environment) == 0, "there is nobody to tell"
    world.run(
        """INSERT INTO withdrawals.endpoints (organisation_id, url, events, secret, created_by)
        VALUES (:o, 'https://help.example/', ARRAY['dead_letter.overdue'], 'x', 'x')""",
        o=world.organisation_id,
    )
    assert desk_acts.announce_overdue(db, environment) == 2
    assert desk_acts.announce_overdue(db, environment) == 0
    (told,) = world.run("SELECT type, data FROM withdrawals.deliveries")
    assert (told.type, told.data["count"], told.data["code"]) == ("dead_letter.overdue", 2, "pathway_owned")


@pytest.mark.parametrize("value", ["", "x", "72,poison", "72,bored=3", "0", "72,poison=-1", "nan", "poison=8"])
def test_a_target_that_makes_no_sense_is_an_error_that_names_the_setting(
    environment: Settings, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("WITHDRAWALS_LETTER_TARGET_HOURS", value or " ")
    settings.cache_clear()
    with pytest.raises(SettingsError, match="WITHDRAWALS_LETTER_TARGET_HOURS"):
        settings()


def test_a_target_is_for_all_codes_or_one(environment: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WITHDRAWALS_LETTER_TARGET_HOURS", "48, poison=0.5")
    settings.cache_clear()
    targets = settings().letter_targets
    assert (targets["not_found"].total_seconds(), targets["poison"].total_seconds()) == (48 * 3600, 1800)


def test_a_note_that_is_sent_twice_at_once_is_kept_once(db: Database, world: World, environment: Settings) -> None:
    (letter,) = made(world, state="resolved")
    subject = {"organisation_id": world.organisation_id, "letter_ids": [letter], "note": "asked", "actor": "test:mia"}
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda _: desk_acts.note(db, **subject, key="k1").changed, range(8)))  # type: ignore[arg-type]
    assert sorted(done) == [0] * 7 + [1]
    assert desk_acts.note(db, **subject, key="k2").changed == 1  # type: ignore[arg-type]
    assert world.one("SELECT count(*) FROM withdrawals.audit WHERE action = 'dead_letter.note'") == 2
