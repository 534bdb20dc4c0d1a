"""Every secret is rotated while requests come in, and none of them is refused (docs/operations/rotate-secrets.md)."""

from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import redis
import sqlalchemy
from pydantic import SecretStr
from standardwebhooks import Webhook

from schemas.people import ErasureRequest
from tests.conftest import ROLE
from tests.support.commandline import done, withdrawals
from tests.support.incoming import incoming, make_registered
from tests.support.traffic import traffic
from tests.world import World, decide_due, eventually
from worker.access import keys, memory, tokens
from worker.config import Settings, settings
from worker.database import Database
from worker.errors import ConflictError
from worker.ledger.hr_sources import RegisteredSource
from worker.people import erasure, hr_sources, source_requests
from worker.queue.broker import make_broker
from worker.webhooks import endpoints
from worker.webhooks.deliveries import Deliverer

OLD, NEW = "the-old-key-of-the-tests", "the-new-key-of-the-tests"


def test_the_secret_key_is_rotated_and_what_it_sealed_is_sealed_anew(
    db: Database, owner: Database, environment: Settings, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def keyed(key: str) -> Settings:
        monkeypatch.setenv("WITHDRAWALS_SECRET_KEY", key)
        settings.cache_clear()
        return environment.model_copy(update={"secret_key": SecretStr(key)})

    old = keyed(OLD)
    made = hr_sources.create(
        db, old, organisation_id=world.organisation_id, name="workday", kind="standard", actor="test"
    )
    hr_sources.rotate(
        db, old, organisation_id=world.organisation_id, source_id=made.source.id, actor="test", secret=made.secret
    )
    endpoints.create(
        db, old, organisation_id=world.organisation_id, url="https://help.example", events=["job.held"], actor="test"
    )
    gone = ErasureRequest(external_id="mia", note="request 12")
    erasure.erase(owner, organisation_id=world.organisation_id, request=gone, actor="dpo")
    current = [old]

    def authenticate() -> None:
        memory.forget_all()
        found = source_requests.authenticate(
            db, current[0], kind="standard", called="workday", genuine=lambda secret: secret == made.secret
        )
        assert found is not None

    with traffic(authenticate) as more:
        for key in (f"{OLD},{NEW}", f"{NEW},{OLD}"):  # each process is restarted, one after the other
            current[0] = keyed(key)
            more()
        assert set(done("keys", "list")["older"]) == {
            "sources.secret", "sources.previous_secret", "endpoints.secret", "organisation_settings.erasure_key",
        }  # fmt: skip
        assert "older keys have sealed" in withdrawals("doctor").out
        assert sum(done("keys", "reseal")["resealed"].values()) == 4
        assert done("keys", "reseal") == {"resealed": {}, "older": {}, "unreadable": {}}
        more()
        current[0] = keyed(NEW)
    with pytest.raises(ConflictError, match="erased"):
        world.event(db, "deactivated", "mia")
    assert keys.look(db, old).unreadable, "the old key opens nothing any more"


def test_a_source_accepts_two_secrets_while_its_sender_changes_over(
    db: Database, environment: Settings, world: World
) -> None:
    source = make_registered(db, environment, world.organisation_id)
    first = hr_sources.rotate(
        db, environment, organisation_id=world.organisation_id, source_id=source.id, actor="test", keep_hours=0
    ).secret
    used = [first]

    def send() -> None:
        found = _authenticate(db, environment, used[0])
        assert found is not None
        inbox_receive(db, found)

    with traffic(send) as more:
        second = done("sources", "rotate", source.id)["secret"]
        more()
        used[0] = second
        more()
        third = done("sources", "rotate", source.id, "--keep-hours", 1)["secret"]
        more()
        used[0] = third
    assert _authenticate(db, environment, first) is None


def _authenticate(db: Database, current: Settings, secret: str) -> RegisteredSource | None:
    return source_requests.authenticate(
        db, current, kind="standard", called="workday", genuine=lambda known: known == secret
    )


def inbox_receive(db: Database, source: RegisteredSource) -> None:
    from worker.people import inbox

    inbox.receive(db, source, incoming("anna"))


def test_a_webhook_bears_both_signatures_while_its_receiver_changes_over(
    db: Database, world: World, environment: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[tuple[dict[str, str], str]] = []

    def post(url: str, headers: dict[str, str], body: bytes, **_: Any) -> Any:
        from worker.webhooks.safe_post import Answer

        sent.append((dict(headers), body.decode()))
        return Answer(status=204)

    monkeypatch.setattr("worker.webhooks.safe_post.post", post)
    created = endpoints.create(
        db, environment, organisation_id=world.organisation_id, url="https://help.example", events=["job.completed"],
        actor="test",
    )  # fmt: skip

    def deliver() -> tuple[dict[str, str], str]:
        world.submit(db, [world.enrolment()])
        decide_due(db, environment)
        Deliverer(db, environment).run()
        return sent[-1]

    second = done("webhooks", "rotate", created.endpoint.id)["secret"]
    headers, body = deliver()
    for secret in (created.secret, second):
        Webhook(secret).verify(body, headers)
    third = done("webhooks", "rotate", created.endpoint.id, "--keep-hours", 0)["secret"]
    headers, body = deliver()
    Webhook(third).verify(body, headers)
    with pytest.raises(Exception, match="No matching signature"):
        Webhook(second).verify(body, headers)


def test_a_token_is_replaced_and_the_old_one_ends(db: Database, world: World) -> None:
    used = [done("tokens", "create", "--name", "bot", "--role", "viewer")]
    first = used[0]

    def call() -> None:
        assert tokens.authenticate(db, used[0]["token"]) is not None

    with traffic(call):
        used[0] = done("tokens", "create", "--name", "bot-2026-11", "--role", "viewer")
        withdrawals("tokens", "revoke", first["id"])
    memory.forget_all()
    assert tokens.authenticate(db, first["token"]) is None


def test_a_database_login_is_replaced_without_a_restart(
    environment: Settings, owner: Database, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file names another login, the old one is locked out and its sessions are ended: nothing fails."""
    first, second = f"first_{uuid4().hex[:8]}", f"second_{uuid4().hex[:8]}"
    for login in (first, second):
        world.run(f"CREATE ROLE {login} LOGIN IN ROLE {ROLE}")
    url = sqlalchemy.make_url(environment.database_url.get_secret_value())
    file = tmp_path / "database-url"

    def write(login: str) -> None:
        new = tmp_path / "new"
        new.write_text(url.set(username=login).render_as_string(hide_password=False))
        new.rename(file)

    write(first)
    monkeypatch.delenv("DATABASE_URL")
    monkeypatch.setenv("DATABASE_URL_FILE", str(file))
    settings.cache_clear()
    db = Database(settings(), pool_size=2)
    try:
        logins = set()

        def ask() -> None:
            logins.add(db.run(lambda connection: connection.exec_driver_sql("SELECT session_user").scalar()))

        with traffic(ask) as more:
            write(second)
            world.run(f"ALTER ROLE {first} NOLOGIN")
            world.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = :u", u=first)
            eventually(lambda: second in logins)
            more()
        assert logins == {first, second}
    finally:
        db.close()
        for login in (first, second):
            world.run(f"DROP ROLE {login}")


def test_the_password_of_redis_is_replaced_without_a_restart(
    environment: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = environment.broker_url.get_secret_value()
    admin = redis.Redis.from_url(url)
    admin.acl_setuser("app", enabled=True, passwords=["+first"], keys=["*"], commands=["+@all"], reset=True)
    file = tmp_path / "broker-url"
    file.write_text(url.replace("://", "://app:first@", 1))
    monkeypatch.delenv("BROKER_URL")
    monkeypatch.setenv("BROKER_URL_FILE", str(file))
    settings.cache_clear()
    broker = make_broker(settings().broker_url.get_secret_value())
    try:
        with traffic(broker.client.ping) as more:
            admin.acl_setuser("app", enabled=True, passwords=["+second"])
            file.write_text(url.replace("://", "://app:second@", 1))
            more()
            admin.acl_setuser("app", enabled=True, passwords=["-first"])
            admin.client_kill_filter(_type="normal", user="app")
            more()
    finally:
        broker.close()
        admin.acl_deluser("app")
        admin.close()
