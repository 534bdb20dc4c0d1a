"""PostgreSQL: one engine a process, one way to run a transaction, one place that retries.

The retry budget here is seconds, for what passes by itself (serialization, deadlock, a connection that went
away, a server that restarts or takes no writes); the budget of hours is `run_after` in the ledger.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar, cast

import sqlalchemy
import structlog
import tenacity
from sqlalchemy import Connection, Engine
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.pool import ConnectionPoolEntry, QueuePool

from worker import session_settings
from worker.config import Settings
from worker.database_urls import direct_parameters, replica_parameters, service_parameters
from worker.faults import describe, is_passing, is_read_only, is_transient
from worker.notifier import Notifier
from worker.one_message import OWN_SESSION, Part, Step
from worker.telemetry import metrics, tracing

log = structlog.get_logger(__name__)
T = TypeVar("T")
Item = TypeVar("Item")

CHANNEL = "withdrawals_due"
"""What is notified after a commit that made something due; the relay listens to it."""
_NOTIFY = sqlalchemy.text(f"NOTIFY {CHANNEL}")
# A notification is a commit, too. Nobody waits for the disk because of it: lost in a crash, it is one of those that the
# relay's next round makes up for.
_NOTIFY_ALONE = Step(
    "notify", f"SELECT set_config('synchronous_commit', 'off', true), pg_notify('{CHANNEL}', '') /* NOTIFY */"
)

BY_INDEX = ("enable_seqscan", "enable_bitmapscan")
"""What is off where statements read a little of tables that grow (`worker/ledger/fragments.py`)."""
BY_ORDER = (*BY_INDEX, "enable_sort", "enable_incremental_sort")
PLANNER_OFF = "withdrawals_planner_off"
"""In a connection's `info`: what is off in its whole session."""

_AFTER_COMMIT = "withdrawals_after_commit"
MORE = 2
"""Connections beyond the size of a pool, for moments."""


class Database:
    """The connections of one process, acting as the service's role with timeouts below the lease."""

    def __init__(
        self,
        settings: Settings,
        *,
        pool_size: int = 5,
        as_owner: bool = False,
        replica: bool = False,
        retry_seconds: float | None = None,
        planner_off: Sequence[str] = (),
    ) -> None:
        """`as_owner` keeps the login's own rights and goes past a pooler: for migrations and for loading sample data.

        `replica`: connections to the standby of `DATABASE_REPLICA_URL`, which takes no writes.

        `retry_seconds`: how long `run` tries again, and a connection of the pool is waited for; by default
        half a lease. Short where somebody waits for the answer and would rather be told to come back.
        `planner_off`: `BY_INDEX` or `BY_ORDER` for connections whose statements are all planned like this. It saves
        each transaction a round trip.
        """
        self.retry_seconds = retry_seconds or settings.lease_seconds / 2
        self._settings = settings
        self._planner_off = planner_off
        self._needed = session_settings.Needed.by(settings)
        self._parameters = replica_parameters if replica else direct_parameters if as_owner else service_parameters
        # No start-up options: a pooler refuses them, or loses them in silence (ops/decisions/0026).
        self.engine: Engine = sqlalchemy.create_engine(
            "postgresql+psycopg://",
            pool_size=pool_size,
            max_overflow=MORE,
            pool_timeout=max(self.retry_seconds, 5),
            pool_use_lifo=True,
            hide_parameters=True,  # an error that nobody catches shows no personal data
            connect_args=self._parameters(settings)
            | {
                "application_name": "withdrawals",
                "connect_timeout": 5,
                "keepalives_idle": 10,
                "keepalives_interval": 5,
                "keepalives_count": 3,
                "tcp_user_timeout": 15_000,  # a host that vanished acknowledges nothing
                "prepare_threshold": None,  # until it is known that no pooler is in between
            },
        )
        prepare = self._prepare_owner_session if as_owner else self._prepare_service_session
        sqlalchemy.event.listen(self.engine, "do_connect", self._use_newest_secret)
        sqlalchemy.event.listen(self.engine, "connect", prepare, insert=True)  # before SQLAlchemy asks for the version
        sqlalchemy.event.listen(self.engine, "handle_error", _leave_read_only_server)
        tracing.watch(self.engine)
        self._most = pool_size + MORE
        self._notifier = Notifier(self._notify)
        self._before_close: list[Callable[[], None]] = []

    def verify(self) -> session_settings.Found:
        """Read back role and timeouts of a session, through this pool.

        Raises:
            SessionError: they are not as the service needs them; the message says what to do.
            DBAPIError: PostgreSQL cannot be reached.
        """
        with self.engine.connect() as connection:
            return session_settings.require(driver(connection), self._needed)

    def _use_newest_secret(self, _: object, __: object, ___: object, parameters: dict[str, Any]) -> None:
        """Connect with what the file of the secret has now: it may have been rotated since the start."""
        parameters.update(self._parameters(self._settings))

    def _prepare_service_session(self, session: session_settings.Session, record: ConnectionPoolEntry) -> None:
        prepares, off = self._settings.database_pooler_prepares, self._planner_off
        if session_settings.prepare_service_session(session, self._needed, pooler_prepares=prepares, planner_off=off):
            record.info[OWN_SESSION] = True
            record.info[PLANNER_OFF] = frozenset(off)

    def _prepare_owner_session(self, session: session_settings.Session, _: object) -> None:
        session_settings.prepare_owner_session(session, self._needed)

    @contextmanager
    def begin(self, *, autocommit: bool = False) -> Iterator[Connection]:
        """One transaction, not repeated. What it asked for by `notify_after_commit` is sent once it has committed.

        `autocommit`: each statement is a transaction of its own, which saves two of three round trips where there is
        but one.
        """
        after = _AfterCommit(self._notifier, is_committing=autocommit)
        try:
            with self.engine.connect() if autocommit else self.engine.begin() as connection:
                if autocommit:
                    connection.execution_options(isolation_level="AUTOCOMMIT")
                connection.execution_options(**{_AFTER_COMMIT: after})
                yield connection
                after.is_committing = True
        finally:  # also when the answer to the commit was lost: it may have committed
            if after.is_committing and after.notify:
                self._notifier.notify()

    def run(
        self,
        work: Callable[[Connection], T],
        *,
        patient: bool = False,
        wait: Callable[[Connection], object] | None = None,
        autocommit: bool = False,
    ) -> T:
        """Run `work` in one transaction; repeat the whole of it after a transient error.

        `patient`: also after a lock or statement timeout, for a caller who would only ask again.
        `autocommit`: as of `begin`.
        `wait`: run in a transaction of its own before `work` is repeated: it waits there for what `work` must not wait
        for, because others wait for what `work` holds.

        `work` is repeated also when the commit's answer was lost, so it has to start from a guard: a token,
        a key or a state that a first success has changed. Any other error rolls back and is raised.
        """
        for attempt in tenacity.Retrying(
            retry=tenacity.retry_if_exception(is_passing if patient else is_transient),
            stop=tenacity.stop_after_delay(self.retry_seconds),
            wait=tenacity.wait_random_exponential(multiplier=0.05, max=1.0),
            before_sleep=_log_retry,
            reraise=True,
        ):
            with attempt:
                if wait is not None and attempt.retry_state.attempt_number > 1:
                    with self.begin() as connection:
                        wait(connection)
                with self.begin(autocommit=autocommit) as connection:
                    return work(connection)
        raise AssertionError("tenacity ends by returning or raising")

    def run_each(self, items: Iterable[Item], work: Callable[[Connection, Item], T], *, step: str) -> list[T]:
        """Run `work` for each item in a transaction of its own; what it returned for those that did not fail.

        An item that fails is logged under `step` and does not keep the others from their turn.

        Raises:
            Exception: a transient error outlasted the retries: PostgreSQL is out of reach for all of them.
        """
        results = []
        for item in items:
            try:
                results.append(self.run(partial(_apply, work, item)))
            except Exception as error:
                if is_transient(error):
                    raise
                name, message, fingerprint = describe(error)
                log.warning("item.failed", step=step, error_class=name, message=message, fingerprint=fingerprint)
        return results

    def show_use(self, pool: str) -> None:
        """Show in the metrics how many of these connections are in use, as those of `pool`, until they are closed."""
        most, in_use = metrics.POOL.labels(pool, "most"), metrics.POOL.labels(pool, "in_use")

        def read() -> None:
            most.set(self._most)
            in_use.set(cast(QueuePool, self.engine.pool).checkedout())

        metrics.sample_with(self, read)

    def before_close(self, act: Callable[[], None]) -> None:
        """Call `act` when these connections are closed, while they still work."""
        self._before_close.append(act)

    def close(self) -> None:
        """Send the notification that is still to be sent, and close every connection."""
        metrics.forget(self)
        for act in self._before_close:
            act()
        self._notifier.close()
        self.engine.dispose()

    def _notify(self) -> None:
        with self.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(_NOTIFY_ALONE.clause)


