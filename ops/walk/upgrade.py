"""Step: from the previous release to this one under load, each from its wheel, in a database of its own."""

from datetime import UTC, datetime

from ops.walk.load import Load, fail_on_refusals, populate
from ops.walk.postgres import DBA
from ops.walk.releases import PREVIOUS, Release, install, previous_code
from ops.walk.service import Service
from ops.walk.site import Site
from ops.walk.waiting import until

BEFORE, OWNER = "before", "before_owner"
_LEARNERS = 4_000
_MIXED = "WithdrawalsReleasesMixed"


def upgrade(site: Site) -> str:
    """Old; migrated by the new under load; both beside each other; new alone. No request is refused."""
    code = previous_code(site.folder / "previous-code")
    if code is None:
        return f"left out: the history has no {PREVIOUS}"
    program, version = install(site.folder / "previous", code)
    older, newer = _releases(site, program)
    older.run("migrate")
    populate(site.postgres, BEFORE, learners=_LEARNERS, login=OWNER)
    load = _load(older)
    running = Service(older, site.logs / BEFORE, each=1, probes=False)
    site.stack.callback(running.close)
    running.start()
    load.addresses = running.addresses
    load.start()
    load.go_on()
    before = load.answers.copy()

    steps = len(newer.ask("migrate", "--plan")["items"])
    newer.run("migrate")
    load.go_on()
    beside = Service(newer, site.logs / "after", each=1)
    site.stack.callback(beside.close)
    beside.start()
    load.addresses = [*running.addresses, *beside.addresses]
    _watch(site, running, beside)
    until(lambda: site.prometheus.is_seen(_MIXED), f"{_MIXED} shows both releases", every=1)
    load.go_on()
    running.stop()
    load.addresses = beside.addresses
    site.prometheus.watch(site.service.targets())
    load.go_on()
    load.stop()
    fail_on_refusals(load, before)
    done = load.settle(site.postgres, BEFORE)
    newer.run("check")
    newer.run("check", "--since", f"{datetime.now(UTC):%Y-%m-%d}T00:00:00Z")
    beside.stop()
    until(lambda: not site.prometheus.is_seen(_MIXED), f"{_MIXED} is quiet again", within=600, every=2)
    return (
        f"{version} to {site.ids['version']}: {steps} migrations under load, no request refused; {_MIXED} showed it; "
        f"{done}; `check` clean"
    )


def _releases(site: Site, program: object) -> tuple[Release, Release]:
    """Both releases on a database of their own. The previous one asks for a login that may create roles."""
    site.postgres.make_login(OWNER, "CREATEROLE")
    site.postgres.run(f"CREATE DATABASE {BEFORE} OWNER {OWNER}", database="postgres", login=DBA)
    environment = {
        **site.bare(), "DATABASE_URL": site.postgres.url(OWNER, BEFORE), "BROKER_URL": site.redis.make_other("before"),
        "WITHDRAWALS_SECRET_KEY": site.new_key(), "WITHDRAWALS_DATABASE_ROLE": "before_service",
        "WITHDRAWALS_PROCESSES": "1", "WITHDRAWALS_RATE_LIMIT": "0",
    }  # fmt: skip
    for name in ("before", "after"):
        (site.logs / name).mkdir(exist_ok=True)
    return Release(program, environment), Release(site.release.program, environment)  # type: ignore[arg-type]


def _load(older: Release) -> Load:
    load = Load(learners=_LEARNERS)
    load.token = older.ask("tokens", "create", "--name", "orders", "--role", "producer", "--organisation", "Acme")[
        "token"
    ]
    source = older.ask("sources", "create", "--name", "payroll", "--kind", "standard", "--organisation", "Acme")
    load.source, load.secret = str(source["id"]), source["secret"]
    return load


def _watch(site: Site, older: Service, newer: Service) -> None:
    """Let Prometheus scrape both releases beside the site's own processes; the old one answers at its web alone."""
    targets = site.service.targets()
    for job, ports in newer.targets().items():
        targets[job] = [*targets[job], *ports]
    targets["withdrawals-web"] = [*targets["withdrawals-web"], *older.targets()["withdrawals-web"]]
    site.prometheus.watch(targets)
