"""What is told, when and how often: digests, storms, crashes, two workers, members, and once whatever happens."""

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as with_settings
from hypothesis import strategies as st
from sqlalchemy import Connection

from schemas.brake import LimitRequest
from schemas.dead_letters import LetterFilter
from schemas.notifications import NoticeKind
from tests.notifications.conftest import Post, add, letters, pause_is_over, tell
from tests.support.commandline import done, withdrawals
from tests.world import World
from worker.access.persons import Actor
from worker.config import Settings
from worker.database import Database
from worker.errors import ConflictError
from worker.jobs import limits
from worker.ledger import letter_counts, members, notices, notification_messages
from worker.ledger.notices import Waiting
from worker.notifications.kinds import KINDS
from worker.notifications.scan import NoticeScan
from worker.notifications.sender import Sender
from worker.notifications.targets import next_digest


def test_every_kind_is_found_and_said(db: Database, world: World, mailing: Settings, post: Post) -> None:
    assert list(KINDS) == list(NoticeKind)
    add(db, world, mailing)
    organisation_id = world.organisation_id
    world.submit(db, world.enrolments(1))
    letters(world, 1)
    wanted = LimitRequest(note="x", floor=1000)
    limits.propose(db, organisation_id=organisation_id, wanted=wanted, who=Actor("test:owner"))
    world.run(
        """INSERT INTO withdrawals.runs (organisation_id, act, filter, actor, rate, canary, state, because, letters,
            finished_at) VALUES (:o, 'redrive', '{}', 'x', 1, 1, 'halted', 'x', 12, now())""",
        o=organisation_id,
    )
    world.run(
        """INSERT INTO withdrawals.approvals (organisation_id, act, subject, consequence, arguments, size, alone_up_to,
            requested_by, requested_at, expires_at)
        SELECT :o, act, act, 'x', '{}', 3, 0, 'token:ada', now() - age * interval '8 days',
            now() - age * interval '8 days' + interval '7 days'
        FROM (VALUES ('cascade', 0), ('token', 0), ('override', 1)) v(act, age)""",
        o=organisation_id,
    )
    silent(world, "payroll")
    rosters(world, planned=0, accepted=2, failed=0)
    reports(world)
    assert tell(db, mailing) == 1
    ((_, message, _),) = post.sent
    heads = [part.partition("\n")[0] for part in message.body.split("\n\n")]
    assert heads[:-1] == [
        "1 job waits for a second person.", "3 approvals are asked for.", "1 dead letter was opened.",
        "1 run has halted.", "1 source of HR events is silent.", "1 roster has found people who left.",
        "1 roster could not be applied.", "1 scheduled report is ready.", "2 scheduled reports have failed.",
    ]  # fmt: skip
    for line in (
        "Proposal 1: limits of the brake\n  https://withdrawals.example/console/brake",
        "Approval 1: Withdraw with the pathway's others (cascade), 3 learners\n  https://withdrawals.example/console/approvals/1",
        "Approval 2: Create a token\n",
        "/console/dead-letters/1",
        "Run 1: redrive of 12 dead letters\n  https://withdrawals.example/console/dead-letters/runs/1",
        "Source payroll: nothing heard for 24 hours\n  https://withdrawals.example/console/settings/sources",
        "Roster 2: 2 people have left\n  https://withdrawals.example/v1/rosters/2",
        "Roster 3: IntegrityError\n  https://withdrawals.example/v1/rosters/3",
        "File 1: outcomes, weekly, 7 rows\n  https://withdrawals.example/console/reports/schedules#file-1",
        "File 2: outcomes, weekly\n  https://withdrawals.example/console/reports/schedules#file-2",
        "Schedule 1 has ended: whoever made it may not have it any more\n",
    ):
        assert line in message.body


def test_a_silence_is_told_once_and_again_after_the_source_was_heard(
    db: Database, world: World, mailing: Settings, post: Post
) -> None:
    add(db, world, mailing, kinds=["source.silent", "roster.leavers"])
    silent(world, "payroll")
    rosters(world, planned=1)
    assert tell(db, mailing) == 1
    world.run("UPDATE withdrawals.rosters SET state = 'accepted', accepted_by = 'x', accepted_at = now()")
    pause_is_over(world)
    assert tell(db, mailing) == 0, "the source is still silent, and the roster was told when it was planned"
    world.run("UPDATE withdrawals.sources SET last_event_at = now() - interval '24 hours'")
    assert tell(db, mailing) == 1
    assert post.titles == [
        "Acme: 1 source of HR events is silent; 1 roster has found people who left",
        "Acme: 1 source of HR events is silent",
    ]


