"""Two organisations with a record of each kind, and calls of every operation about the records of either."""

import json
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from io import BytesIO
from typing import Any
from uuid import uuid4

import sqlalchemy
from pydantic import SecretStr

from schemas.brake import LimitRequest
from schemas.dead_letters import LetterFilter
from schemas.events import PersonEvent
from schemas.jobs import JobRequest
from schemas.notifications import NotificationRequest
from schemas.protections import ProtectionRequest
from schemas.report_schedules import Covers, Every, Report, ScheduleRequest
from schemas.rosters import RosterRequest
from schemas.saved_views import ListName, ViewRequest
from tests.support.databases import Cluster, Databases
from tests.support.sessions import Sessions
from tests.support.web import make_source
from tests.world import World, decide_due
from worker.access import sessions, tokens
from worker.access.persons import Actor
from worker.access.sessions import Limits
from worker.config import Settings
from worker.database import Database
from worker.dead_letters import runs
from worker.jobs import limits
from worker.jobs.files import uploads
from worker.jobs.submit import Requester, submit
from worker.ledger import approvals, members, notification_messages, report_files, webhook_deliveries
from worker.notifications import targets
from worker.people import events, protections, rosters
from worker.reports import scheduled_files, schedules
from worker.search import saved_views
from worker.webhooks import endpoints

FOREIGN = "zz-of-the-other-house"
"""In every text of the other organisation: no answer to the first may have it."""
NOBODY_S = 987_654_321
"""The id of no record of any kind."""


@dataclass(frozen=True)
class Holding:
    """An organisation and, by the name that paths use, the id of one record of each kind."""

    organisation_id: int
    ids: dict[str, Any]


_SEEN = ("last_used_at", "last_event_at", "seen_at", "refused_signature", "refused_time", "refused_since", "refused_at")
"""Columns that are written in the background, whoever calls."""


@dataclass(frozen=True)
class Estate:
    """The two organisations, and tokens of any role of the first."""

    world: World
    db: Database
    own: Holding
    foreign: Holding

    def bearer(self, role: str, *, name: str | None = None, foreign: bool = False) -> dict[str, str]:
        """Headers with a new token."""
        return {"Authorization": f"Bearer {self.token(role, name=name, foreign=foreign)}"}

    def token(self, role: str, *, name: str | None = None, foreign: bool = False) -> str:
        """The secret of a new token."""
        holding = self.foreign if foreign else self.own
        name = name or f"{role}-{uuid4().hex[:6]}"
        made = tokens.create(self.db, organisation_id=holding.organisation_id, name=name, role=role, actor="test:x")
        return made.secret

    def written(self) -> dict[str, str]:
        """A digest of every table, without the times at which tokens and processes were last seen, and who was refused.

        All in one statement, because tests ask for it before and after each call.
        """
        tables = self.world.run(
            "SELECT table_schema || '.' || table_name FROM information_schema.tables"
            " WHERE table_schema IN ('lms', 'withdrawals') AND table_type = 'BASE TABLE'"
        )
        digests = " UNION ALL ".join(
            f"SELECT '{table}', count(*) || ':' || coalesce(md5(string_agg(line, '' ORDER BY line)), '') FROM (SELECT"
            f" (to_jsonb(t) - '{{{','.join(_SEEN)}}}'::text[])::text AS line FROM {table} t) lines"
            for (table,) in tables
        )
        return {str(table): str(digest) for table, digest in self.world.run(digests)}


