"""Clients of Redis from `BROKER_URL`: one server, with or without TLS, or the master that Sentinel names.

`redis+sentinel://USER:PASSWORD@HOST:PORT,HOST:PORT/MASTER/DATABASE` lists Sentinels; `rediss+sentinel://` speaks TLS to
them and to Redis. Query parameters are redis-py's (`ssl_ca_certs`, `ssl_certfile`, …), and `sentinel_username` and
`sentinel_password`; user and password before the hosts are those of Redis.
"""

from typing import Any
from urllib.parse import parse_qsl, unquote, urlencode

import redis
from redis.backoff import NoBackoff
from redis.connection import parse_url
from redis.maint_notifications import MaintNotificationsConfig
from redis.retry import Retry
from redis.sentinel import Sentinel

from worker.errors import SettingsError
from worker.queue.credentials import with_newest_password

CONNECT_TIMEOUT = 2.0
"""Seconds that a connection may take."""
SENTINEL_PORT = 26379
_SENTINEL = {"redis+sentinel": "redis", "rediss+sentinel": "rediss"}
_PLAIN = ("redis", "rediss", "unix")
_OF_SENTINEL = ("sentinel_username", "sentinel_password")
_EXAMPLE = "redis+sentinel://one:26379,two:26379,three:26379/mymaster/0"


def connect(url: str, *, timeout: float, connect_timeout: float = CONNECT_TIMEOUT, retries: int = 1) -> redis.Redis:
    """A client that opens its connections when it needs them, each to the server that is the master by then.

    `timeout`: seconds for an answer. `retries`: how often a connection that was closed, as after a restart, is made
    again; a server that hangs is not asked again.

    Raises:
        SettingsError: it is no URL of Redis. The message does not quote it: it may hold a password.
    """
    options: dict[str, Any] = {
        "socket_timeout": timeout,
        "socket_connect_timeout": connect_timeout,
        "health_check_interval": 15,
        "retry": Retry(NoBackoff(), retries, supported_errors=(redis.ConnectionError,)),
    }
    scheme = url.partition("://")[0]
    # Only managed clusters know this command, which every connection would send, and an ACL would have to grant.
    if scheme != "unix":
        options["maint_notifications_config"] = MaintNotificationsConfig(enabled=False)
    try:
        if scheme in _SENTINEL:
            bare_url, credentials = with_newest_password(url)
            return _master(_SENTINEL[scheme], bare_url.partition("://")[2], options | credentials)
        if scheme in _PLAIN:
            bare_url, credentials = with_newest_password(url)
            return redis.Redis.from_url(bare_url, **credentials, **options)
    except ValueError:
        raise SettingsError(f"BROKER_URL: cannot be read. Example: {_EXAMPLE}") from None
    raise SettingsError(
        "BROKER_URL: must begin with redis://, rediss://, redis+sentinel://, rediss+sentinel:// or amqp://"
    )


def _master(scheme: str, rest: str, options: dict[str, Any]) -> redis.Redis:
    address, _, query = rest.partition("?")
    user, _, address = address.rpartition("@")
    hosts, _, path = address.partition("/")
    service, _, database = path.partition("/")
    if not service or not (database or "0").isdigit():
        raise ValueError("no name of a master, or no number of a database")
    given = parse_qsl(query, keep_blank_values=True)
    own = {name.removeprefix("sentinel_"): value for name, value in given if name in _OF_SENTINEL}
    others = urlencode([(name, value) for name, value in given if name not in _OF_SENTINEL])
    # redis-py reads all but the hosts, as of any other URL: users, databases, and parameters by their types.
    parsed = parse_url(f"{scheme}://{user and user + '@'}sentinel/{database or 0}?{others}")
    parameters = {name: value for name, value in parsed.items() if name not in ("host", "port", "connection_class")}
    if scheme == "rediss":
        parameters["ssl"] = True
    to_redis = {**parameters, **options}
    to_sentinel = {name: value for name, value in parameters.items() if name.startswith("ssl")}
    to_sentinel |= {**own, "socket_timeout": CONNECT_TIMEOUT, "socket_connect_timeout": CONNECT_TIMEOUT}
    to_sentinel["retry"] = Retry(NoBackoff(), 0)
    found = Sentinel([_host(part) for part in hosts.split(",")], sentinel_kwargs=to_sentinel, **to_redis)
    client: redis.Redis = found.master_for(unquote(service), redis_class=redis.Redis)
    return client


def _host(part: str) -> tuple[str, int]:
    name, _, port = part.rpartition(":") if part.rpartition(":")[2].isdigit() else (part, "", "")
    name = name.strip("[]")
    if not name or name.endswith(":"):
        raise ValueError("no host")
    return name, int(port or SENTINEL_PORT)
