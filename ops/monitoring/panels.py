"""The panels of the dashboards: what each shows, with its query and what a reader should make of it.

Metrics that every web process reads from the database are the same from each, so they are shown by `max`; counters are
added up.
"""

from dataclasses import dataclass

RATE = "$__rate_interval"


@dataclass(frozen=True, slots=True)
class Query:
    """A query and the name of its lines."""

    expr: str
    legend: str = ""


@dataclass(frozen=True, slots=True)
class Panel:
    """One picture. `unit`: Grafana's name of it. `is_stat`: a number, red from `bad` on (or up to it)."""

    title: str
    meaning: str
    queries: tuple[Query, ...]
    unit: str = "short"
    is_stat: bool = False
    bad: float | None = None
    bad_is_low: bool = False


@dataclass(frozen=True, slots=True)
class Board:
    """One dashboard: its rows by their titles."""

    uid: str
    title: str
    rows: tuple[tuple[str, tuple[Panel, ...]], ...]


def _stat(title: str, meaning: str, expr: str, unit: str = "short", **more: float | bool) -> Panel:
    bad, bad_is_low = more.get("bad"), bool(more.get("bad_is_low", False))
    return Panel(title, meaning, (Query(expr),), unit, is_stat=True, bad=bad, bad_is_low=bad_is_low)


def _lines(title: str, meaning: str, expr: str, legend: str = "", unit: str = "short") -> Panel:
    return Panel(title, meaning, (Query(expr, legend),), unit)


def _quantiles(title: str, meaning: str, metric: str, by: str) -> Panel:
    """The median and the slowest of a histogram, by a label."""
    queries = tuple(
        Query(f"histogram_quantile({q}, sum by (le, {by}) (rate({metric}_bucket[{RATE}])))", f"{{{{{by}}}}} {name}")
        for q, name in ((0.5, "median"), (0.99, "99 %"))
    )
    return Panel(title, meaning, queries, "s")


OVERVIEW = Board(
    "withdrawals-overview",
    "Withdrawals: overview",
    (
        (
            "Is it all there?",
            (
                _stat(
                    "Database", "1: the web processes reach it.", "max(withdrawals_database_up)", bad=0, bad_is_low=True
                ),
                _stat(
                    "Relay",
                    "Seconds since the leader's heartbeat; it beats every three.",
                    "max(withdrawals_relay_seen_seconds)",
                    "s",
                    bad=15,
                ),
                _stat(
                    "Worker processes",
                    "Those that beat in the last 7 s.",
                    'max(withdrawals_processes{kind="worker",state="running"})',
                    bad=0,
                    bad_is_low=True,
                ),
                _stat(
                    "Lost processes",
                    "Silent without having signed off, in the last ten minutes.",
                    'sum(max by (kind) (withdrawals_processes{state="lost"}))',
                    bad=1,
                ),
                _stat(
                    "Oldest deactivation",
                    "Of a person, due and not claimed.",
                    'max(withdrawals_lane_oldest_due_seconds{lane="hr"})',
                    "s",
                    bad=60,
                ),
                _stat(
                    "Oldest event",
                    "In the inbox, accepted and not applied.",
                    "max(withdrawals_inbox_oldest_seconds)",
                    "s",
                    bad=60,
                ),
                _stat("Held jobs", "Wait for a second person.", "sum(max by (cause) (withdrawals_held_jobs))", bad=1),
                _stat("Open dead letters", "Wait for support.", "sum(max by (code) (withdrawals_open_dead_letters))"),
            ),
        ),
        (
            "What it does",
            (
                _lines(
                    "Outcomes",
                    "Enrolments decided in a second.",
                    f"sum by (outcome) (rate(withdrawals_outcomes_total[{RATE}]))",
                    "{{outcome}}",
                    "cps",
                ),
                _quantiles(
                    "Time to withdrawn",
                    "From the request or event; of scheduled and held jobs from when they could begin.",
                    "withdrawals_withdrawn_seconds",
                    "lane",
                ),
                _lines(
                    "Due chunks",
                    "Counted up to 10,000 a lane.",
                    "max by (lane) (withdrawals_lane_due_chunks)",
                    "{{lane}}",
                ),
                _lines(
                    "Age of the oldest due chunk",
                    "What autoscaling should follow.",
                    "max by (lane) (withdrawals_lane_oldest_due_seconds)",
                    "{{lane}}",
                    "s",
                ),
                _lines(
                    "Held jobs",
                    "By cause: the brake, or the policy of a source.",
                    "max by (cause) (withdrawals_held_jobs)",
                    "{{cause}}",
                ),
                _lines(
                    "Age of the oldest held job",
                    "Since it could have begun.",
                    "max(withdrawals_held_oldest_seconds)",
                    "oldest",
                    "s",
                ),
                _lines(
                    "Open dead letters",
                    "By code. A rise of poison or retries_exhausted is a fault of the service.",
                    "max by (code) (withdrawals_open_dead_letters)",
                    "{{code}}",
                ),
                _lines(
                    "Releases",
                    "Two at once mean an upgrade, or a machine that was forgotten.",
                    "count by (version) (withdrawals_build_info)",
                    "{{version}}",
                ),
            ),
        ),
    ),
)

