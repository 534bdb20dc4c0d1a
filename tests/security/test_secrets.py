"""Secrets and personal data stay where they belong: not in logs, answers, pages, redirects, metrics or process lists.

Web, relay and worker are real processes, with secrets that can be found by searching, and requests of all kinds: right
ones, malformed ones, ones that end in 500 and in 503.
"""

import json
import sys
import traceback
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import psycopg
import pytest
import sqlalchemy

from schemas.notifications import NotificationRequest
from tests.support.commandline import withdrawals
from tests.support.processes import RELAY, WORKER, family, process
from tests.support.scraping import free_port
from tests.support.web import event, make_source, signed
from tests.world import PATIENCE, World, eventually
from worker.access import tokens
from worker.config import Settings, settings
from worker.database import Database, driver
from worker.notifications import targets
from worker.webhooks import endpoints

WEB = [sys.executable, "-m", "ops", "web"]
PASSWORD = "Pa55-of-the-database"  # noqa: S105 - these are to be looked for
KEY = "K3y-that-encrypts-secrets-at-rest"
ADDRESS, NAME, EXTERNAL_ID, NOTE = (
    "renee@people.example",
    "Zoraida Quintanilla",
    "emp-zz70077",
    "because of her illness",
)
PERSONAL = (ADDRESS, NAME, "Quintanilla", EXTERNAL_ID, NOTE)


@dataclass
class Running:
    """The service as processes, and all that it says."""

    address: str
    log: Path
    pids: list[int]
    secrets: dict[str, str]
    said: list[tuple[str, str]] = field(default_factory=list)
    """Answers as text with their headers, by request."""

    def ask(self, method: str, path: str, **given: Any) -> httpx2.Response:
        """Make a request, and keep the answer."""
        answer = httpx2.request(method, self.address + path, timeout=PATIENCE, follow_redirects=False, **given)
        headers = "\n".join(f"{name}: {value}" for name, value in answer.headers.items() if name != "set-cookie")
        self.said.append((f"{method} {path} -> {answer.status_code}", f"{headers}\n{answer.text}"))
        return answer

    def bearer(self, role: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.secrets[role]}"}


@pytest.fixture
def running(
    world: World, db: Database, environment: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Running]:
    organisation_id = world.organisation_id
    secrets = {
        role: tokens.create(db, organisation_id=organisation_id, name=role, role=role, actor="test:x").secret
        for role in ("approver", "producer", "scim")
    }
    monkeypatch.setenv("WITHDRAWALS_SECRET_KEY", KEY)
    settings.cache_clear()
    keyed = environment.model_copy(update={"secret_key": settings().secret_key})
    for kind in ("standard", "okta", "bamboohr"):
        secrets[kind] = make_source(db, keyed, organisation_id, kind, kind)
    secrets["webhook"] = endpoints.create(
        db,
        keyed,
        organisation_id=organisation_id,
        url="https://help.invalid/hooks",
        events=["job.completed"],
        actor="t:x",
    ).secret
    secrets["mail"] = "Pa55-of-the-mail-server"
    to = f"mailto://service:{secrets['mail']}@mail.invalid?from=a@mail.invalid&to=b@mail.invalid"
    targets.add(db, keyed, organisation_id=organisation_id, wanted=NotificationRequest(url=to), actor="t:x")
    url = _with_password(world, environment)
    port = free_port()
    chatty = {
        "DATABASE_URL": url,
        "WITHDRAWALS_PORT": str(port),
        "WITHDRAWALS_LOG_LEVEL": "debug",
        "WITHDRAWALS_LOG_FORMAT": "json",
        "WITHDRAWALS_MAX_ATTEMPTS": "1",
    }
    log = tmp_path / "log"
    with log.open("wb") as sink, ExitStack() as stack:
        children = [stack.enter_context(process(command, chatty, log=sink)) for command in (WEB, RELAY, WORKER)]
        found = Running(f"http://127.0.0.1:{port}", log, [child.pid for child in children], secrets)
        eventually(lambda: _is_ready(found.address), what="the web process answers")
        yield found


