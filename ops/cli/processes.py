"""Run the service: each process by itself, or all of them; and what they are set to."""

import os
import signal
import socket
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer

from ops import doctor as examination
from ops.cli import common, welcome
from ops.cli.common import AsJson
from ops.local import supervisor
from worker import logs
from worker.access.sealing import Seal
from worker.config import Settings, settings, variable
from worker.database import Database
from worker.errors import InvalidInputError, SettingsError
from worker.ledger import jobs
from worker.queue.broker import make_broker

_WEB_RETRY = 3.0
"""Seconds: a caller who waits is rather told to come back (503, Retry-After) than kept."""


def register(app: typer.Typer) -> None:
    """Put this module's commands on the tree."""
    commands: dict[str, Callable[..., None]] = {
        "demo": demo, "up": up, "web": web, "worker": worker, "relay": relay, "config": config, "doctor": doctor,
    }  # fmt: skip
    for name, command in commands.items():
        app.command(name)(command)


def demo(
    part: Annotated[
        str | None, typer.Argument(metavar="[brake]", help="`brake`: a short one, of a hold and its release.")
    ] = None,
) -> None:
    """Replay the Open University's withdrawals, ten thousand of them, and compare every figure."""
    if part not in (None, "brake"):
        raise InvalidInputError(f"demo {part}: there is none; give `brake`, or nothing for the replay")
    from ops.demo import brake, run  # noqa: PLC0415 - only this command needs them

    with common.environment(keep_servers=True) as current:
        common.bring_up_to_date(current)
        if not (brake.run(current) if part == "brake" else run.run(current)):
            raise typer.Exit(1)


def up(
    demo: Annotated[
        bool, typer.Option("--demo", help="With the Open University's data, loaded once, and jobs over it.")
    ] = False,
) -> None:
    """Run web, worker and relay, with embedded servers where none are set, until Ctrl-C.

    It shows a token for the console: of the only organisation of an embedded database, or of the demo on a terminal.
    """
    embedded = not settings().database_url.get_secret_value()
    with common.environment(keep_servers=True) as current:
        _require_free(current.host, current.port)
        revision = common.bring_up_to_date(current)
        if demo:
            _load_demo(current)
        address = f"http://{current.host}:{current.port}"
        common.out.print(f"database at revision {revision}; web, worker and relay are starting")
        common.out.print(f"health: {address}/healthz   readiness: {address}/readyz")
        for line in welcome.lines(address):
            common.out.print(line, markup=False)
        common.out.print("# `withdrawals --help` lists everything; Ctrl-C stops it")
        for line in _invitation(current, address, demo=demo, embedded=embedded):
            common.out.print(line, markup=False, style="bold")
        supervisor.run_procfile()
        common.out.print("stopped")


def _load_demo(current: Settings) -> None:
    from ops.demo import tour  # noqa: PLC0415 - only the demo needs it

    common.out.print("loading the demo's data, a few seconds …")
    done = tour.load(current)
    said = "loaded; its jobs begin with the workers" if done else "was loaded before, and is as you left it"
    common.out.print(f"{tour.ORGANISATION}: {said}")
    common.out.print(f"try: withdraw a learner or a Series of {tour.LEFT}; clear the 292 dead letters of the pathway")


def _invitation(current: Settings, address: str, *, demo: bool, embedded: bool) -> list[str]:
    """The way into the console.

    The token of a database that is this machine's own goes where the output goes, any other to a terminal alone.
    """
    database = Database(current, pool_size=1)
    try:
        with database.begin() as connection:
            known = {name: found for found, name, _ in jobs.organisations(connection)}
        if demo:
            from ops.demo import tour  # noqa: PLC0415 - only the demo needs it

            known = {tour.ORGANISATION: known[tour.ORGANISATION]}
        secret = None
        if len(known) == 1 and (embedded or (demo and sys.stdout.isatty())):
            secret = welcome.fresh_token(database, next(iter(known.values())))
        return welcome.invitation(address, list(known), secret)
    finally:
        database.close()


