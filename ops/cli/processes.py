"""Run the service, one process or all of them; show and examine its settings."""

import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from http.client import HTTPConnection, HTTPException
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ops.cli import common, servers
from ops.cli.common import AsJson
from ops.local import python, supervisor
from schemas.catalogue import Role
from worker import logs, telemetry
from worker.config import Settings, settings, variable
from worker.database import Database
from worker.errors import InvalidInputError, SettingsError
from worker.garbage import collect_seldom
from worker.ledger import jobs
from worker.sign_on_settings import LOOPBACK
from worker.telemetry import health, shared
from worker.telemetry.family import Family

if TYPE_CHECKING:
    from worker.access.tokens import NewToken
    from worker.queue.hints import Hints

_RELAY_RETRY = 3.0
"""Seconds. After that the relay goes on with its next step; the next round repeats this one."""
_ANSWER_SECONDS = 2.0
"""How long `up` waits for one answer of the web process, which it asks again and again while it starts."""


def register(app: typer.Typer) -> None:
    """Put this module's commands on the tree."""
    commands: dict[str, Callable[..., None]] = {
        "demo": demo, "up": up, "web": web, "worker": worker, "relay": relay, "config": config, "doctor": doctor,
    }  # fmt: skip
    for name, command in commands.items():
        app.command(name)(command)


def demo(
    part: Annotated[
        str | None, typer.Argument(metavar="[brake]", help="`brake` runs a short demo of the brake.")
    ] = None,
) -> None:
    """Replay ten thousand withdrawals of the Open University and compare every figure with the dataset."""
    if part not in (None, "brake"):
        raise InvalidInputError(f"demo {part}: unknown demo. Use `demo` or `demo brake`.")
    from ops.demo import brake, run  # noqa: PLC0415 - only this command needs them

    _say_embedded()
    with servers.embedded(keep=True) as current:
        servers.bring_up_to_date(current)
        if not (brake.run(current) if part == "brake" else run.run(current)):
            raise typer.Exit(1)


def up(
    demo: Annotated[
        bool, typer.Option("--demo", help="Load the Open University's data once, and submit jobs over it.")
    ] = False,
) -> None:
    """Run web, worker and relay until Ctrl-C, with embedded servers in place of URLs that are not set.

    Prints, once the service answers, a link and a token that open the console if the database is embedded and has one
    organisation, or for --demo on a terminal. The demo has two people, who can also be chosen on its sign-in page while
    the database is embedded.
    """
    from ops.cli import welcome  # noqa: PLC0415 - only this command needs it

    embedded = not settings().database_url.get_secret_value()
    _say_embedded()
    with servers.embedded(keep=True) as current:
        _require_free(current.host, current.port)
        revision = servers.bring_up_to_date(current)
        if demo:
            _load_demo(current)
        address = f"http://{current.host}:{current.port}"
        common.out.print(f"Database at revision {revision}. Starting web, worker and relay.")
        common.out.print("How to sign in to the console is printed below once they answer.")
        common.out.print(f"health: {address}/healthz   readiness: {address}/readyz")
        for line in welcome.lines(address):
            common.out.print(line, markup=False)
        common.out.print("# withdrawals --help lists all commands; Ctrl-C stops the service")
        organisations, made = _make_tokens(current, demo=demo, embedded=embedded)

        def invite() -> None:
            for line in _invitation(current, address, organisations, made):
                common.out.print(line, markup=False, style="bold")

        supervisor.run_procfile(lambda: _serves(current.host, current.port), invite)
        common.out.print("Stopped.")


def _say_embedded() -> None:
    for line in servers.describe_embedded():
        common.err.print(line, markup=False)


def _load_demo(current: Settings) -> None:
    from ops.demo import tour  # noqa: PLC0415 - only the demo needs it

    common.out.print("Loading the demo data. This takes a few seconds.")
    loaded = tour.load(current)
    state = "loaded; its jobs start with the workers" if loaded else "loaded before; unchanged"
    common.out.print(f"{tour.ORGANISATION}: {state}")
    common.out.print(f"Try it: withdraw a learner or a Series of {tour.UNTOUCHED}, or resolve the 292 dead letters.")


def _serves(host: str, port: int) -> bool:
    """Whether the web process answers, so that a link to it leads somewhere."""
    with suppress(OSError, HTTPException), closing(HTTPConnection(host, port, timeout=_ANSWER_SECONDS)) as asking:
        asking.request("GET", "/healthz")
        return asking.getresponse().status == 200
    return False


def _make_tokens(current: Settings, *, demo: bool, embedded: bool) -> tuple[list[str], "list[NewToken]"]:
    """The names of the organisations, and tokens that open the console.

    With an embedded database they are made wherever the output goes, with any other only on a terminal.
    """
    from ops.cli import welcome  # noqa: PLC0415 - only this command needs it

    with closing(Database(current, pool_size=1)) as database:
        with database.begin() as connection:
            known = {name: found for found, name, _ in jobs.organisations(connection)}
        people: Sequence[tuple[str, Role]] = ((welcome.TOKEN, Role.OWNER),)
        if demo:
            from ops.demo import tour  # noqa: PLC0415 - only the demo needs it

            known, people = {tour.ORGANISATION: known[tour.ORGANISATION]}, tour.PEOPLE
        made: list[NewToken] = []
        if len(known) == 1 and (embedded or (demo and sys.stdout.isatty())):
            made = welcome.fresh_tokens(database, next(iter(known.values())), people)
        if demo and embedded and current.host in LOOPBACK:  # the sign-in page of the web process, a child, offers them
            os.environ[variable("demo_people")] = ",".join(str(one.token.id) for one in made)
    return list(known), made


def _invitation(current: Settings, address: str, organisations: Sequence[str], made: "Sequence[NewToken]") -> list[str]:
    """How to sign in to the console, with links that begin to age now."""
    from ops.cli import welcome  # noqa: PLC0415 - only this command needs it
    from worker.access import sessions  # noqa: PLC0415 - likewise

    near = current.host in LOOPBACK
    with closing(Database(current, pool_size=1)) as database:
        invited = [welcome.Invited(one, sessions.make_link(database, one.token.id) if near else None) for one in made]
    return welcome.invitation(address, organisations, invited)


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
                    _listen(current.host, current.port),
                    python.module("ops", "web", "--socket"),
                    count=current.web_processes,
                    stop_seconds=current.shutdown_seconds + 5,
                )
        else:
            _serve(current, socket.socket(fileno=socket_) if socket_ is not None else None)


def _serve(current: Settings, listening: socket.socket | None) -> None:
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


def _require_free(host: str, port: int) -> None:
    """Fail at once if the port is in use, instead of restarting a server that cannot listen."""
    _bind(host, port).close()


def _listen(host: str, port: int) -> socket.socket:
    listening = _bind(host, port)
    listening.listen(2048)
    return listening


def _bind(host: str, port: int) -> socket.socket:
    found = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind((host, port))
    except OSError as error:
        found.close()
        reason = error.strerror or "cannot be used"
        raise SettingsError(
            f"WITHDRAWALS_HOST, WITHDRAWALS_PORT: {host}:{port}: {reason}. Set another port, or stop what uses it."
        ) from None
    return found


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