def silent(world: World, name: str) -> None:
    """A source that has just been silent for longer than its limit."""
    world.run(
        """INSERT INTO withdrawals.sources (organisation_id, name, kind, on_deactivate, secret, created_by, created_at,
            last_event_at)
        VALUES (:o, :name, 'standard', 'withdraw', 'x', 'x', now() - interval '9 days', now() - interval '24 h')""",
        o=world.organisation_id,
        name=name,
    )
    world.run(
        """INSERT INTO withdrawals.silence_limits (organisation_id, source, hours, set_by, set_at)
        VALUES (:o, :name, 24, 'x', now() - interval '8 days')""",
        o=world.organisation_id,
        name=name,
    )


def reports(world: World) -> None:
    """A scheduled report with a file and a failure, which has ended by itself."""
    world.run(
        """INSERT INTO withdrawals.report_schedules (organisation_id, report, filter, covers, names, format, every,
            hour, next_at, created_by, ended_at, ended_by, ended_because)
        VALUES (:o, 'outcomes', '{}', 'all', true, 'csv', 'weekly', 6, now(), 'x', now(), 'relay', 'x')""",
        o=world.organisation_id,
    )
    world.run(
        """INSERT INTO withdrawals.report_files (schedule_id, organisation_id, due_at, state, row_count, size, ended_at)
        VALUES (1, :o, now(), 'ready', 7, 9, now()), (1, :o, now() - interval '1 s', 'failed', NULL, NULL, now())""",
        o=world.organisation_id,
    )


def rosters(world: World, **left: int) -> None:
    """Full rosters by their state, each with so many people who left."""
    for state, count in left.items():
        world.run(
            """INSERT INTO withdrawals.rosters (organisation_id, state, as_of, kind, sha256, people, active, missing,
                findings, planned_by, accepted_by, accepted_at, failure, failed_at)
            SELECT :o, :state, now(), 'file', 'x', 9, 9, 'withdraw',
                jsonb_build_object('missing', CAST(:left AS integer)), 'x',
                CASE WHEN :state <> 'planned' THEN 'x' END, CASE WHEN :state <> 'planned' THEN now() END,
                CASE :state WHEN 'failed' THEN 'IntegrityError: x' END, CASE :state WHEN 'failed' THEN now() END""",
            o=world.organisation_id,
            state=state,
            left=count,
        )


def test_what_becomes_overdue_is_told_as_the_desk_has_it(
    db: Database, world: World, mailing: Settings, post: Post
) -> None:
    for code, age in (("not_found", "80 h"), ("not_found", "71 h"), ("poison", "9 h"), ("poison", "1 h")):
        letters(world, 1, code, age=age)
    for ended in ("73 h", "2 h"):
        letters(world, 1, "protected", age="90 h")
        world.run(
            """UPDATE withdrawals.dead_letters SET evidence = jsonb_build_object('protected_until',
                now() - CAST(:ended AS interval)) WHERE id = (SELECT max(id) FROM withdrawals.dead_letters)""",
            ended=ended,
        )
    letters(world, 1, "protected", age="90 h")  # as long as nobody ends it
    add(db, world, mailing, kinds=["dead_letter.overdue"])
    assert tell(db, mailing) == 0, "old news"
    world.run("UPDATE withdrawals.notification_targets SET created_at = now() - interval '10 days'")
    world.run("UPDATE withdrawals.notice_scans SET since = now() - interval '10 days'")
    tell(db, mailing)
    with db.begin() as connection:
        overdue = letter_counts.count_overdue(
            connection, world.organisation_id, LetterFilter(), mailing.letter_targets, most=100
        )
    assert post.titles == ["Acme: 3 dead letters are overdue"]
    assert overdue == 3


def test_a_digest_comes_once_a_day_at_its_hour(db: Database, world: World, mailing: Settings, post: Post) -> None:
    world.run("UPDATE lms.organisations SET timezone = 'Pacific/Auckland'")
    before = next_digest(datetime.now(UTC), 8, "Pacific/Auckland")
    made = add(db, world, mailing, digest_hour=8, kinds=["dead_letter.opened"])
    letters(world, 7)
    world.submit(db, world.enrolments(1))
    assert tell(db, mailing) == 0
    due = world.one("SELECT next_at FROM withdrawals.notification_targets")
    assert due in (before, next_digest(datetime.now(UTC), 8, "Pacific/Auckland")), "the hour may strike meanwhile"
    pause_is_over(world)
    assert tell(db, mailing) == 1
    assert post.titles == ["Acme: 7 dead letters were opened"]
    assert "/console/dead-letters\n" in post.sent[0][1].body, "of many, the page of all"
    assert world.one("SELECT next_at FROM withdrawals.notification_targets") >= due
    assert done("notifications", "remove", made.id)["removed_by"].startswith("cli:")
    letters(world, 1)
    pause_is_over(world)
    assert tell(db, mailing) == 0, "a target that was removed is told nothing"
    assert "there is no notification" in withdrawals("notifications", "test", made.id).err


