"""Which Redis a BROKER_URL leads to: over TLS, as a user, or the master that Sentinel names."""

from pathlib import Path
from typing import Any

import pytest
import redis

from tests.support.hints import consumed
from tests.support.redis_servers import MASTER, administered, behind_tls, replicated
from tests.world import PATIENCE, eventually
from worker.errors import SettingsError
from worker.queue.broker import make_broker
from worker.queue.hints import NAMESPACE, QUEUE
from worker.queue.redis_clients import connect
from worker.web import rate_limits
from worker.web.rate_limits import RateLimiter


def test_hints_and_limits_go_over_tls_as_a_user_to_a_server_with_an_authority_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rate_limits, "TIMEOUT", PATIENCE)  # a busy machine must not look like a Redis that is away
    with behind_tls(tmp_path) as url:
        known = f"{url}?ssl_ca_certs={tmp_path / 'ca.pem'}"
        broker = make_broker(known)
        broker.ping()
        assert broker.top_up(2) == 2
        assert broker.client.llen(f"{NAMESPACE}:{QUEUE}") == 2
        limits = RateLimiter(known)
        assert [limits.retry_after("one", 1) is None for _ in range(2)] == [True, False], "Redis counts"
        with pytest.raises(redis.ConnectionError, match="CERTIFICATE_VERIFY_FAILED"):
            make_broker(url).ping()
        with pytest.raises(redis.AuthenticationError):
            make_broker(known.replace("word@", "wrong@")).ping()


def test_a_connection_asks_for_nothing_that_least_privilege_does_not_grant(tmp_path: Path) -> None:
    """docs/operations/least-privilege.md; over TCP, where redis-py by itself asks for more than over a socket."""
    granted = "on >word ~* -@all +ping +select +info +client|setinfo"
    with administered(tmp_path) as server, server.client() as admin:
        admin.execute_command("ACL", "SETUSER", "service", *granted.split())
        with connect(f"redis://service:word@127.0.0.1:{server.port}/0", timeout=PATIENCE) as client:
            assert client.ping()
        assert admin.acl_log() == []


def sentinel(url: str) -> Any:
    """The pool behind a client that asks Sentinel."""
    return connect(url, timeout=1).connection_pool


def test_a_url_of_sentinels_names_hosts_master_database_and_both_passwords() -> None:
    pool = sentinel(
        f"redis+sentinel://me:p%40ss@one,two:5000,[::1]:5001/{MASTER}/3?sentinel_username=s&sentinel_password=t"
        "&client_name=w"
    )
    found = [one.connection_pool.connection_kwargs for one in pool.sentinel_manager.sentinels]
    assert [(one["host"], one["port"]) for one in found] == [("one", 26379), ("two", 5000), ("::1", 5001)]
    assert {(one["username"], one["password"]) for one in found} == {("s", "t")}
    to_redis = pool.connection_kwargs
    assert (pool.service_name, to_redis["db"], to_redis["client_name"]) == (MASTER, 3, "w")
    assert to_redis["credential_provider"].get_credentials() == ("me", "p@ss")
    encrypted = sentinel(f"rediss+sentinel://one/{MASTER}?ssl_ca_certs=/ca.pem")
    assert encrypted.connection_class.__name__ == "SentinelManagedSSLConnection"
    assert encrypted.connection_kwargs["ssl_ca_certs"] == "/ca.pem"
    assert encrypted.sentinel_manager.sentinels[0].connection_pool.connection_kwargs["ssl_ca_certs"] == "/ca.pem"


@pytest.mark.parametrize("url", ["redis+sentinel://one", "redis+sentinel:///m", "redis+sentinel://one/m/x", "http://a"])
def test_a_broker_url_that_cannot_be_read_is_refused_without_being_quoted(url: str) -> None:
    with pytest.raises(SettingsError, match="BROKER_URL") as refused:
        connect(url, timeout=1)
    assert "one" not in str(refused.value).replace("one:26379", "")


def test_hints_reach_a_worker_again_once_sentinel_has_promoted_the_replica(tmp_path: Path) -> None:
    with replicated(tmp_path) as servers:
        broker = make_broker(servers.url)
        with consumed(broker) as arrived:
            assert broker.top_up(1) == 1
            arrived(1)
            servers.first.kill()
            # Sentinel does nothing for 30 s whenever it was kept from running for two.
            eventually(lambda: servers.second.role() == "master", within=300, what="the replica is promoted")
            arrived(1, keep=broker)
