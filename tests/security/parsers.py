"""The parsers of foreign bytes: what each is fed, and the errors that it documents. Any other error is a defect.

A parser raises nothing that is not on its list. What it accepts satisfies the property that is checked beside it.
"""

import io
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any
from unittest import mock
from zoneinfo import ZoneInfo

from joserfc.jwk import ECKey
from pydantic import TypeAdapter, ValidationError
from scim2_models import SCIMException
from sqlalchemy.dialects import postgresql
from starlette.requests import Request

from schemas.events import PersonEvent
from schemas.jobs import JobRequest, Moment, When
from worker import config
from worker.access import public_keys
from worker.access.sealing import Seal
from worker.access.tokens import _TOKEN
from worker.config import settings
from worker.database_urls import parse_url
from worker.dead_letters import desk
from worker.errors import InvalidInputError, SettingsError
from worker.ids import LARGEST, next_cursor, parse_cursor, parse_id, parse_pair_cursor
from worker.jobs import plan
from worker.jobs.files import rows
from worker.jobs.files.faults import Faults
from worker.jobs.files.rows import Asked
from worker.jobs.selection import selection_of
from worker.people import event_publishers
from worker.people.hr_records import finch as hr_finch
from worker.people.hr_records import hibob as hr_hibob
from worker.people.hr_records import personio as hr_personio
from worker.people.hr_records import record
from worker.people.inbox import IncomingEvent
from worker.web import body
from worker.web.api.submit import idempotency_key
from worker.web.body import NotJsonError
from worker.web.console import times
from worker.web.console.forms import parse_choice
from worker.web.console.sign_in import path_inside
from worker.web.console.view import _zone
from worker.web.hooks import bamboohr, common, finch, hibob, hr, okta, personio, security_events
from worker.web.problems import ProblemError
from worker.web.scim import filtering
from worker.web.scim.errors import MEDIA_TYPE
from worker.web.scim.service import SERVICE, USERS, User

Error = type[Exception]


@dataclass(frozen=True)
class Parser:
    """`read` is fed the bytes and checks what it accepts; `errors` are those that it documents."""

    read: Callable[[bytes], None]
    errors: tuple[Error, ...] = ()
    words: tuple[str, ...] = ()
    """What its language is made of, for inputs that come further than the first check."""

    def feed(self, data: bytes) -> bool:
        """Whether it accepted the bytes."""
        try:
            self.read(data)
        except self.errors:
            return False
        return True


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _json(data: bytes) -> None:
    value = body.parse(data)
    assert body.parse(json.dumps(value).encode()) == value


def _event(event: IncomingEvent) -> None:
    assert not (event.event and event.fault)
    assert 0 < len(event.key) <= common.MAX_KEY_LENGTH
    event.key.encode()
    if event.event is not None:
        assert "\0" not in event.event.external_id
    if isinstance(event.event, PersonEvent):
        assert type(event.event).model_validate(event.event.model_dump()) == event.event


def _standard(data: bytes) -> None:
    _event(hr.read_event("msg_1", data))


def _okta(data: bytes) -> None:
    for event in okta.read_events(body.parse(data)):
        _event(event)


def _bamboohr(data: bytes) -> None:
    for event in bamboohr.read_events(body.parse(data), datetime.now(UTC)):
        _event(event)


def _hibob(data: bytes) -> None:
    assert hibob.is_ping(data) in (True, False)
    for event in hibob.read_events(body.parse(data)):
        _event(event)


def _personio(data: bytes) -> None:
    for event in personio.read_events(body.parse(data)):
        _event(event)


def _finch(data: bytes) -> None:
    for event in finch.read_events(body.parse(data), "msg_1", datetime.now(UTC)):
        _event(event)


def _security_event(data: bytes) -> None:
    event = security_events.read_event(security_events.read_claims({}, data))
    if event is not None:
        _event(event)


