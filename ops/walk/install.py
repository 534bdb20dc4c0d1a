"""Steps: install by the documentation, begin to work, and look at dashboards and alerts."""

import re

import httpx2

from ops.walk.load import closing, populate
from ops.walk.prometheus import Prometheus, queries
from ops.walk.releases import ROOT, Release, install
from ops.walk.service import Service
from ops.walk.site import DATABASE, LEARNERS, LOGIN, OWNER, Site
from ops.walk.waiting import require, until

_MAY_DO_TOO_MUCH = """SELECT rolname FROM pg_roles
WHERE rolname LIKE 'withdrawals%%' AND (rolsuper OR rolcreaterole OR rolcreatedb OR rolbypassrls OR rolreplication)"""


def install_wheel(site: Site) -> str:
    """Build the wheel, and install it with the locked versions into an environment of its own."""
    program, version = install(site.folder / "release")
    site.release = Release(program, site.environment())
    said = site.release.run("--version").strip()
    site.ids["version"] = version
    require(said == f"withdrawals {version}", f"--version says {said!r}, the wheel is {version}")
    return f"{said}, PostgreSQL {site.postgres.version}, Redis {site.redis.admin.info()['redis_version']}"


def make_logins(site: Site) -> str:
    """The platform owns schema lms; the DBA runs what `grants --print` prints, each part as the party that it names."""
    postgres = site.postgres
    for name in ("lms_database_owner", "lms_platform", OWNER):
        postgres.make_login(name)
    postgres.run(f"CREATE DATABASE {DATABASE} OWNER lms_database_owner", database="postgres")
    postgres.run(f"GRANT CREATE ON DATABASE {DATABASE} TO lms_platform", login="lms_database_owner")
    postgres.run((ROOT / "ops/migrations/lms.sql").read_text(encoding="utf-8"), login="lms_platform")
    site.write_secret("BROKER_URL", site.redis.make_user())
    site.write_secret("WITHDRAWALS_SECRET_KEY", site.new_key())
    site.write_secret("DATABASE_URL", postgres.url(OWNER, DATABASE))
    printed = site.release.run("grants", "--print", "--owner", OWNER, "--login", LOGIN)
    roles, database, platform, site.ids["rights"] = parts(printed)
    postgres.passwords[LOGIN] = site.new_key()
    postgres.run(*roles.replace("…", postgres.passwords[LOGIN]).splitlines())
    postgres.run(*database.splitlines(), login="lms_database_owner")
    postgres.run(*platform.splitlines(), login="lms_platform")
    populate(postgres, DATABASE, learners=LEARNERS, login="lms_platform")
    site.write_secret("DATABASE_URL", postgres.url(LOGIN, DATABASE))
    may = postgres.rows(_MAY_DO_TOO_MUCH)
    require(not may, f"logins may do too much: {may}")
    lines = len(printed.splitlines())
    return f"{lines} lines of SQL, run by three parties; no login of the service may do more; a Redis user by ACL"


def parts(printed: str) -> list[str]:
    """The parts of the printed SQL, without comments."""
    found = re.split(r"^-- \d\..*\n", printed, flags=re.MULTILINE)[1:]
    return ["".join(line + "\n" for line in part.splitlines() if not line.startswith("--")) for part in found]


def migrate(site: Site) -> str:
    """The owner migrates, and grants what the service needs in the new schema."""
    more = site.as_owner()
    said = site.release.run("migrate", "--no-grants", more=more)
    site.postgres.run(*site.ids["rights"].splitlines(), login=OWNER)
    again = site.release.run("migrate", more=more)
    require(said == again, f"a second run says something else: {again}")
    site.secret("DATABASE_DIRECT_URL").unlink()
    return said.strip()


def start(site: Site) -> str:
    """Two web processes, workers and relays, as the service's login; a token, a source and a webhook of Acme."""
    run = site.release.ask
    site.load.token = run("tokens", "create", "--name", "orders", "--role", "producer", "--organisation", "Acme")[
        "token"
    ]
    source = run("sources", "create", "--name", "payroll", "--kind", "standard", "--organisation", "Acme")
    site.load.source, site.load.secret = str(source["id"]), source["secret"]
    words = ("--url", site.receiver.url, "--event", "job.completed", "--organisation", "Acme")
    webhook = run("webhooks", "create", *words)
    site.ids["webhook"] = str(webhook["id"])
    site.receiver.secrets = [webhook["secret"]]
    site.service = Service(site.release, site.logs)
    site.stack.callback(site.service.close)
    site.service.start()
    site.load.addresses = site.service.addresses
    return f"{len(site.service.ports)} processes are ready, each with its secrets from files"


def examine(site: Site) -> str:
    """`doctor`: nothing is wrong."""
    until(site.service.leader, "a relay leads")
    items = site.release.ask("doctor")["items"]
    warned = [item["what"] for item in items if item["level"] == "warn"]
    require(not [item for item in items if item["level"] == "wrong"], f"doctor: {items}")
    return f"{len(items)} findings, none wrong" + (f"; warnings about {', '.join(warned)}" if warned else "")


def work(site: Site) -> str:
    """HR events and single jobs without a pause, and beside them a bulk job from the command line."""
    site.load.start()
    site.load.go_on(20)
    site.load.others |= set(closing(LEARNERS))
    words = ("--series", "CLOSING", "--reason", "not_required", "--organisation", "Acme")
    planned = site.release.ask("bulk", *words, "--dry-run")
    job = site.release.ask("bulk", *words, "--key", "closing")
    site.release.run("jobs", "watch", str(job["id"]), "--organisation", "Acme")
    accepted = site.load.go_on(20)
    until(lambda: site.receiver.verified >= 10, "webhooks arrive")
    require(not site.receiver.unknown, "a webhook had an unknown signature")
    return (
        f"a bulk job of {planned['accepted']:,} enrolments; meanwhile {accepted} requests accepted, "
        f"{site.receiver.verified} webhooks verified"
    )


def watch(site: Site) -> str:
    """Prometheus with the committed configuration: every query of the dashboards has data, every alert is quiet."""
    site.prometheus = Prometheus(site.folder / "prometheus")
    site.stack.callback(site.prometheus.close)
    site.prometheus.watch(site.service.targets())
    guessed = httpx2.get(f"{site.load.addresses[0]}/v1/jobs", headers={"Authorization": "Bearer guessed"}, timeout=60)
    require(
        guessed.status_code == 401, f"a guessed token was answered {guessed.status_code}"
    )  # one panel shows refusals
    until(lambda: not site.prometheus.empty(), "every query of the dashboards has data", every=2)
    loud = until_quiet(site)
    up = site.prometheus.ask('count(up{job=~"withdrawals-.*"} == 1)')[0]["value"][1]
    return f"{up} targets up; data for {len(queries())} of {len(queries())} queries; {loud} alerts quiet"


def until_quiet(site: Site, *, within: float = 240) -> int:
    """Wait until no alert's expression has a series; how many alerts there are."""
    found: list[str] = []

    def quiet() -> bool:
        found[:] = site.prometheus.loud()
        return not found

    until(quiet, lambda: f"every alert is quiet; now {', '.join(found)}", within=within, every=3)
    return len(site.prometheus.alerts())