class Estates:
    """Databases with the two organisations. They are filled once for all tests of a process, and cloned."""

    def __init__(self, cluster: Cluster, template: str, sessions: Sessions) -> None:
        """`sessions`: those that tests make their connections with."""
        self._cluster, self._template, self._sessions = cluster, template, sessions
        self._databases: Databases | None = None
        self._made: Estate | None = None

    def take(self, settings: Settings) -> str:
        """The name of such a database. `settings`: of this test, whose database is empty."""
        if self._databases is None:
            self._cluster.run(f"CREATE DATABASE template_estate TEMPLATE {self._template} STRATEGY file_copy")
            url = sqlalchemy.make_url(settings.database_url.get_secret_value()).set(database="template_estate")
            address = SecretStr(url.render_as_string(hide_password=False))
            there = settings.model_copy(update={"database_url": address})
            with closing(Database(there)) as db, closing(Database(there, as_owner=True)) as owner:
                self._made = build(World(owner), db, there)
            self._cluster.is_left("template_estate")
            self._databases = Databases(self._cluster, "template_estate", prefix="estate", sessions=self._sessions)
        return self._databases.take()

    def give_back(self, name: str) -> None:
        """Put the database back as it was filled."""
        assert self._databases is not None
        self._databases.give_back(name)

    def shown(self, owner: Database, db: Database) -> Estate:
        """What is in a database that was taken, through the connections of a test."""
        assert self._made is not None
        return replace(self._made, world=World(owner, self._made.own.organisation_id), db=db)

    def close(self) -> None:
        if self._databases is not None:
            self._databases.close()


def build(world: World, db: Database, settings: Settings) -> Estate:
    """Fill both organisations. All ids are long, so that an answer that quotes one can be told from a count."""
    _restart_ids(world)
    own_id, foreign_id = world.organisation_id, world.organisation(f"Other {FOREIGN}")
    world.organisation_id = foreign_id
    foreign = _fill(world, db, settings, FOREIGN)
    world.organisation_id = own_id
    own = _fill(world, db, settings, "ours")
    return Estate(world, db, own, foreign)


def _fill(world: World, db: Database, settings: Settings, mark: str) -> Holding:
    organisation_id = world.organisation_id
    learner = f"learner-{mark}"
    owned = world.enrolment(learner, pathway_id=world.pathway(f"Pathway {mark}"))
    plain = world.enrolment(learner)
    for table, column in (("series", "title"), ("learners", "display_name")):
        world.run(f"UPDATE lms.{table} SET {column} = :t WHERE organisation_id = :o", t=mark, o=organisation_id)
    world.run("UPDATE lms.learners SET email = :e WHERE organisation_id = :o", e=f"{mark}@x.example", o=organisation_id)
    url = f"https://{mark}.example/hooks"
    endpoint = endpoints.create(
        db, settings, organisation_id=organisation_id, url=url, events=["job.held"], actor=f"test:{mark}"
    ).endpoint
    with db.begin() as connection:
        delivery_id = webhook_deliveries.insert_test(connection, organisation_id, endpoint.id)
    mailing = settings.model_copy(update={"mail_url": SecretStr("mailto://mail.invalid?from=service@x.example")})
    to = NotificationRequest(to=f"{mark}@x.example")
    target = targets.add(db, mailing, organisation_id=organisation_id, wanted=to, actor=f"test:{mark}")
    with db.begin() as connection:
        message_id = notification_messages.insert_test(
            connection, organisation_id, target.id, lifetime=timedelta(hours=1)
        )
    requester = Requester(organisation_id, f"token:{mark}", "api", mark)
    request = JobRequest(reason="not_required", enrolment_ids=[owned, plain, NOBODY_S - 1], note=f"note {mark}")
    job = submit(db, requester, request).job
    decide_due(db, settings)
    letter = world.one("SELECT min(id) FROM withdrawals.dead_letters WHERE organisation_id = :o", o=organisation_id)
    run = runs.start(
        db, organisation_id=organisation_id, act="redrive", wanted=LetterFilter(), actor=f"test:{mark}", note=mark
    )
    make_source(db, settings, organisation_id, f"hr-{mark}")
    machine = tokens.create(
        db, organisation_id=organisation_id, name=f"machine-{mark}", role="viewer", actor=f"test:{mark}"
    )
    back = PersonEvent(type="user.reactivated", external_id=learner)
    proposal = limits.propose(
        db, organisation_id=organisation_id, wanted=LimitRequest(note=mark, floor=1000), who=Actor(f"test:{mark}")
    )
    world.learner(f"held-{mark}")
    wanted = ProtectionRequest(learner_external_id=f"held-{mark}", kind="legal_hold", reason=mark)
    hold = protections.protect(db, organisation_id=organisation_id, wanted=wanted, who=Actor(f"test:{mark}"))
    wanted_view = ViewRequest(list=ListName.JOBS, name=mark, filter={"requested_by": mark}, shared=True)
    view = saved_views.save(db, organisation_id=organisation_id, wanted=wanted_view, who=Actor(f"test:{mark}"))
    receipt = events.record(db, Requester(organisation_id, f"hr:{mark}", f"hr:{mark}", mark), mark, back)
    return Holding(
        organisation_id,
        {
            "job_id": job.id,
            "letter_id": letter,
            "enrolment_id": plain,
            "run_id": run.id,
            "webhook_id": endpoint.id,
            "delivery_id": delivery_id,
            "notification_id": target.id,
            "target_id": target.id,
            "message_id": message_id,
            "receipt_id": receipt.id,
            "view_id": view.id,
            "proposal_id": proposal.id,
            "approval_id": _approval(db, organisation_id, letter, mark),
            "source_id": world.one("SELECT max(id) FROM withdrawals.sources"),
            "token_id": machine.token.id,
            "member_id": _member(db, organisation_id, mark),
            "session_id": _session(world, db, settings, organisation_id, mark),
            "protection_id": hold.id,
            "roster_id": _roster(world, db, organisation_id, mark),
            "external_id": learner,
            "upload_id": _keep_faults(db, organisation_id, mark),
            "user_id": world.learner(learner),
            **_scheduled(db, settings, organisation_id, mark),
            "series_id": world.one("SELECT series_id FROM lms.enrolments WHERE id = :id", id=plain),
        },
    )