def web() -> None:
    """Answer HTTP: the API, webhooks, SCIM; /healthz and /readyz."""
    from worker.web.app import make_app  # noqa: PLC0415 - only this command needs it
    from worker.web.server import serve  # noqa: PLC0415 - likewise

    with common.environment() as current:
        logs.configure(current)
        database = Database(current, pool_size=20, retry_seconds=_WEB_RETRY)
        broker = make_broker(current.broker_url.get_secret_value())
        Seal(current, "start")  # says now, not at the first webhook, that a key is needed
        serve(make_app(database, broker, current), current)


def worker(
    processes: Annotated[int | None, typer.Option(min=1, max=64, help="Default: WITHDRAWALS_PROCESSES.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, max=64, help="Default: WITHDRAWALS_THREADS.")] = None,
) -> None:
    """Decide what is due. SIGTERM finishes what is in hand, or gives it back within WITHDRAWALS_SHUTDOWN_SECONDS."""
    with common.environment() as current:
        count, each = processes or current.processes, threads or current.threads
        raise typer.Exit(supervisor.run_until_signalled(_dramatiq(current, count, each), _worker_environment(each)))


def relay() -> None:
    """Publish hints for what is due, and sweep up after crashes. Any number may run; one leads."""
    from worker.queue.relay import Relay  # noqa: PLC0415 - only this command needs it

    with common.environment() as current:
        logs.configure(current)
        database = Database(current)
        running = Relay(database, make_broker(current.broker_url.get_secret_value()), current)
        for received in (signal.SIGTERM, signal.SIGINT):
            signal.signal(received, lambda *_: running.stop())
        running.run()
        database.close()


def config(json: AsJson = False) -> None:
    """List every setting: variable, value now, default, meaning. Secrets are not shown."""
    rows = []
    current = settings()
    for name, field in Settings.model_fields.items():
        value, default = _shown(getattr(current, name)), _shown(field.default)
        rows.append({"variable": variable(name), "value": value, "default": default, "meaning": field.description})
    rows.append(
        {
            "variable": "WITHDRAWALS_LOCAL_DIR",
            "value": os.environ.get("WITHDRAWALS_LOCAL_DIR") or "",
            "default": "",
            "meaning": "where embedded servers keep their data; unset: .local/",
        }
    )
    if json:
        common.print_json({"items": rows, "next_cursor": None})
        return
    common.out.print(
        common.table("variable", "value", "default", "meaning", rows=[tuple(row.values()) for row in rows])
    )


def doctor(json: AsJson = False) -> None:
    """Can everything that is needed be reached, in the right version, and is it set up safely?"""
    with common.environment() as current:
        findings = examination.examine(current)
    if json:
        common.print_json({"items": findings, "next_cursor": None})
    else:
        common.out.print(
            common.table("", "what", "finding", rows=[(item.level, item.what, item.finding) for item in findings])
        )
    if any(item.level == "wrong" for item in findings):
        raise typer.Exit(1)


def _require_free(host: str, port: int) -> None:
    """Say at once that the port is taken, instead of starting a server over and over that cannot listen."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            reason = error.strerror or "cannot be used"
            raise SettingsError(
                f"WITHDRAWALS_HOST, WITHDRAWALS_PORT: {host}:{port}: {reason}; set another, or stop what listens there"
            ) from None


def _dramatiq(current: Settings, processes: int, threads: int) -> list[str]:
    grace = round((current.shutdown_seconds + 5) * 1000)
    return [
        sys.executable, "-m", "dramatiq", "worker.actors.main", "--processes", str(processes),
        "--threads", str(threads), "--worker-shutdown-timeout", str(grace), "--skip-logging",
    ]  # fmt: skip


def _worker_environment(threads: int) -> dict[str, str]:
    # Prefetch equals the threads: a hint that one process hoards is one that another cannot act on.
    return {"dramatiq_queue_prefetch": str(threads), "dramatiq_restart_delay": "500"}


def _shown(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:g}" if isinstance(value, float) else str(value)  # a SecretStr shows stars