def test_the_hour_of_a_digest_follows_the_time_zone_and_its_summer_time() -> None:
    def after(day: int, hour: int) -> datetime:
        return next_digest(datetime(2026, 3, day, hour, tzinfo=UTC), 8, "Europe/Berlin")

    assert after(27, 6) == datetime(2026, 3, 27, 7, tzinfo=UTC)
    assert after(27, 7) == datetime(2026, 3, 28, 7, tzinfo=UTC), "the next, not the same again"
    assert after(28, 7) == datetime(2026, 3, 29, 6, tzinfo=UTC), "summer time has begun"
    assert next_digest(datetime(2026, 3, 1, 9, tzinfo=UTC), 8, "Nowhere/Land") == datetime(2026, 3, 2, 8, tzinfo=UTC)


def test_a_storm_is_one_message_with_a_count(db: Database, world: World, mailing: Settings, post: Post) -> None:
    gathering = mailing.model_copy(update={"notification_gather_seconds": 60})
    add(db, world, mailing)
    for _ in range(4):  # looks of the relay within a minute
        letters(world, 73)
        assert tell(db, gathering) == 0
    world.run("UPDATE withdrawals.notices SET found_at = found_at - interval '1 minute'")
    assert tell(db, gathering) == 1
    assert post.titles == ["Acme: 292 dead letters were opened"]
    letters(world, 5)
    assert tell(db, gathering) == 0
    world.run("UPDATE withdrawals.notices SET found_at = found_at - interval '1 minute'")
    assert tell(db, gathering) == 0, "the next message waits some minutes"
    pause_is_over(world)
    assert tell(db, gathering) == 1
    assert post.titles[1:] == ["Acme: 5 dead letters were opened"]


