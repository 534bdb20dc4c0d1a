"""What a worker process does besides deciding: start-up, heartbeat, log context, graceful shutdown."""

import os
import signal
import threading

import dramatiq
import structlog

from worker import logs, telemetry
from worker.config import Settings
from worker.database import BY_INDEX, Database
from worker.garbage import collect_seldom
from worker.notifications.sender import Sender
from worker.queue.drain import Drain
from worker.queue.heartbeat import Heartbeat
from worker.queue.lookups import Lookups
from worker.webhooks.deliveries import Deliverer

log = structlog.get_logger(__name__)


class Lifecycle(dramatiq.Middleware):
    """Owns the process's connections, its drain and its heartbeat.

    Without it a worker would be unknown to the relay (which counts threads to size its hints), would keep its
    claims until their lease ran out at every deployment, and would outlive a killed parent unsupervised.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._parent = 0
        self._orphaned = False

    def after_process_boot(self, broker: dramatiq.Broker) -> None:
        logs.configure(self._settings)
        telemetry.start(self._settings, "worker")
        self._parent = os.getppid()
        self.database = Database(self._settings, pool_size=self._settings.threads + 1, planner_off=BY_INDEX)
        self.database.show_use("worker")
        self.drain = Drain(self.database, self._settings)
        waits_for_others = threading.Semaphore()
        self.deliverer = Deliverer(self.database, self._settings, waits_for_others)
        self.sender = Sender(self.database, self._settings, waits_for_others)
        self.lookups = Lookups(self.database, self._settings, waits_for_others)
        collect_seldom()

    def after_worker_boot(self, broker: dramatiq.Broker, worker: dramatiq.Worker) -> None:
        self._heartbeat = Heartbeat(self.database, "worker", threads=worker.worker_threads)
        self._heartbeat.start(after_each=self._end_with_parent)
        self._warming_up = threading.Thread(target=self.drain.warm_up, name="warm up", daemon=True)
        self._warming_up.start()
        log.info("worker.started", threads=worker.worker_threads)

    def before_worker_shutdown(self, broker: dramatiq.Broker, worker: dramatiq.Worker) -> None:
        self.drain.stop()
        self.deliverer.stop()
        self.lookups.stop()
        self.sender.stop()
        self._last_call = threading.Timer(self._settings.shutdown_seconds, self.drain.interrupt)
        self._last_call.daemon = True
        self._last_call.start()

    def after_worker_shutdown(self, broker: dramatiq.Broker, worker: dramatiq.Worker) -> None:
        self._warming_up.join()  # it may have a claim in hand, as any of the worker's own threads
        self._last_call.cancel()
        self._heartbeat.stop()
        self.database.close()
        telemetry.stop()
        log.info("worker.stopped")

    def _end_with_parent(self) -> None:
        if os.getppid() != self._parent and not self._orphaned:  # once: a second signal would end it at once
            self._orphaned = True
            log.warning("worker.orphaned")
            os.kill(os.getpid(), signal.SIGTERM)


class MessageLogs(dramatiq.Middleware):
    """Binds the message's id to every log line of its run, and clears it after.

    Without it a line could not be told apart from one of the thread's previous message.
    """

    def before_process_message(self, broker: dramatiq.Broker, message: dramatiq.MessageProxy) -> None:
        structlog.contextvars.bind_contextvars(message_id=message.message_id)

    def after_process_message(
        self,
        broker: dramatiq.Broker,
        message: dramatiq.MessageProxy,
        *,
        result: object = None,
        exception: BaseException | None = None,
    ) -> None:
        structlog.contextvars.clear_contextvars()