def _scheduled(db: Database, settings: Settings, organisation_id: int, mark: str) -> dict[str, int]:
    """A report that is made again and again, and its file."""
    wanted = ScheduleRequest(report=Report.ENROLMENTS, every=Every.DAILY, covers=Covers.ALL)
    made = schedules.create(db, organisation_id=organisation_id, wanted=wanted, who=Actor(f"test:{mark}"))
    schedules.make_now(db, organisation_id=organisation_id, schedule_id=made.id, who=Actor(f"test:{mark}"))
    scheduled_files.make_due(db, settings)
    with db.begin() as connection:
        (file,) = report_files.list_files(connection, organisation_id, before=None, limit=1)
    return {"schedule_id": made.id, "file_id": file.id}


def _roster(world: World, db: Database, organisation_id: int, mark: str) -> int:
    """A roster that is planned and changes nothing, of everybody."""
    rows = world.run("SELECT external_id, active FROM lms.learners WHERE organisation_id = :o", o=organisation_id)
    wanted = RosterRequest(as_of=datetime(2026, 1, 1, tzinfo=UTC))
    people = [(row.external_id, row.active) for row in rows]
    return rosters.plan_people(
        db, organisation_id=organisation_id, actor=f"test:{mark}", wanted=wanted, people=people
    ).id


def _approval(db: Database, organisation_id: int, letter_id: int, mark: str) -> int:
    """An override of the letter that somebody else asked for."""
    row = {
        "act": "override",
        "subject": f"letter {mark}",
        "consequence": f"Withdraws {mark}.",
        "arguments": {"letter_ids": [letter_id], "door": "api", "effect": {"learners": 1, "others": 0}},
        "size": 1,
        "alone_up_to": 0,
        "reason": mark,
        "requested_by": f"test:{mark}",
    }
    with db.begin() as connection:
        return approvals.insert_approval(connection, organisation_id, row, lifetime=timedelta(days=1))


