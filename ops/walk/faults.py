"""Steps: a worker, the leading relay and the database are killed; an alert's expression shows each, and it heals."""

from ops.walk.site import Site
from ops.walk.waiting import require, until


def kill_worker(site: Site) -> str:
    """SIGKILL for a worker and its children, under load; a service manager starts it again."""
    return _kill(site, "worker-a", ("WithdrawalsProcessLost", "WithdrawalsTargetDown"))


def kill_leader(site: Site) -> str:
    """SIGKILL for the relay that leads: the other takes over; then for that one too, so that none is left."""
    first = until(site.service.leader, "a relay leads")
    other = {"relay-a": "relay-b", "relay-b": "relay-a"}[first]
    site.service.kill(first)
    seen = _see(site, ("WithdrawalsProcessLost", "WithdrawalsTargetDown"), "relay")
    until(lambda: site.service.leader() == other, f"{other} leads", every=1)
    site.service.kill(other)
    seen += _see(site, ("WithdrawalsRelayGone",), "")
    site.service.start(first, other)
    heal(site, ("WithdrawalsRelayGone", "WithdrawalsTargetDown"))
    site.load.go_on()
    return f"{', '.join(seen)}; the other relay took over; healed when both ran again"


def kill_database(site: Site) -> str:
    """PostgreSQL ends at once, and stays away until the alert's expression shows it. Callers get 503 and repeat."""
    before = site.load.answers.copy()
    site.postgres.crash()
    seen = _see(site, ("WithdrawalsDatabaseDown",), "")
    until(lambda: site.load.refused(before)["503"], "callers are answered 503")
    site.postgres.start()
    heal(site, ("WithdrawalsDatabaseDown", "WithdrawalsRelayGone", "WithdrawalsNoWorker"))
    site.load.go_on()
    refused = site.load.refused(before)
    require(set(refused) <= {"503", "none"}, f"answered otherwise than 503: {dict(refused)}")
    return f"{', '.join(seen)}; {refused['503']} requests answered 503 and repeated; healed without a restart"


def heal(site: Site, alerts: tuple[str, ...]) -> None:
    """Wait until the expressions of these alerts have no series."""
    for alert in alerts:
        until(lambda alert=alert: not site.prometheus.is_seen(alert), f"{alert} is quiet again", every=1)  # type: ignore[misc]


def _kill(site: Site, name: str, alerts: tuple[str, ...]) -> str:
    kind = name.partition("-")[0]
    site.service.kill(name)
    seen = _see(site, alerts, kind)
    site.service.start(name)
    heal(site, ("WithdrawalsTargetDown", "WithdrawalsClaimsExpired"))
    site.load.go_on()
    return f"{', '.join(seen)}; healed when it ran again"


def _see(site: Site, alerts: tuple[str, ...], kind: str) -> list[str]:
    """Wait until each alert's expression has a series, of this kind of process where it says so."""

    def shows(alert: str) -> bool:
        found = [series["metric"] for series in site.prometheus.is_seen(alert)]
        return any(kind in (metric.get("kind") or metric.get("job", kind)) for metric in found)

    for alert in alerts:
        until(lambda alert=alert: shows(alert), f"{alert} shows it", every=1)  # type: ignore[misc]
    return [f"{alert} showed it" for alert in alerts]