def _apply(work: Callable[[Connection, Item], T], item: Item, connection: Connection) -> T:
    return work(connection, item)


@dataclass(slots=True)
class _AfterCommit:
    """What a transaction of `Database.begin` has asked for, and how far it is."""

    notifier: Notifier
    notify: bool = False
    is_committing: bool = False


def notify_after_commit(connection: Connection) -> None:
    """Let the relay be notified once this transaction has committed. One that is rolled back notifies nobody."""
    after: _AfterCommit | None = connection.get_execution_options().get(_AFTER_COMMIT)
    if after is None:  # a transaction that no `Database` has begun
        connection.execute(_NOTIFY)
    else:
        after.notify = True


@contextmanager
def notifying(connection: Connection) -> Iterator[list[Part]]:
    """Let the relay be notified of what one message commits: by the part that this returns, behind the commit in the
    same message, or by none in a storm, when the notifications of a process are gathered.

    It saves a request that comes alone another thread and another round trip before a worker is woken.
    """
    notify_after_commit(connection)  # the answer to the message may be lost
    after: _AfterCommit | None = connection.get_execution_options().get(_AFTER_COMMIT)
    if after is None or not after.notifier.take_turn():
        yield []
    else:
        yield [(_NOTIFY_ALONE, {})]
        after.notify = False


def _leave_read_only_server(context: ExceptionContext) -> None:
    """Close the pool's connections to a server that takes no writes any more: new ones find the new primary."""
    if is_read_only(context.original_exception):
        context.is_disconnect = True


def _log_retry(state: tenacity.RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    name, message, fingerprint = describe(error) if error else ("", "", "")
    log.info(
        "transaction.retried",
        error_class=name,
        message=message,
        fingerprint=fingerprint,
        attempt=state.attempt_number,
    )


def driver(connection: Connection) -> Any:
    """The psycopg connection under a SQLAlchemy one, for COPY and cancellation."""
    return connection.connection.driver_connection