def _session(world: World, db: Database, settings: Settings, organisation_id: int, mark: str) -> int:
    """The session of somebody else in the organisation."""
    made = tokens.create(
        db, organisation_id=organisation_id, name=f"session-{mark}", role="viewer", actor=f"test:{mark}"
    )
    assert sessions.sign_in(db, made.secret, limits=Limits.of(settings), browser=mark)
    return int(world.one("SELECT max(id) FROM withdrawals.sessions"))


def _member(db: Database, organisation_id: int, mark: str) -> int:
    with db.begin() as connection:
        return members.record_sign_in(
            connection, organisation_id, issuer="https://idp.example", subject=mark, name=mark, email=None
        )


def _keep_faults(db: Database, organisation_id: int, mark: str) -> str:
    """The upload of a file with faults, sent by nobody who has a token."""
    with db.begin() as connection:
        made = uploads.keep(connection, organisation_id, requested_by=f"test:{mark}", name=f"{mark}.csv", stream=None)
        uploads.keep_faults(connection, organisation_id, made, BytesIO(mark.encode()), "csv")
    return str(made.id)


def _restart_ids(world: World) -> None:
    columns = world.run(
        "SELECT table_schema || '.' || table_name, column_name FROM information_schema.columns"
        " WHERE table_schema IN ('lms', 'withdrawals') AND is_identity = 'YES' ORDER BY 1"
    )
    for number, (table, column) in enumerate(columns):
        world.run(f"ALTER TABLE {table} ALTER COLUMN {column} RESTART WITH {7_000_000 + 10_000 * number}")


FIXED = {"format": "csv", "name": "User", "source": f"hr-{FOREIGN}"}
"""Parts of a path that are not ids of an organisation's records."""


def path_for(path: str, ids: dict[str, Any]) -> str:
    """The path with its parts filled in; a part that is not known here is an error: add a record of its kind."""
    return path.format(**{**FIXED, **ids})


def absent(ids: dict[str, Any]) -> dict[str, Any]:
    """The ids of no record."""
    return dict.fromkeys(ids, NOBODY_S)


def body_for(operation: dict[str, Any], document: dict[str, Any]) -> dict[str, Any]:
    """What `TestClient.request` is given so that the call has a valid body, made from the OpenAPI document."""
    content = operation.get("requestBody", {}).get("content", {})
    if "as_of" in content.get("multipart/form-data", {}).get("schema", {}).get("properties", {}):
        return {"data": {"as_of": "2026-01-02"}, "files": {"file": ("all.csv", f"learner_external_id\n{NOBODY_S}\n")}}
    if "multipart/form-data" in content:
        return {"data": {"reason": "not_required"}, "files": {"file": ("ids.csv", f"enrolment_id\n{NOBODY_S}\n")}}
    if not content:
        return {}
    media_type, described = next(iter(content.items()))
    value = described.get("example", None) or example(described["schema"], document)
    if "remedy" in value:
        value["remedy"] = "keep"  # the remedy that the operation's own role may choose; the others have a test
    return {"content": json.dumps(value), "headers": {"Content-Type": media_type}}


def example(schema: dict[str, Any], document: dict[str, Any]) -> Any:  # noqa: PLR0911 - one return for each kind
    """The smallest value of a JSON schema, or the example that it gives."""
    if "$ref" in schema:
        return example(document["components"]["schemas"][schema["$ref"].rpartition("/")[2]], document)
    if schema.get("examples"):
        return schema["examples"][0]
    if "enum" in schema or "const" in schema:
        return schema.get("const", schema.get("enum", [None])[0])
    for several in ("anyOf", "allOf", "oneOf"):
        if several in schema:
            return example(schema[several][0], document)
    match schema.get("type"):
        case "object":
            fields = schema.get("properties", {})
            return {name: example(fields[name], document) for name in schema.get("required", [])}
        case "array":
            return [example(schema["items"], document)] * schema.get("minItems", 0)
        case "string":
            return "2026-03-01T08:00:00Z" if schema.get("format") == "date-time" else "text"
        case "integer" | "number":
            return schema.get("minimum", 1)
    return None
