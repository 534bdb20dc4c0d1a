"""The program `withdrawals`, and the one place that turns an error into a message and an exit code."""

import os
import signal
import sys
from typing import Annotated

import sqlalchemy.exc
import typer

from ops.cli.common import err
from ops.cli.tree import OnDemand
from ops.local.process import LocalServerError
from worker import logs
from worker.errors import IdempotencyConflictError, InvalidInputError, SettingsError, WithdrawalsError
from worker.faults import describe, driver_error

app = typer.Typer(
    name="withdrawals",
    cls=OnDemand,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Withdraw learners from enrolments. Each request is done once, or support sees it with the reason.",
)

DONE, FOUND_WRONG, WRONG_USE = 0, 1, 2


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib import metadata  # noqa: PLC0415 - no other option needs it

        typer.echo(f"{app.info.name} {metadata.version('withdrawals')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print name and version.")
    ] = False,
) -> None:
    """Take the options that stand before a command."""


def main() -> None:
    """Run the command line. Exit codes: 0 done, 1 the work found something wrong, 2 wrong use."""
    logs.silence()  # commands print their results; long-running ones set up their own logs
    signal.signal(signal.SIGTERM, _terminate)
    code: object = DONE
    try:
        _refuse_invalid_utf8(sys.argv)
        app()  # typer reports wrong use by itself, and exits
    except (InvalidInputError, IdempotencyConflictError, SettingsError) as error:
        code = _report(error, WRONG_USE)
    except (WithdrawalsError, LocalServerError) as error:
        code = _report(error, FOUND_WRONG)
    except (sqlalchemy.exc.OperationalError, sqlalchemy.exc.InternalError) as error:
        first = (str(driver_error(error)).splitlines() or ["no connection"])[0]
        code = _report(f"PostgreSQL cannot be reached, or refused: {first}\nCheck DATABASE_URL.", FOUND_WRONG)
    except SystemExit as ended:
        # `withdrawals … | head` has read enough: typer and rich take that for an error of their own.
        code = DONE if isinstance(ended.__context__, BrokenPipeError) else ended.code
    except KeyboardInterrupt:
        code = 130
    except Exception as error:
        if os.environ.get("WITHDRAWALS_LOG_LEVEL") == "debug":
            raise
        name, message, fingerprint = describe(error)
        hint = "set WITHDRAWALS_LOG_LEVEL=debug to see the traceback"
        code = _report(f"{name}: {message} (fingerprint {fingerprint}; {hint})", FOUND_WRONG)
    sys.exit(code if isinstance(code, int) else DONE)


def _refuse_invalid_utf8(words: list[str]) -> None:
    # Python passes on bytes that are not UTF-8 as surrogates, which neither PostgreSQL nor a terminal accepts.
    for number, word in enumerate(words):
        if any("\ud800" <= character <= "\udfff" for character in word):
            raise InvalidInputError(f"argument {number}: not valid UTF-8")


def _terminate(*_: object) -> None:
    sys.exit(143)  # unwinds the stack, so that embedded servers stop in order


def _report(error: object, code: int) -> int:
    err.print(f"error: {error}", style="red", markup=False)
    return code
