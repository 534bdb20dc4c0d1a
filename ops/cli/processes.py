"""Run a process of the service; show and examine its settings."""

import os
import signal
import socket
from collections.abc import Callable
from contextlib import closing
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ops.cli import common, servers, sockets
from ops.cli.common import AsJson
from ops.local import python, supervisor
from worker import logs, telemetry
from worker.config import Settings, settings, variable
from worker.database import Database
from worker.garbage import collect_seldom, loading
from worker.telemetry import health, shared
from worker.telemetry.family import Family

if TYPE_CHECKING:
    from worker.queue.hints import Hints

_RELAY_RETRY = 3.0
"""Seconds. After that the relay goes on with its next step; the next round repeats this one."""


def register(app: typer.Typer) -> None:
    """Put this module's commands on the tree."""
    commands: dict[str, Callable[..., None]] = {
        "web": web, "worker": worker, "relay": relay, "config": config, "doctor": doctor,
    }  # fmt: skip
    for name, command in commands.items():
        app.command(name)(command)


def web(
    socket_: Annotated[
        int | None, typer.Option("--socket", hidden=True, help="Of a process among several: the shared socket.")
    ] = None,
) -> None:
    """Serve HTTP: the API, webhooks, SCIM, the console; /healthz and /readyz."""
    from worker.access.sealing import Seal  # noqa: PLC0415 - only this command needs it
    from worker.sign_on.provider import Provider  # noqa: PLC0415 - likewise

    with servers.environment(broker=True, join=False) as current:
        Seal(current, "start")  # fails now, not at the first webhook, if the key is missing
        Provider.of(current)  # likewise
        if socket_ is None and current.web_processes > 1:
            with closing(Database(current, pool_size=1)) as database:  # here, because each process would be restarted
                common.verify_sessions(database)
            with shared.directory():  # each of them answers /metrics for all
                supervisor.run_sharing(
                    sockets.listen(current.host, current.port),
                    python.module("ops", "web", "--socket"),
                    count=current.web_processes,
                    stop_seconds=current.shutdown_seconds + 5,
                )
        else:
            _serve(current, socket.socket(fileno=socket_) if socket_ is not None else None)


def _serve(current: Settings, listening: socket.socket | None) -> None:
    with loading():
        from worker.queue.broker import open_broker  # noqa: PLC0415 - only this command needs it
        from worker.web.app import make_app  # noqa: PLC0415 - likewise
        from worker.web.pools import Pools  # noqa: PLC0415 - likewise
        from worker.web.server import serve  # noqa: PLC0415 - likewise

    logs.configure(current)
    telemetry.start(current, "web")
    pools = Pools.open(current)
    try:
        common.verify_sessions(pools.requests)
        serve(make_app(pools, open_broker(current.broker_url.get_secret_value()), current), current, listening)
    finally:
        pools.close()
        telemetry.stop()


def worker(
    processes: Annotated[int | None, typer.Option(min=1, max=64, help="Default: WITHDRAWALS_PROCESSES.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, max=64, help="Default: WITHDRAWALS_THREADS.")] = None,
) -> None:
    """Withdraw what is due. On SIGTERM, finish or give back the current chunks in WITHDRAWALS_SHUTDOWN_SECONDS."""
    from worker.queue.broker import open_broker  # noqa: PLC0415 - only this command needs it

    with servers.environment(broker=True, join=False) as current:
        count, each = processes or current.processes, threads or current.threads
        with closing(Database(current, pool_size=1)) as database:  # here, because each of its processes would restart
            common.verify_sessions(database)
        command, variables = _dramatiq(current, count, each), _worker_environment(each)
        if current.health_port is None:
            raise typer.Exit(supervisor.run_until_signalled(command, variables))
        broker = open_broker(current.broker_url.get_secret_value())
        with shared.directory() as path:
            family = Family(path, count, reaches_broker=lambda: _answers(broker))
            with health.serving(current, alive=family.alive, ready=family.ready):
                raise typer.Exit(supervisor.run_until_signalled(command, variables))


def _answers(broker: "Hints") -> bool:
    try:
        broker.ping()
    except broker.errors:
        return False
    return True


def relay() -> None:
    """Notify workers of due work and recover after crashes. Any number may run; one of them leads."""
    from worker.queue.broker import open_broker  # noqa: PLC0415 - only this command needs it
    from worker.queue.relay import Relay  # noqa: PLC0415 - likewise

    with servers.environment(broker=True, join=False) as current:
        logs.configure(current)
        telemetry.start(current, "relay")
        database = Database(current, retry_seconds=_RELAY_RETRY)
        database.show_use("relay")
        common.verify_sessions(database)
        running = Relay(database, open_broker(current.broker_url.get_secret_value()), current)
        for received in (signal.SIGTERM, signal.SIGINT):
            signal.signal(received, lambda *_: running.stop())
        collect_seldom()
        with health.serving(current, alive=running.alive, ready=running.ready):
            running.run()
        database.close()
        telemetry.stop()


def config(json: AsJson = False) -> None:
    """List every setting: variable, current value, default, meaning. Secrets are hidden."""
    rows = []
    current = settings()
    for name, field in Settings.model_fields.items():
        value, default = _as_text(getattr(current, name)), _as_text(field.default)
        rows.append({"variable": variable(name), "value": value, "default": default, "meaning": field.description})
    rows.append(
        {
            "variable": "WITHDRAWALS_LOCAL_DIR",
            "value": os.environ.get("WITHDRAWALS_LOCAL_DIR") or "",
            "default": "",
            "meaning": "directory for the data of embedded servers; unset: .local/",
        }
    )
    columns = ("variable", "value", "default", "meaning")
    common.print_list(rows, json, columns=columns, row=lambda one: tuple(one.values()))


def doctor(json: AsJson = False) -> None:
    """Check that everything the service needs can be reached, has the right version and is set up safely."""
    from ops.doctor.examine import examine  # noqa: PLC0415 - only this command needs it

    with servers.environment(broker=True) as current:
        findings = examine(current)
    columns = ("", "what", "finding")
    common.print_list(findings, json, columns=columns, row=lambda one: (one.level, one.what, one.finding))
    if any(item.level == "wrong" for item in findings):
        raise typer.Exit(1)


def _dramatiq(current: Settings, processes: int, threads: int) -> list[str]:
    grace = round((current.shutdown_seconds + 5) * 1000)
    return [
        *python.module("dramatiq", "worker.actors.main"), "--path", str(python.ROOT), "--processes", str(processes),
        "--threads", str(threads), "--worker-shutdown-timeout", str(grace), "--skip-logging",
    ]  # fmt: skip


def _worker_environment(threads: int) -> dict[str, str]:
    # Prefetch equals the threads: a hint that one process holds back is one that another cannot act on.
    return {"dramatiq_queue_prefetch": str(threads), "dramatiq_restart_delay": "500"}


def _as_text(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:g}" if isinstance(value, float) else str(value)  # a SecretStr prints as stars
