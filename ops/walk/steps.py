"""The steps of the walk in their order, and which part of its promise each one keeps."""

from collections.abc import Callable
from dataclasses import dataclass

from ops.walk import faults, install, keeping, rotate, upgrade
from ops.walk.site import Site
from ops.walk.waiting import require

PROMISES = (
    "installed from the wheel, with no superuser in PostgreSQL or Redis",
    "the dashboards' queries return data",
    "upgraded under load",
    "a worker killed, and seen in an alert's query",
    "the relay that leads killed, and seen in an alert's query",
    "the database killed, and seen in an alert's query",
    "restored from a backup, with clean books",
    "a person erased",
    "every secret rotated",
    "every accepted request accounted for",
)
"""What somebody who operates the service must be able to do with nothing but the documentation."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step. `page`: the page of the documentation that it follows, from the root of the repository."""

    does: str
    page: str
    act: Callable[[Site], str]
    keeps: tuple[str, ...] = ()
    """Which promises."""


def conclude(site: Site) -> str:
    """The senders end; each request that was accepted is done once; Redis refused nothing; the books are clean."""
    site.load.stop()
    done = site.load.settle(site.postgres, "lms")
    said = site.release.ask("check")
    refused = site.redis.refused()
    require(not refused, f"Redis refused the service commands that the page does not grant: {refused}")
    return f"{done}; `check` is clean: {said['totals']}"


def quiet(site: Site) -> str:
    """A killed process is shown for ten minutes, and errors count for five: then every alert is quiet again."""
    return f"{install.until_quiet(site, within=900)} alerts quiet"


_INSTALL, _MONITOR = "docs/operations/install.md", "ops/runbook.md"
STEPS = (
    Step("install the wheel", _INSTALL, install.install_wheel, PROMISES[:1]),
    Step("make logins and rights", "ops/database-rights.md", install.make_logins, PROMISES[:1]),
    Step("migrate as the owner", _INSTALL, install.migrate, PROMISES[:1]),
    Step("start all processes", _INSTALL, install.start),
    Step("examine with `doctor`", _INSTALL, install.examine),
    Step("withdraw under load", "docs/how-to/signed-webhook.md", install.work),
    Step("watch with Prometheus", "ops/metrics.md", install.watch, PROMISES[1:2]),
    Step("upgrade under load", "docs/operations/upgrades.md", upgrade.upgrade, PROMISES[2:3]),
    Step("kill a worker", _MONITOR, faults.kill_worker, PROMISES[3:4]),
    Step("kill the relay that leads", _MONITOR, faults.kill_leader, PROMISES[4:5]),
    Step("kill the database", _MONITOR, faults.kill_database, PROMISES[5:6]),
    Step("back up and restore", "docs/operations/backup.md", keeping.back_up_and_restore, PROMISES[6:7]),
    Step("erase a person", "docs/operations/erase-a-person.md", keeping.erase, PROMISES[7:8]),
    Step("rotate every secret", "docs/operations/rotate-secrets.md", rotate.rotate, PROMISES[8:9]),
    Step("account for everything", "ops/books.md", conclude, PROMISES[9:]),
    Step("wait until every alert is quiet", _MONITOR, quiet),
)