def test_no_secret_and_no_person_is_found_where_they_do_not_belong(running: Running, world: World) -> None:
    enrolments = [world.enrolment(EXTERNAL_ID) for _ in range(3)]
    world.run("UPDATE lms.learners SET email = :e, display_name = :n", e=ADDRESS, n=NAME)
    _refuse(world, enrolments[0])
    _ask_rightly(running, enrolments)
    wrong = len(running.said)
    _ask_wrongly(running)
    _break_rows(world)
    _ask_everything(running, expected=500)
    cookie = running.secrets["cookie"] = _sign_in(running)
    eventually(lambda: world.one("SELECT count(*) FROM withdrawals.jobs WHERE finished_at IS NULL") == 0)
    arguments = "\n".join(_arguments(pid) for pid in running.pids)
    _stop_database(world)
    _ask_everything(running, expected=503)
    logged = running.log.read_text(encoding="utf-8")
    assert {"web.failed", "chunk.decided", "attempt.failed"} <= _events(logged), "nothing was logged"
    assert {500, 503, 400, 401, 404, 413, 415, 422} <= {int(name.rpartition(" ")[2]) for name, _ in running.said}

    private = {**running.secrets, "database password": PASSWORD, "key": KEY}
    private |= {f"half of {name}": value[len(value) // 2 :] for name, value in private.items()}
    for name, secret in private.items():
        assert secret not in logged, f"{name} is in a log"
        assert secret not in arguments, f"{name} is in a list of processes"
        for request, answer in running.said:
            assert secret not in answer, f"{name} is in the answer to {request}"
    assert cookie not in logged
    for word in PERSONAL:
        lines = [line for line in logged.splitlines() if word in line or word.encode("unicode_escape").decode() in line]
        assert not lines, (word, lines[:3])
        assert word not in arguments
        for request, answer in running.said[wrong:]:
            assert word not in answer or request.endswith(" 200"), (word, request, answer[:500])
    for path in ("/metrics", "/readyz", "/healthz", "/openapi.json"):
        for request, answer in running.said:
            if path in request:
                assert not [word for word in PERSONAL if word in answer], request


WRONG = [
    ("DATABASE_URL", "postgresql://u:{secret}@127.0.0.1:1/d"),
    ("DATABASE_URL", "postgresql://u:{secret}@[::1/d"),
    ("DATABASE_URL", "mysql://u:{secret}@h/d"),
    ("DATABASE_URL", "host=h password={secret}"),
    ("BROKER_URL", "redis://:{secret}@127.0.0.1:1/0"),
    ("BROKER_URL", "amqp://u:{secret}@127.0.0.1:1/w"),
    ("BROKER_URL", "amqp://u:{secret}@h:port"),
    ("BROKER_URL", "redis+sentinel://u:{secret}@h"),
    ("BROKER_URL", "redis+sentinel://:{secret}@127.0.0.1:1/m?sentinel_password={secret}"),
    ("BROKER_URL", "{secret}"),
    ("WITHDRAWALS_SECRET_KEY", "{secret}"),
    ("WITHDRAWALS_PORT", "{secret}"),
]


@pytest.mark.parametrize("command", ["config", "doctor", "web"])
def test_a_command_never_prints_the_secret_in_a_wrong_setting(
    environment: Settings, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """Not what it is for, not what is wrong with it, and not in an error that nobody foresaw."""
    secret = "zq" + "7secret9"
    for variable, value in WRONG:
        if command == "web" and "127.0.0.1:1" in value:
            continue  # it would start, and wait for the server to come back
        with monkeypatch.context() as patched:
            patched.setenv(variable, value.format(secret=secret))
            try:
                ran = withdrawals(command)
                told = ran.out + ran.err
            except Exception as error:  # Python would print it
                told = "".join(traceback.format_exception(error))
        assert told
        assert secret not in told, told


def _with_password(world: World, environment: Settings) -> str:
    """The database's address with a role of its own that signs in with a password."""
    made = f"CREATE ROLE whose_password LOGIN PASSWORD '{PASSWORD}'"
    world.run(f"DO $$ BEGIN {made}; EXCEPTION WHEN duplicate_object THEN END $$")
    world.run(f"GRANT {environment.database_role} TO whose_password")
    url = sqlalchemy.make_url(environment.database_url.get_secret_value())
    return url.set(username="whose_password", password=PASSWORD).render_as_string(hide_password=False)


def _is_ready(address: str) -> bool:
    try:
        return httpx2.get(f"{address}/healthz", timeout=PATIENCE).status_code == 200
    except httpx2.HTTPError:
        return False


def _refuse(world: World, enrolment_id: int) -> None:
    """A trigger of the platform that quotes the learner."""
    world.run(f"""
        CREATE FUNCTION lms.refuse() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN
            RAISE EXCEPTION 'learner {ADDRESS} ("{EXTERNAL_ID}", ''{NAME}'') is locked';
        END $$""")
    world.run(f"""
        CREATE TRIGGER refuse BEFORE UPDATE OF status ON lms.enrolments FOR EACH ROW
            WHEN (old.id = {enrolment_id}) EXECUTE FUNCTION lms.refuse()""")


def _ask_rightly(running: Running, enrolments: list[int]) -> None:
    approver, key = running.bearer("approver"), {"Idempotency-Key": "k-1"}
    body = {"reason": "not_required", "enrolment_ids": enrolments[:2], "note": NOTE}
    assert running.ask("POST", "/v1/jobs", headers={**approver, **key}, json=body).status_code == 202
    user = {"userName": f"x{ADDRESS}", "externalId": f"{EXTERNAL_ID}-2", "displayName": NAME}
    running.ask("POST", "/scim/v2/Users", headers=running.bearer("scim"), json=user)
    raw = json.dumps(event(EXTERNAL_ID)).encode()
    sent = signed(running.secrets["standard"], raw)
    assert running.ask("POST", "/hooks/hr/standard", headers=sent, content=raw).status_code == 202
    okta = {"Authorization": running.secrets["okta"]}
    assert running.ask("POST", "/hooks/okta/okta", headers=okta, json={"data": {"events": []}}).status_code == 200
    for path in (
        "/metrics",
        "/readyz",
        "/healthz",
        "/openapi.json",
        "/v1/webhooks",
        "/v1/notifications",
        "/v1/dead-letters",
        "/v1/jobs",
    ):
        running.ask("GET", path, headers=approver)
    endpoint = running.ask("GET", "/v1/webhooks", headers=approver).json()
    (one,) = endpoint if isinstance(endpoint, list) else endpoint["items"]
    running.ask("POST", f"/v1/webhooks/{one['id']}/test", headers=approver)
    (target,) = running.ask("GET", "/v1/notifications", headers=approver).json()["items"]
    sent = running.ask("POST", f"/v1/notifications/{target['id']}/test", headers=approver).json()
    assert sent["state"] == "failed"
    running.ask("GET", "/v1/notifications/messages", headers=approver)
    del running.said[:4]  # what was asked for by whoever may see it


def _ask_wrongly(running: Running) -> None:
    approver = running.bearer("approver")
    for secret in running.secrets.values():
        running.ask("GET", "/v1/jobs", headers={"Authorization": f"Bearer {secret}x"})
        running.ask("GET", "/console", headers={"Cookie": f"withdrawals_session={secret}x"})
        running.ask("POST", "/console/sign-in", data={"token": f"{secret}x", "next": "/console/jobs"})
        running.ask("POST", "/hooks/hr/standard", headers={"webhook-signature": secret}, json={})
        running.ask("POST", "/hooks/okta/okta", headers={"Authorization": f"{secret}x"}, json={})
        running.ask("GET", f"/nowhere/{'x' * 10}", headers={"X-Secret": secret})
    for body in (b"{", json.dumps({"reason": ADDRESS, NAME: EXTERNAL_ID}).encode(), b"[" * 100_000):
        headers = {**approver, "Idempotency-Key": "k-2", "Content-Type": "application/json"}
        running.ask("POST", "/v1/jobs", headers=headers, content=body)
        running.ask("POST", "/scim/v2/Users", headers=running.bearer("scim"), content=body)
        running.ask("POST", "/hooks/hr/standard", headers=signed(running.secrets["standard"], body), content=body)
    running.ask("POST", "/v1/jobs", headers={**approver, "Idempotency-Key": "k"}, content=b" " * 5_000_000)
    running.ask(
        "POST", "/v1/jobs", headers={**approver, "Idempotency-Key": "k", "Content-Type": "text/x"}, content=b"x"
    )
    running.ask("GET", "/v1/jobs/987654321", headers=approver)
    running.said = [
        one for one in running.said if NAME not in one[1] or "invalid" not in one[1]
    ]  # names a field as sent


def _sign_in(running: Running) -> str:
    answer = httpx2.post(
        f"{running.address}/console/sign-in", data={"token": running.secrets["approver"]}, timeout=PATIENCE
    )
    cookie = str(answer.cookies["withdrawals_session"])
    for path in ("/console", "/console/jobs", "/console/withdraw", "/console/nowhere", "/console/runs"):
        running.ask("GET", path, headers={"Cookie": f"withdrawals_session={cookie}"})
    return cookie


def _break_rows(world: World) -> None:
    """A column is gone, as after a wrong migration: every read of jobs ends in an error that nobody foresaw."""
    world.run("ALTER TABLE withdrawals.jobs RENAME COLUMN note TO another")


def _ask_everything(running: Running, *, expected: int) -> None:
    approver = running.bearer("approver")
    body = {"reason": "not_required", "learner_external_id": EXTERNAL_ID, "note": NOTE}
    running.ask("POST", "/v1/jobs", headers={**approver, "Idempotency-Key": f"k-{expected}"}, json=body)
    answer = running.ask("GET", "/v1/jobs", headers=approver)
    assert answer.status_code == expected, answer.text
    running.ask("GET", "/console/jobs", headers={"Cookie": f"withdrawals_session={running.secrets.get('cookie', 'x')}"})
    running.ask("GET", "/scim/v2/Users", headers=running.bearer("scim"), params={"filter": f'userName eq "{ADDRESS}"'})
    raw = json.dumps(event(EXTERNAL_ID)).encode()
    running.ask("POST", "/hooks/hr/standard", headers=signed(running.secrets["standard"], raw), content=raw)
    running.ask("GET", "/readyz")
    running.ask("GET", "/metrics")


def _stop_database(world: World) -> None:
    """Nobody may connect to this database any more, and those who are connected are thrown out."""
    name = world.one("SELECT current_database()")
    with world.owner.begin() as connection:
        server = driver(connection).info
    with psycopg.connect(
        host=server.host, port=server.port, user=server.user, dbname="postgres", autocommit=True
    ) as admin:
        admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])


def _arguments(pid: int) -> str:
    """What everybody on the machine can see of a process and its children."""
    return "\n".join(
        Path(f"/proc/{one}/{file}").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        for one in family(pid)
        for file in ("cmdline", "comm", "status")
    )


def _events(logged: str) -> set[str]:
    return {json.loads(line)["event"] for line in logged.splitlines() if line.startswith("{")}
