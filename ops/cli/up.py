"""Run everything at once, to try the service: the demo, or web, worker and relay together."""

import os
import sys
from collections.abc import Sequence
from contextlib import closing, suppress
from http.client import HTTPConnection, HTTPException
from typing import TYPE_CHECKING, Annotated

import typer

from ops.cli import common, servers, sockets
from ops.local import supervisor
from schemas.catalogue import Role
from worker.config import Settings, settings, variable
from worker.database import Database
from worker.errors import InvalidInputError
from worker.ledger import jobs
from worker.sign_on_settings import LOOPBACK

if TYPE_CHECKING:
    from worker.access.tokens import NewToken

_ANSWER_SECONDS = 2.0
"""How long `up` waits for one answer of the web process, which it asks again and again while it starts."""


def register(app: typer.Typer) -> None:
    """Put this module's commands on the tree."""
    app.command("demo")(demo)
    app.command("up")(up)


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
        sockets.require_free(current.host, current.port)
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
