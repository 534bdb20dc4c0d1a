"""A person who asked for it is erased from every table; counts, outcomes and books stay (decision record 0038)."""

import re
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import text
from starlette.testclient import TestClient

from schemas.people import ErasureRequest
from tests.support.commandline import done, withdrawals
from tests.support.web import Hr, event
from tests.world import World, apply_inbox, decide_due
from worker.config import Settings, settings
from worker.database import Database
from worker.errors import ErasureRefusedError
from worker.ledger import erased_texts
from worker.people import erasure
from worker.reports.books import check
from worker.reports.seals import Sealer

Bearer = Callable[..., dict[str, str]]
PERSON, ADDRESS, NAME = "P-mark-7719", "quillon.markham@example.org", "Quillon Markham"
MARK = re.compile(r"mark-?7719|quillon|markham", re.IGNORECASE)
NOTE = f"{NAME} ({PERSON}) asked for it"


def test_a_person_is_erased_from_every_column_of_every_table(
    client: TestClient, bearer: Bearer, hr: Hr, db: Database, owner: Database, environment: Settings, world: World
) -> None:
    live = _through_every_door(client, bearer, hr, db, environment, world)
    _seal(world, db)
    filled = _find_mark(owner)
    assert filled >= WHERE_IT_WAS, "the doors no longer write there: is the list of the test old?"
    outcomes = world.run("SELECT job_id, enrolment_id, outcome FROM withdrawals.outcomes ORDER BY 1, 2")
    before = check(db)
    assert before.clean, before

    refusal = withdrawals("person", "erase", PERSON, "--note", "request 12")
    assert (refusal.code, refusal.out) == (1, "")
    assert f"dead letter {live} is open" in refusal.err
    assert _find_mark(owner) == filled, "a refusal changes nothing"
    _discard(client, bearer, live)
    world.run("UPDATE lms.enrolments SET status = 'incomplete' WHERE pathway_id IS NOT NULL")
    planned = done("person", "erase", PERSON, "--plan")
    assert planned["obstacles"] == []
    assert _find_mark(owner) >= filled

    ended = done("person", "erase", PERSON, "--note", "request 12", "--as", "dpo")
    assert _find_mark(owner) == set()
    assert set(ended["rows"]) == {*planned["rows_of_the_person"], *planned["texts_that_mention_the_person"]}
    after = check(db)
    assert after.clean, after
    assert after.totals == before.totals
    assert world.run("SELECT job_id, enrolment_id, outcome FROM withdrawals.outcomes ORDER BY 1, 2") == outcomes
    (record,) = world.run("SELECT actor, note, detail FROM withdrawals.audit WHERE action = 'person.erase'")
    assert (record.actor, record.note, record.detail["rows"]) == ("dpo", "request 12", ended["rows"])

    again = done("person", "erase", PERSON, "--note", "request 12")
    assert again["rows"] == ended["rows"], "nothing is left to erase"


def test_what_an_erasure_left_cannot_be_changed_again(db: Database, owner: Database, world: World) -> None:
    world.event(db, "reactivated", PERSON)
    _seal(world, db)
    _erase(owner, world)
    assert check(db).clean
    with pytest.raises(Exception, match="append-only"):
        world.run("UPDATE withdrawals.audit SET note = 'x' WHERE action = 'person.erase'")
    world.run("UPDATE withdrawals.audit SET note = 'forged' WHERE action = 'user.reactivated'")
    assert [found.rule for found in check(db).violations] == ["erased-row"]


def test_a_short_id_and_other_peoples_words_are_left_in_texts(db: Database, owner: Database, world: World) -> None:
    """`7` is somebody's external id, and also a number; `P-mark-7719` is not `P-mark-77190`."""
    for person in ("7", PERSON, f"{PERSON}0"):
        world.event(db, "reactivated", person)
    job = world.submit(db, world.enrolments(1), note=f"7 of {PERSON}0, not {PERSON.lower()}, left")
    decide_due(db, settings())
    _erase(owner, world, "7")
    _erase(owner, world)
    hidden = world.run("SELECT pseudonym FROM withdrawals.erasures ORDER BY id")
    note = world.one("SELECT note FROM withdrawals.jobs WHERE id = :i", i=job.id)
    assert note == f"7 of {PERSON}0, not {hidden[1].pseudonym}, left"
    people = world.run("SELECT detail ->> 'external_id' AS id FROM withdrawals.audit WHERE detail ? 'external_id'")
    assert {row.id for row in people} == {f"{PERSON}0", *(row.pseudonym for row in hidden)}


