"""What a worker process does around its messages: come up, be seen, log, and go in order."""

import os
import signal
import threading
from uuid import uuid4

import dramatiq
import structlog

from worker import logs
from worker.config import Settings
from worker.database import Database
from worker.errors import describe
from worker.ledger import jobs, processes
from worker.queue.drain import Withdrawer
from worker.webhooks.deliveries import Deliverer

log = structlog.get_logger(__name__)

_HEARTBEAT = 3.0  # seconds


class Lifecycle(dramatiq.Middleware):
    """Owns the process's connections and its claim loop.

    Without it a worker would be unknown to the relay (which counts threads to size its hints), would keep its
    claims until their lease ran out at every deployment, and would outlive a killed parent unsupervised.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._id = uuid4()
        self._threads = settings.threads
        self._ended = threading.Event()
        self._parent = 0

    def after_process_boot(self, broker: dramatiq.Broker) -> None:
        logs.configure(self._settings)
        self._parent = os.getppid()
        self.database = Database(self._settings, pool_size=self._settings.threads + 1)
        self.withdrawer = Withdrawer(self.database, self._settings)
        self.deliverer = Deliverer(self.database, self._settings)

    def after_worker_boot(self, broker: dramatiq.Broker, worker: dramatiq.Worker) -> None:
        self._threads = worker.worker_threads
        threading.Thread(target=self._beat, name="heartbeat", daemon=True).start()
        log.info("worker.started", threads=self._threads)

    def before_worker_shutdown(self, broker: dramatiq.Broker, worker: dramatiq.Worker) -> None:
        self.withdrawer.stop()
        self.deliverer.stop()
        self._last_call = threading.Timer(self._settings.shutdown_seconds, self.withdrawer.interrupt)
        self._last_call.daemon = True
        self._last_call.start()

    def after_worker_shutdown(self, broker: dramatiq.Broker, worker: dramatiq.Worker) -> None:
        self._last_call.cancel()
        self._ended.set()
        try:
            with self.database.begin() as connection:
                processes.remove(connection, self._id)
        except Exception as error:
            log.warning("worker.not_signed_off", error_class=describe(error)[0])
        self.database.close()
        log.info("worker.stopped")

    def _beat(self) -> None:
        first = True
        while not self._ended.is_set():
            try:
                with self.database.begin() as connection:
                    processes.record_alive(connection, self._id, "worker", self._threads)
                    if first:
                        jobs.notify(connection)
                first = False
            except Exception as error:
                log.warning("heartbeat.failed", error_class=describe(error)[0])
            if os.getppid() != self._parent:
                log.warning("worker.orphaned")
                os.kill(os.getpid(), signal.SIGTERM)
                return
            self._ended.wait(_HEARTBEAT)


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