def test_a_worker_that_dies_after_it_has_sent_sends_again_with_the_same_id(
    db: Database, world: World, mailing: Settings, post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(db, world, mailing)
    letters(world, 1)

    def die(*_: Any) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr(notification_messages, "record_delivered", die)
    with pytest.raises(KeyboardInterrupt):
        tell(db, mailing)
    monkeypatch.undo()
    monkeypatch.setattr("worker.notifications.transport.send", post)
    assert Sender(db, mailing).run() == 0, "its lease still runs"
    world.run("UPDATE withdrawals.notification_messages SET lease_until = now() - interval '1 s'")
    assert Sender(db, mailing).run() == 1
    assert post.titles == ["Acme: 1 dead letter was opened"] * 2
    assert len({message_id for _, _, message_id in post.sent}) == 1
    assert tell(db, mailing) == 0


def test_two_relays_and_two_workers_send_each_message_once(
    db: Database, world: World, mailing: Settings, post: Post
) -> None:
    for number in range(6):
        add(db, world, mailing, to=f"support-{number}@help.example")
    letters(world, 3)
    together = threading.Barrier(4)

    def run(act: Any) -> None:
        together.wait()
        act()
        Sender(db, mailing).run()

    with ThreadPoolExecutor(4) as threads:
        acts = [NoticeScan(db, mailing).step] * 2 + [Sender(db, mailing).run] * 2
        list(threads.map(run, acts))
    Sender(db, mailing).run()
    assert sorted(Counter(url for url, _, _ in post.sent).values()) == [1] * 6


def test_a_member_is_told_at_the_address_that_the_provider_has(
    db: Database, world: World, mailing: Settings, post: Post
) -> None:
    def sign_in(email: str | None) -> int:
        with db.begin() as connection:
            return members.record_sign_in(
                connection, world.organisation_id, issuer="i", subject="s", name="Ada", email=email
            )

    member_id = sign_in("ada@old.example")
    add(db, world, mailing, member_id=member_id)
    with pytest.raises(ConflictError, match="goes to this member's e-mail address already"):
        add(db, world, mailing, member_id=member_id)
    sign_in("ada@new.example")
    letters(world, 1)
    tell(db, mailing)
    assert post.sent[0][0].endswith("to=ada%40new.example")
    for said, why in (
        (None, "the member has no e-mail address"),
        ("ada@new.example,eve@evil.example", "what the provider says of the member is not one e-mail address"),
    ):
        sign_in(said)
        letters(world, 1)
        pause_is_over(world)
        tell(db, mailing)
        assert done("notifications", "messages")["items"][0]["last_error"] == why


def test_what_was_told_is_forgotten_unless_it_would_be_found_again(
    db: Database, world: World, mailing: Settings, post: Post
) -> None:
    add(db, world, mailing)
    world.submit(db, world.enrolments(1))
    letters(world, 2)
    assert tell(db, mailing) == 1
    for table, column in (("notices", "found_at"), ("notices", "at"), ("notification_messages", "ended_at")):
        world.run(f"UPDATE withdrawals.{table} SET {column} = now() - interval '40 days'")
    world.run("UPDATE withdrawals.dead_letters SET opened_at = now() - interval '40 days'")
    NoticeScan(db, mailing).forget()
    assert [row.kind for row in world.run("SELECT kind FROM withdrawals.notices")] == ["job.held"]
    assert world.one("SELECT count(*) FROM withdrawals.notification_messages") == 0
    pause_is_over(world)
    world.run("UPDATE withdrawals.notification_targets SET kinds = '{job.held}'")
    assert tell(db, mailing) == 0, "the job is still held, and was told"


ACTS = st.lists(
    st.sampled_from(["target", "digest", "letter", "late letter", "proposal", "look", "crash", "pause", "send"]),
    min_size=4,
    max_size=14,
)


@with_settings(max_examples=6, suppress_health_check=list(HealthCheck))
@given(acts=ACTS)
def test_each_target_is_told_once_of_all_that_came_after_it(
    db: Database, world: World, mailing: Settings, post: Post, monkeypatch: pytest.MonkeyPatch, acts: list[str]
) -> None:
    world.organisation_id = world.organisation(f"House {world.one('SELECT count(*) FROM lms.organisations')}")
    for act in [*acts, "look", "pause", "look"]:
        _do(act, db, world, mailing)
    expected = {
        (row.id, row.kind, row.subject)
        for row in world.run(
            """SELECT t.id, f.kind, f.subject FROM withdrawals.notification_targets t JOIN (
                SELECT organisation_id, 'dead_letter.opened' AS kind, id::text AS subject, opened_at AS at
                FROM withdrawals.dead_letters
                UNION ALL SELECT organisation_id, 'approval.asked', 'limits ' || id, proposed_at
                FROM withdrawals.limit_proposals) f ON f.organisation_id = t.organisation_id AND f.at >= t.created_at
            WHERE t.organisation_id = :o""",
            o=world.organisation_id,
        )
    }
    told = Counter(
        (row.id, row.kind, row.subject)
        for row in world.run(
            """SELECT t.id, n.kind, n.subject FROM withdrawals.notification_messages m
            JOIN withdrawals.notification_targets t ON t.id = m.target_id
            JOIN withdrawals.notices n ON n.organisation_id = m.organisation_id AND n.kind = ANY(t.kinds)
                AND n.id > m.after_notice AND n.id <= m.up_to_notice AND n.at >= t.created_at
            WHERE m.organisation_id = :o""",
            o=world.organisation_id,
        )
    )
    assert dict(told) == dict.fromkeys(expected, 1)


def _do(act: str, db: Database, world: World, mailing: Settings) -> None:
    match act:
        case "target" | "digest":
            add(db, world, mailing, digest_hour=8 if act == "digest" else None)
        case "letter":
            letters(world, 2)
        case "late letter":  # of a transaction that began a while ago and commits now
            letters(world, 1, age="5 minutes")
        case "proposal":
            world.run(
                """INSERT INTO withdrawals.limit_proposals (organisation_id, proposed_by, expires_at)
                VALUES (:o, 'test:x', now() + interval '7 days')""",
                o=world.organisation_id,
            )
        case "look":
            NoticeScan(db, mailing).step()
        case "crash":
            _look_and_die(db, mailing)
        case "pause":
            pause_is_over(world)
            Sender(db, mailing).run()
            pause_is_over(world)
        case "send":
            Sender(db, mailing).run()


def _look_and_die(db: Database, mailing: Settings) -> None:
    """A relay that dies at the end of a transaction, before it commits."""
    insert = notices.insert_message

    def die(connection: Connection, waiting: Waiting, **values: Any) -> None:
        insert(connection, waiting, **values)
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch, suppress(KeyboardInterrupt):
        patch.setattr(notices, "insert_message", die)
        NoticeScan(db, mailing).step()
