"""Step: every secret is rotated under load, by docs/operations/rotate-secrets.md, and no request is refused."""

import httpx2

from ops.walk.load import fail_on_refusals
from ops.walk.redis import USER
from ops.walk.site import DATABASE, LOGIN, OWNER, Site
from ops.walk.waiting import require, until

_ACME = ("--organisation", "Acme")


def rotate(site: Site) -> str:
    """Token, HR source, webhook, secret key, both logins of the database, Redis: one after the other."""
    before = site.load.answers.copy()
    done = []
    for what, turn in {
        "API token": _token, "HR source": _source, "webhook": _webhook, "secret key": _key, "database login": _login,
        "owner's password": _owner, "Redis password": _redis,
    }.items():  # fmt: skip
        turn(site)
        site.load.go_on()
        fail_on_refusals(site.load, before)
        done.append(what)
    require(not site.receiver.unknown, "a webhook had a signature that its receiver did not know")
    return f"{', '.join(done)}: no request refused, no webhook with an unknown signature"


def _token(site: Site) -> None:
    old = site.load.token
    site.load.token = site.release.ask("tokens", "create", "--name", "orders-2", "--role", "producer", *_ACME)["token"]
    site.load.go_on()
    listed = site.release.ask("tokens", "list", *_ACME)["items"]
    (first,) = [token["id"] for token in listed if token["name"] == "orders"]
    site.release.run("tokens", "revoke", str(first), *_ACME)
    until(lambda: _status(site, old) == 401, "the revoked token is refused", within=30)


def _status(site: Site, token: str) -> int:
    answer = httpx2.get(f"{site.load.addresses[0]}/v1/jobs", headers={"Authorization": f"Bearer {token}"}, timeout=30)
    return answer.status_code


def _source(site: Site) -> None:
    new = site.release.ask("sources", "rotate", site.load.source, "--keep-hours", "24", *_ACME)["secret"]
    site.load.go_on()  # with the old one
    site.load.secret = new


def _webhook(site: Site) -> None:
    new = site.release.ask("webhooks", "rotate", site.ids["webhook"], *_ACME)["secret"]
    site.load.go_on()  # the receiver knows the old one alone
    site.receiver.secrets = [new]
    seen = site.receiver.by_secret.get(new, 0)
    until(lambda: site.receiver.by_secret.get(new, 0) > seen, "webhooks bear the new signature")


def _key(site: Site) -> None:
    """Last, first, alone: three rolling restarts."""
    file = site.secret("WITHDRAWALS_SECRET_KEY")
    old, new = file.read_text(encoding="utf-8").strip(), site.new_key()
    for keys in (f"{old},{new}", f"{new},{old}"):
        site.write_secret("WITHDRAWALS_SECRET_KEY", keys)
        site.service.restart()
    resealed = site.release.ask("keys", "reseal")["resealed"]
    require(resealed, "nothing was sealed anew")
    site.write_secret("WITHDRAWALS_SECRET_KEY", new)  # no plan of before is still to be confirmed here
    site.service.restart()
    found = site.release.ask("keys", "list")
    require(not found["older"] and not found["unreadable"], f"keys list: {found}")


def _login(site: Site) -> None:
    """Another login in turn, with the same settings; nothing is restarted."""
    old, new = LOGIN, f"{LOGIN}_b"
    site.postgres.make_login(new, "IN ROLE withdrawals_service")
    given = site.postgres.rows(
        "SELECT unnest(setconfig) FROM pg_db_role_setting WHERE setrole = CAST(%s AS text)::regrole", [old]
    )
    for (setting,) in given:
        name, _, value = setting.partition("=")
        site.postgres.run(f"ALTER ROLE {new} IN DATABASE {DATABASE} SET {name} = '{value}'")
    site.write_secret("DATABASE_URL", site.postgres.url(new, DATABASE))
    site.postgres.run(
        f"ALTER ROLE {old} NOLOGIN", f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{old}'"
    )
    used = "SELECT count(*) FROM pg_stat_activity WHERE usename = %s"
    until(lambda: site.postgres.one(used, [new]) and not site.postgres.one(used, [old]), "all use the new login")


def _owner(site: Site) -> None:
    site.postgres.passwords[OWNER] = site.new_key()
    site.postgres.run(f"ALTER ROLE {OWNER} PASSWORD '{site.postgres.passwords[OWNER]}'")
    waiting = site.release.ask("migrate", "--plan", more=site.as_owner())["items"]
    site.secret("DATABASE_DIRECT_URL").unlink()
    require(not waiting, "the owner still migrates")


def _redis(site: Site) -> None:
    old = site.secret("BROKER_URL").read_text(encoding="utf-8").split(":")[2].partition("@")[0]
    new, acl = site.new_key(), site.redis.admin.execute_command
    acl("ACL", "SETUSER", USER, f">{new}")  # type: ignore[no-untyped-call]
    site.write_secret("BROKER_URL", site.redis.url(USER, new))
    acl("ACL", "SETUSER", USER, f"<{old}")  # type: ignore[no-untyped-call]
    acl("CLIENT", "KILL", "USER", USER)  # type: ignore[no-untyped-call]
    until(lambda: USER in str(site.redis.admin.client_list()), "the service is connected again")