def test_a_protected_person_is_erased_once_the_protection_has_ended(owner: Database, world: World) -> None:
    """A legal hold is a reason to keep what is known."""
    hold = world.one(
        """INSERT INTO withdrawals.protections (organisation_id, learner_external_id, kind, reason, made_by)
        VALUES (:o, :p, 'legal_hold', 'court, case 7', 'ada') RETURNING id""",
        o=world.organisation_id,
        p=PERSON,
    )
    with pytest.raises(ErasureRefusedError, match=f"protection {hold} is in force"):
        _erase(owner, world)
    world.run("UPDATE withdrawals.protections SET lifted_at = clock_timestamp(), lifted_by = 'ben', lift_note = 'over'")
    _erase(owner, world)
    (row,) = world.run("SELECT learner_external_id, reason, lift_note, made_by FROM withdrawals.protections")
    assert (row.reason, row.lift_note, row.made_by) == ("[erased]", "[erased]", "ada")
    assert row.learner_external_id == world.one("SELECT pseudonym FROM withdrawals.erasures")


def test_a_late_event_about_an_erased_person_stores_nobody(
    hr: Hr, db: Database, owner: Database, environment: Settings, client: TestClient, bearer: Bearer, world: World
) -> None:
    enrolment = world.enrolment(PERSON)
    hr.send(event(PERSON), key="first")
    decide_due(db, environment)
    assert world.status(enrolment) == "withdrawn"
    _erase(owner, world)

    assert hr.send(event(PERSON), key="first").status_code == 200  # known by its key, as before
    late = hr.send(event(PERSON, "reactivated", "2026-03-02T08:00:00Z"), key="late")
    assert late.status_code == 202
    apply_inbox(db, environment)
    shown = client.get(f"/v1/receipts/{late.json()['receipt_id']}", headers=bearer("viewer")).json()
    assert (shown["state"], shown["status"]) == ("applied", "erased")
    body = {"reason": "not_required", "learner_external_id": PERSON}
    asked = client.post("/v1/jobs", json=body, headers={**bearer("operator"), "Idempotency-Key": uuid4().hex})
    assert (asked.status_code, asked.json()["type"].rpartition(":")[2]) == (409, "person_erased")
    assert "erased at their own request" in withdrawals("reactivate", PERSON).err
    assert _find_mark(owner) == set()

    world.run("UPDATE lms.learners SET active = true WHERE external_id = :p", p=PERSON)  # the platform has them again
    hr.send(event(PERSON, "deactivated", "2026-03-03T08:00:00Z"), key="back")
    decide_due(db, environment)
    assert not world.active(PERSON)
    _erase(owner, world)  # and may ask again
    assert _find_mark(owner) == set()
    assert check(db).clean
    assert done("person", "admit", PERSON) == {"admitted": True}
    assert withdrawals("person", "admit", PERSON).code == 1
    assert done("reactivate", PERSON)["status"] == "reactivated"
    world.run("UPDATE lms.learners SET active = false WHERE external_id = :p", p=PERSON)
    _erase(owner, world)
    world.run("DELETE FROM lms.enrolments")
    world.run("DELETE FROM lms.learners")  # the platform has erased them too, and their directory knows them again
    headers = {**bearer("scim"), "Content-Type": "application/scim+json"}
    user = {"userName": ADDRESS, "externalId": PERSON, "active": False}
    assert client.post("/scim/v2/Users", json=user, headers=headers).status_code == 201
    assert done("reactivate", PERSON)["status"] == "reactivated"
    assert not check(db).violations


