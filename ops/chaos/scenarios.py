"""The scenarios of `make chaos`: what each does to the service, what it found, and what was changed since.

The code of a scenario is the test in `tests/faults` that is marked with its name. A test compares both lists.
"""

from dataclasses import dataclass

NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class Scenario:
    """One way to break what the service stands on."""

    name: str
    does: str
    found: str = NOTHING
    """What it found when it was new, and what was changed; kept by hand."""


SCENARIOS: tuple[Scenario, ...] = (
    Scenario("workers-killed", "workers are killed (SIGKILL) at random while they decide"),
    Scenario("everything-killed", "worker, relay and web processes are killed at random; producers use HTTP"),
    Scenario(
        "killed-at-failpoints",
        "worker and relay processes are killed once before and after every statement and commit that they make",
    ),
    Scenario("workers-frozen", "workers are stopped (SIGSTOP) for longer than a lease, and go on"),
    Scenario(
        "relay-frozen",
        "the leading relay is stopped (SIGSTOP) while work arrives, and goes on",
        "no new work was noticed until it went on: the standby waited for its session to end. Now a leader records its "
        "own heartbeat, and a silent one is replaced",
    ),
    Scenario("redis-killed", "Redis is flushed again and again, then killed and started empty"),
    Scenario("redis-frozen", "Redis is stopped (SIGSTOP) for longer than its clients wait"),
    Scenario("redis-full", "Redis has no memory left (`noeviction`) and refuses every write"),
    Scenario("redis-garbage", "undecodable messages, missing bodies and unknown actors in the queue"),
    Scenario(
        "redis-failed-over",
        "the master of Redis is killed and Sentinel promotes its replica; then the old one is back, and the roles are "
        "exchanged again",
        "the scenario itself failed, twice: it asked Sentinel for the exchange before Sentinel had heard from the "
        "replica, and it left a Sentinel that a busy machine kept from running after a minute. Now it asks and waits",
    ),
    Scenario(
        "rabbitmq-killed",
        "RabbitMQ, in place of Redis, is killed, stays away for a while and is started again",
        "a quorum queue without a leader never confirmed a hint, and the relay waited for it. Hints need no "
        "confirmation",
    ),
    Scenario("postgres-crashed", "PostgreSQL recovers from a crash, again and again"),
    Scenario("postgres-restarted", "PostgreSQL is stopped in order and started, again and again"),
    Scenario("postgres-promoted", "the primary is killed and its synchronous standby promoted"),
    Scenario(
        "postgres-behind",
        "the primary is killed and a standby promoted that lacks the last commits; producers repeat their requests",
    ),
    Scenario("connections-exhausted", "every connection of the server is taken by others"),
    Scenario("disk-full", "the disk of PostgreSQL is full for a while (needs root: a small tmpfs)"),
    Scenario("read-only", "the database is read-only for a while, as after a failover to a standby"),
    Scenario("answers-lost", "connections are cut before or after a COMMIT, at random: nobody knows if it took place"),
    Scenario(
        "platform-acts",
        "the platform ends, hands to a pathway, deletes and makes anew enrolments and learners, and holds rows",
    ),
    Scenario(
        "old-snapshot",
        "a transaction stays open while a hundred thousand rows pass",
        "until it ends, a claim reads the dead rows of the chunks that passed, up to a page for each chunk; the rows "
        "in the chunks do not matter. Not changed",
    ),
    Scenario("clocks-off", "processes have clocks five minutes ahead and behind"),
    Scenario("poison-rows", "a trigger and a constraint of the platform refuse certain enrolments"),
    Scenario(
        "two-releases",
        "web, worker and relay of the previous release run beside this one, on the new schema; needs its tag in git",
        "this release's client refused the jobs that the previous one answers, because they have no title. It has a "
        "default",
    ),
    Scenario(
        "up-and-down",
        "under load, each from its wheel: the previous release, a migration by this one, both, this one alone, the "
        "previous one alone on the new schema, this one again; needs its tag in git",
        "a migration took so long to load that its idle transaction was ended. It is loaded before its transaction "
        "begins",
    ),
    Scenario(
        "host-vanished",
        "the cable of a host is cut under its work (needs root: hosts are network namespaces): no connection is "
        "closed, packets are lost; two other hosts go on, and later it is back",
        "PostgreSQL kept the sessions of the host for two hours. Each session asks it for keepalives now",
    ),
    Scenario("storms", "single requests and HR events arrive in storms during a bulk job"),
)