DOOR = Board(
    "withdrawals-door",
    "Withdrawals: front door",
    (
        (
            "Requests",
            (
                _lines(
                    "Requests",
                    "By route.",
                    f"sum by (route) (rate(withdrawals_http_requests_total[{RATE}]))",
                    "{{route}}",
                    "reqps",
                ),
                _lines(
                    "Refused and failed",
                    "Answers from 400 on, by status.",
                    f'sum by (status) (rate(withdrawals_http_requests_total{{status=~"[45].."}}[{RATE}]))',
                    "{{status}}",
                    "reqps",
                ),
                _quantiles("Time to answer", "By route.", "withdrawals_http_request_seconds", "route"),
                _lines(
                    "Refused sign-ins",
                    "Calls without a live token or signature, by door. The log has addresses.",
                    f"sum by (door) (rate(withdrawals_sign_ins_refused_total[{RATE}]))",
                    "{{door}}",
                    "reqps",
                ),
            ),
        ),
        (
            "HR events",
            (
                _lines(
                    "Events",
                    "By what was answered.",
                    f"sum by (status) (rate(withdrawals_events_total[{RATE}]))",
                    "{{status}}",
                    "cps",
                ),
                _lines("In the inbox", "Accepted and not applied.", "max(withdrawals_inbox_events)", "events"),
                _lines(
                    "Age of the oldest event", "In the inbox.", "max(withdrawals_inbox_oldest_seconds)", "oldest", "s"
                ),
                _quantiles("Receipt to applied", "By what became of it.", "withdrawals_inbox_seconds", "status"),
            ),
        ),
    ),
)

WORK = Board(
    "withdrawals-work",
    "Withdrawals: workers and relay",
    (
        (
            "Workers",
            (
                _lines(
                    "Attempts",
                    "At chunks, by how they ended.",
                    f"sum by (result) (rate(withdrawals_attempts_total[{RATE}]))",
                    "{{result}}",
                    "cps",
                ),
                _quantiles("Time of a claim", "By how it ended.", "withdrawals_claim_seconds", "result"),
                _lines(
                    "Claimed chunks",
                    "Expired ones wait for the relay's sweep to take them over.",
                    "max by (lease) (withdrawals_claimed_chunks)",
                    "{{lease}}",
                ),
                _lines(
                    "Worker threads",
                    "Of all processes seen in the last 15 s.",
                    "max(withdrawals_worker_threads)",
                    "threads",
                ),
                _lines(
                    "Processes",
                    "By kind and heartbeat.",
                    "max by (kind, state) (withdrawals_processes)",
                    "{{kind}} {{state}}",
                ),
                _lines(
                    "Age of heartbeats",
                    "As each process notes them itself.",
                    'max by (kind, instance) (time() - withdrawals_heartbeat_timestamp_seconds{of="database"})',
                    "{{kind}} {{instance}}",
                    "s",
                ),
            ),
        ),
        (
            "Relay",
            (
                _lines(
                    "Leaders",
                    "One leads; for a moment after a change it may be two or none.",
                    "sum(withdrawals_relay_leads)",
                    "leaders",
                ),
                _lines("Heartbeat of the leader", "On record.", "max(withdrawals_relay_seen_seconds)", "age", "s"),
                _lines(
                    "Hints",
                    "Sent to workers.",
                    f"sum by (queue) (rate(withdrawals_relay_hints_total[{RATE}]))",
                    "{{queue}}",
                    "cps",
                ),
                _lines(
                    "Failed steps",
                    "Of the relay's rounds.",
                    f'sum by (step) (rate(withdrawals_relay_steps_total{{result="failed"}}[{RATE}]))',
                    "{{step}}",
                    "cps",
                ),
                _lines(
                    "Failures in a row",
                    "Of a step, from the third on.",
                    "max by (step) (withdrawals_relay_step_failures)",
                    "{{step}}",
                ),
            ),
        ),
        (
            "Connections and webhooks",
            (
                _lines(
                    "Database connections in use",
                    "Share of a pool's most, of the fullest process.",
                    'max by (pool) (withdrawals_pool_connections{state="in_use"} / ignoring (state) '
                    'withdrawals_pool_connections{state="most"})',
                    "{{pool}}",
                    "percentunit",
                ),
                _lines(
                    "Webhook attempts",
                    "By result.",
                    f"sum by (result) (rate(withdrawals_webhook_attempts_total[{RATE}]))",
                    "{{result}}",
                    "cps",
                ),
                _lines(
                    "Webhook deliveries",
                    "On their way, or given up in the time for which they are kept.",
                    "max by (state) (withdrawals_webhook_deliveries)",
                    "{{state}}",
                ),
                _lines(
                    "Notifications",
                    "Messages to people: on their way, or failed in the time for which they are kept.",
                    "max by (state) (withdrawals_notification_messages)",
                    "{{state}}",
                ),
            ),
        ),
    ),
)

BOARDS = (OVERVIEW, DOOR, WORK)