@pytest.mark.parametrize("dies_after", (0, 9, 14))
def test_an_erasure_that_was_interrupted_goes_on(
    dies_after: int, db: Database, owner: Database, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.event(db, "reactivated", PERSON)
    calls: Iterator[int] = iter(range(1000))
    really = erased_texts.erase

    def dying(*given: Any, **named: Any) -> Any:
        if next(calls) == dies_after:
            raise KeyboardInterrupt
        return really(*given, **named)

    monkeypatch.setattr(erased_texts, "erase", dying)
    try:
        _erase(owner, world)
    except KeyboardInterrupt:
        assert check(db).clean
        assert world.one("SELECT count(*) FROM withdrawals.erasures WHERE finished_at IS NULL") == 1
        _erase(owner, world)
    assert _find_mark(owner) == set()
    assert world.one("SELECT count(*) FROM withdrawals.audit WHERE action = 'person.erase'") == 1
    assert check(db).clean


def _through_every_door(
    client: TestClient, bearer: Bearer, hr: Hr, db: Database, settings: Settings, world: World
) -> int:
    """Write the person wherever somebody can; the id of the dead letter that is still open."""
    headers = {**bearer("owner", name=ADDRESS), "X-Request-ID": f"of-{PERSON}"}
    scim = {**bearer("scim"), "Content-Type": "application/scim+json"}
    hr.send(event(PERSON), key=f"event of {PERSON}")
    decide_due(db, settings)  # the platform does not know them yet
    user = {"userName": ADDRESS, "externalId": PERSON, "displayName": NAME}
    assert client.post("/scim/v2/Users", json=user, headers=scim).status_code == 201
    enrolments = [world.enrolment(PERSON), world.enrolment(PERSON, pathway_id=world.pathway())]
    others = world.enrolments(2)

    def call(path: str, body: Any = None, **more: Any) -> Any:
        answer = client.post(
            f"/v1{path}", json=body, headers={**headers, "Idempotency-Key": f"{PERSON}-{uuid4().hex}"}, **more
        )
        assert answer.status_code < 300, answer.text
        return answer.json()

    call("/views", {"list": "jobs", "name": f"Of {NAME}", "filter": {"learner_external_id": PERSON}})
    call("/jobs", {"reason": "not_required", "enrolment_ids": others, "note": f"as for {PERSON} and {NAME}"})
    assert hr.send({**event(PERSON), "data": {"external_id": PERSON, "effective_at": "soon"}}).status_code == 422
    decide_due(db, settings)
    call("/jobs", {"reason": "not_required", "learner_external_id": PERSON, "note": NOTE})
    files = {"file": (f"leavers_{PERSON}_{NAME}.csv", f"enrolment_id\n{others[0]}\n".encode(), "text/csv")}
    call("/jobs/file", data={"reason": "not_required", "note": NOTE}, files=files)
    by_name = {"file": ("a.csv", f"learner,series\n{PERSON},x\n{ADDRESS},y\n".encode(), "text/csv")}
    client.post("/v1/jobs/file/plan", headers=headers, data={"reason": "not_required"}, files=by_name)
    decide_due(db, settings)
    letters = client.get("/v1/dead-letters", headers=headers).json()["items"]
    for letter in letters:
        call(f"/dead-letters/{letter['id']}/note", {"note": NOTE})
        call(f"/dead-letters/{letter['id']}/assign", {"assignee": ADDRESS})
    client.put("/v1/brake", json={"floor": 7, "note": NOTE}, headers=headers)
    withdrawals("deactivate", PERSON, "--key", f"cli {PERSON}", "--as", ADDRESS)
    decide_due(db, settings)
    owned = next(letter["id"] for letter in letters if letter["code"] == "pathway_owned")
    for letter in letters:
        if letter["id"] != owned:
            call(f"/dead-letters/{letter['id']}/discard", {"note": NOTE})
    del enrolments
    return int(owned)


def _discard(client: TestClient, bearer: Bearer, letter_id: int) -> None:
    answer = client.post(f"/v1/dead-letters/{letter_id}/discard", json={"note": NOTE}, headers=bearer("operator"))
    assert answer.status_code == 200, answer.text


WHERE_IT_WAS = {
    "audit.actor", "audit.detail", "audit.note", "chunks.learner_external_id", "dead_letters.assignee",
    "dead_letters.evidence", "dead_letters.learner_external_id", "jobs.file_name", "jobs.idempotency_key",
    "jobs.learner_external_id", "jobs.note", "jobs.request_id", "jobs.requested_by", "person_events.external_id",
    "persons.external_id", "receipts.idempotency_key", "saved_views.filter", "saved_views.name",
    "scim_users.external_id", "tokens.name", "upload_parts.content", "uploads.requested_by",
}  # fmt: skip


def _find_mark(owner: Database) -> set[str]:
    """Every column of the service's schema that holds the mark, whatever its type."""
    found = set()
    with owner.begin() as connection:
        columns = connection.execute(
            text("""SELECT c.table_name, c.column_name, c.data_type FROM information_schema.columns c
                JOIN information_schema.tables t USING (table_schema, table_name)
                WHERE c.table_schema = 'withdrawals' AND t.table_type = 'BASE TABLE'""")
        ).all()
        for table, column, kind in columns:
            shown = f"encode({column}, 'escape')" if kind == "bytea" else f"CAST({column} AS text)"
            values = connection.scalars(text(f"SELECT {shown} FROM withdrawals.{table}"))
            if any(value is not None and MARK.search(value) for value in values):
                found.add(f"{table}.{column}")
    return found


def _erase(owner: Database, world: World, person: str = PERSON) -> None:
    request = ErasureRequest(external_id=person, note="request 12")
    erasure.erase(owner, organisation_id=world.organisation_id, request=request, actor="dpo")


def _seal(world: World, db: Database) -> None:
    """As if all of this had happened the day before yesterday, and that day was sealed."""
    with world.owner.begin() as connection:
        for statement in (
            "SET LOCAL session_replication_role = replica",
            "UPDATE withdrawals.seals SET day = day - 4, last_id = 0, looked_at = looked_at - interval '4 days'",
            "UPDATE withdrawals.audit SET at = at - interval '2 days'",
            "UPDATE withdrawals.receipts SET received_at = received_at - interval '2 days'",
        ):
            connection.execute(text(statement))
    sealer = Sealer(db)
    sealer.step()
    assert sealer.step() > 0