def _signed_token(data: bytes) -> None:
    key = ECKey.import_key(
        {"kty": "EC", "crv": "P-256", "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
         "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}
    )  # fmt: skip
    assert public_keys.open_signed(_text(data), [key]) is None


def _publisher(data: bytes) -> None:
    found = event_publishers.check(_text(data))
    assert event_publishers.check(found) == found


def _hr_record(data: bytes) -> None:
    """What an HR system answers is foreign too."""
    value, today = body.parse(data), date(2026, 3, 1)
    readers: list[Callable[[], record.Record]] = [
        lambda: hr_hibob.read_record(value, "5005", today),
        lambda: hr_personio.read_record(value, today),
        lambda: hr_finch.read_record(value, "5005", today),
    ]
    for read in readers:
        try:
            assert isinstance(read(), record.Stays | record.Leaves)
        except (record.UnclearRecordError, record.NoAnswerError) as error:
            assert str(error).isprintable()


def _headers(*names: str) -> Callable[[bytes], Mapping[str, str]]:
    return lambda data: dict(zip(names, data.decode("latin-1").split("\n"), strict=False))


def _standard_signature(data: bytes) -> None:
    headers = _headers("webhook-signature", "webhook-timestamp", "webhook-id")(data)
    assert (
        hr.is_genuine("whsec_" + "c2VjcmV0" * 4, {"webhook-id": "", "webhook-timestamp": "", **headers}, data) is False
    )


def _bamboohr_signature(data: bytes) -> None:
    headers = _headers("x-bamboohr-signature", "x-bamboohr-timestamp")(data)
    assert bamboohr.is_genuine("secret", headers, data) is False


def _hibob_signature(data: bytes) -> None:
    assert hibob.is_genuine("secret", _headers("bob-signature")(data), data) is False


def _finch_signature(data: bytes) -> None:
    headers = _headers("finch-signature", "finch-timestamp", "finch-event-id")(data)
    assert finch.is_genuine("c2VjcmV0" * 4, headers, data) is False


def _scim_filter(data: bytes) -> None:
    text = _text(data)
    wanted, _ = SERVICE.read_search_query([USERS], {"filter": text})
    if wanted.filter is not None:
        condition = filtering.Conditions().visit(wanted.filter.ast)
        made = str(condition.compile(dialect=postgresql.dialect()))  # type: ignore[no-untyped-call]
        assert "'" not in made, "every value is bound"


def _scim_patch(data: bytes) -> None:
    operations = SERVICE.read_patch(USERS, data, MEDIA_TYPE)
    user = User(user_name="anna@example.org", external_id="4711", display_name="Anna", active=True)
    operations.patch(user, SERVICE.provider.policy)
    assert user.active in (True, False, None)
    assert user.user_name


def _scim_path(data: bytes) -> None:
    try:
        path = data.decode()
    except UnicodeDecodeError:
        return
    _scim_patch(json.dumps({"Operations": [{"op": "replace", "path": path, "value": "x"}]}).encode())


def _scim_user(data: bytes) -> None:
    user = SERVICE.read_creation(USERS, data, MEDIA_TYPE)
    assert isinstance(user, User)
    assert user.user_name


def _read_file(data: bytes) -> tuple[Faults, list[Asked]]:
    faults = Faults()
    with rows.opened(io.BytesIO(data)) as table:
        read = table.rows(faults)
        found = list(read.asked())
    assert read.count == len(found) + faults.count
    return faults, found


def _csv(data: bytes) -> None:
    faults, found = _read_file(data)
    written = "enrolment_id\n" + "".join(f"{row.enrolment_id}\n" for row in found if row.enrolment_id)
    _, again = _read_file(written.encode())
    assert [row.enrolment_id for row in again] == [row.enrolment_id for row in found if row.enrolment_id]
    assert all(0 < (row.enrolment_id or 1) <= LARGEST for row in found)
    assert all(row.enrolment_id or (row.series_code and (row.external_id or row.email or row.learner)) for row in found)
    assert all(fault.line > 1 and fault.message for fault in faults.first)


@dataclass
class _Row:
    id: int


def _cursor(data: bytes) -> None:
    found = parse_cursor(_text(data))
    assert found is not None
    assert 0 < found <= LARGEST
    assert parse_cursor(next_cursor([_Row(found)], 1)) == found


def _pair_cursor(data: bytes) -> None:
    found = parse_pair_cursor(_text(data))
    assert found is not None
    assert parse_pair_cursor(f"{found[0]}-{found[1]}") == found


def _desk_cursor(data: bytes) -> None:
    found = desk._parse_cursor(_text(data))
    assert desk._parse_cursor(desk._cursor(found)) == found


def _id(data: bytes) -> None:
    assert parse_id(str(parse_id(_text(data), "id")), "id") == parse_id(_text(data), "id")
    chosen = parse_choice(_text(data), "Series")
    assert chosen is None or 0 < chosen <= LARGEST


def _time(data: bytes) -> None:
    adapters: list[TypeAdapter[Any]] = [TypeAdapter(Moment), TypeAdapter(When)]
    for adapter in adapters:
        found = adapter.validate_python(_text(data))
        assert adapter.validate_python(found.isoformat()) == found
        if isinstance(found, datetime):
            found.astimezone(UTC)


def _typed_time(data: bytes) -> None:
    text, zone = _text(data), ZoneInfo("Asia/Tokyo")
    first, _, second = text.partition(" ")
    attempts: list[Callable[[], object]] = [
        lambda: times.parse_time(text, "at", zone),
        lambda: times.parse_day_and_time(first, second, zone),
        lambda: times.parse_days(first, second, zone),
        lambda: desk.parse_older_than(text),
    ]
    for attempt in attempts:
        try:
            attempt()
        except InvalidInputError:
            continue


def _plan_hash(data: bytes) -> None:
    selection = selection_of(JobRequest(reason="not_required", enrolment_ids=[1]))
    plan.open_plan(1, "not_required", selection, _text(data))
    raise AssertionError("a plan that nobody made was accepted")


def _sealed(data: bytes) -> None:
    assert Seal(settings(), "console").open(_text(data), within=60) is None


def _token(data: bytes) -> None:
    found = _TOKEN.fullmatch(data.decode("latin-1"))
    assert found is None or found[0].isascii()


def _key(data: bytes) -> None:
    scope = {"type": "http", "headers": [(b"idempotency-key", data)]}
    key = idempotency_key(Request(scope))
    assert key.isprintable()
    assert 0 < len(key) <= 255


def _next_page(data: bytes) -> None:
    path = path_inside(data.decode("latin-1"))
    assert path == "/console" or path.startswith(("/console/", "/console?"))
    assert "\\" not in path
    assert path.isprintable()


def _time_zone(data: bytes) -> None:
    assert _zone(data.decode("latin-1")) is not None


def _settings(data: bytes) -> None:
    lines = [line.partition("=") for line in data.decode("latin-1").replace("\0", "").split("\n")]
    given = {config.PREFIX + name: value for name, _, value in lines if name and name.isascii() and name.isprintable()}
    needed = {"DATABASE_URL": "postgresql://u:db-password@h/d", "BROKER_URL": "redis://:redis-password@h"}
    config.settings.cache_clear()
    try:
        with mock.patch.dict(os.environ, {**given, **needed}):
            config.settings()
    except SettingsError as error:
        assert "password" not in str(error)
        raise
    finally:
        config.settings.cache_clear()


def _database_url(data: bytes) -> None:
    try:
        assert isinstance(parse_url(_text(data)), dict)
    except SettingsError as error:
        assert error.__cause__ is None, "the cause would quote the password"
        raise


_SCIM = ("userName", "externalId", "displayName", "active", "id", "eq", "ne", "co", "sw", "ew", "pr", "and", "or",
         "not", "(", ")", '"', "[", "]", "true", "false", "emails", "urn:ietf:params:scim:schemas:core:2.0:User",
         "Operations", "op", "path", "value", "replace", "add", "remove", "schemas", "\\u0000", "\\ud800")  # fmt: skip
_HR = ("type", "timestamp", "data", "external_id", "effective_at", "sequence", "user.deactivated", "user.reactivated",
       "2026-03-01T08:00:00Z", "2026-03-01", "events", "uuid", "eventType", "user.lifecycle.deactivate", "published",
       "outcome", "result", "target", "id", "User", "employees", "fields", "status", "Status", "Inactive", "action",
       "changedFields", "9223372036854775807", "1e999", "\\u0000", "\\ud800", "null")  # fmt: skip
_RECORDS = ("event_name", "employment.updated", "occurred_at", "payload", "person_id", "person", "id", "event_type",
            "individual_id", "triggeredAt", "employee.left", "table.entry.updated", "tableId", "lifecycle", "data",
            "employeeId", "type", "Ping test", "text", "2026-03-01T08:00:00.5", "9999-12-31T23:59:59", "5005",
            "employees", "/root/id", "value", "internal", "terminationDate", "lifecycleStatus", "terminated", "_data",
            "status", "INACTIVE", "employment_end_date", "termination", "termination_date", "responses", "code", "200",
            "body", "is_active", "true", "false", "end_date", "latest_rehire_date", "employment_status")  # fmt: skip
_SETS = ("iss", "aud", "jti", "iat", "toe", "txn", "sub", "sub_id", "format", "scim", "uri", "/Users/1", "externalId",
         "events", "urn:ietf:params:scim:event:prov:deactivate", "urn:ietf:params:scim:event:prov:patch:full", "data",
         "urn:ietf:params:scim:event:prov:put:notice", "attributes", "active", "Operations", "op", "path", "value",
         "true", "1458505044", "1e18", "1e999", "\\ud800", "\\u0000", "null", "keys", "issuer", "audience", "kty", "EC",
         "RSA", "crv", "P-256", "x", "y", "n", "e", "AQAB")  # fmt: skip
_TIMES = ("2026-03-01", "T", "t", " ", "08:00:00", "Z", "+23:59", "-00:00", "+14:00", ".5", "0001-01-01", "9999-12-31",
          "24:00", "60", "W01", "999999d", "1h", "\u0661")  # fmt: skip

PARSERS: dict[str, Parser] = {
    "json": Parser(_json, (NotJsonError, RecursionError), ("{", "}", "[", "]", ":", ",", '"', "NaN", "1e9", "\\ud800")),
    "standard_event": Parser(_standard, (), _HR),
    "okta_events": Parser(_okta, (NotJsonError, RecursionError, ValidationError), _HR),
    "bamboohr_events": Parser(_bamboohr, (NotJsonError, RecursionError, ValidationError), _HR),
    "standard_signature": Parser(_standard_signature, (), ("v1,", "v1a,", " ", "\n", "=", "AAAA", "1800000000", "é")),
    "bamboohr_signature": Parser(_bamboohr_signature, (), ("\n", "1800000000", "a" * 64, "\u0661", "-1")),
    "hibob_events": Parser(_hibob, (NotJsonError, RecursionError, ValidationError), _RECORDS),
    "personio_events": Parser(_personio, (NotJsonError, RecursionError, ValidationError), _RECORDS),
    "finch_events": Parser(_finch, (NotJsonError, RecursionError, ValidationError), _RECORDS),
    "hr_record": Parser(_hr_record, (NotJsonError,), _RECORDS),
    "hibob_signature": Parser(_hibob_signature, (), ("AAAA", "=", "\n", "é")),
    "finch_signature": Parser(_finch_signature, (), ("v1,", " ", "\n", "=", "AAAA", "1800000000", "é")),
    "security_event": Parser(_security_event, (security_events.RefusedSetError, RecursionError), _SETS),
    "signed_token": Parser(_signed_token, (), ("eyJhbGciOiJFUzI1NiJ9", "eyJhbGciOiJub25lIn0", ".", "e30", "AAAA", "=")),
    "publisher": Parser(_publisher, (InvalidInputError,), _SETS),
    "scim_filter": Parser(_scim_filter, (SCIMException,), _SCIM),
    "scim_patch": Parser(_scim_patch, (SCIMException,), _SCIM),
    "scim_path": Parser(_scim_path, (SCIMException,), _SCIM),
    "scim_user": Parser(_scim_user, (SCIMException,), _SCIM),
    "csv": Parser(_csv, (InvalidInputError,), ("enrolment_id", "reason", "\n", "\r", ",", '"', "1", "-1", "\ufeff", ";",
                  "sep=;", "email", "series", "pathway", "user id", "a@b.example", "'=", "PK\x03\x04", "\0")),
    "cursor": Parser(_cursor, (InvalidInputError,), ("1", "9" * 18, "-", " ", "\u0661", "0")),
    "pair_cursor": Parser(_pair_cursor, (InvalidInputError,), ("1", "9" * 18, "-", " ", "\u0661", "0")),
    "desk_cursor": Parser(_desk_cursor, (InvalidInputError,), ("closed", "-", "1", "9" * 18, "0")),
    "id": Parser(_id, (InvalidInputError,), ("0", "1", "9" * 19, " ", "-", "+", "_", "\u0661", "²")),
    "time": Parser(_time, (ValidationError,), _TIMES),
    "typed_time": Parser(_typed_time, (), _TIMES),
    "plan_hash": Parser(_plan_hash, (InvalidInputError,), ("gAAAAA", "=", "-", "_")),
    "sealed": Parser(_sealed, (), ("gAAAAA", "=", "-", "_", "\u0661")),
    "token": Parser(_token, (), ("wdt", "_", "0" * 16, "A" * 43)),
    "idempotency_key": Parser(_key, (ProblemError,), (" ", "a", "\t")),
    "next_page": Parser(_next_page, (), ("/console", "/", "?", "//", "\\", "\r\n", "@", "evil.example", "\u00a0")),
    "time_zone": Parser(_time_zone, (), ("Europe/Paris", "..", "/", "etc", "UTC", "\0", "posixrules")),
    "settings": Parser(_settings, (SettingsError,), ("PORT", "=", "\n", "RATE_LIMIT", "LETTER_TARGET_HOURS", "poison=8",
                       ",", "LOG_LEVEL", "info", "1e400", "nan", "-1", "BRAKE_SHARE", "0.5", "true")),
    "database_url": Parser(_database_url, (SettingsError,), ("postgresql", "://", "user", ":", "password",
                           "@", "host", "5432", "/", "name", "?", "host=a,b", "[", "::1", "]", "%", ",")),
}  # fmt: skip
