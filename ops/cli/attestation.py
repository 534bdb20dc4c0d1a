"""`withdrawals report attestation` and `verify-attestation`: who left in a month, and what became of it."""

import itertools
import sys
from pathlib import Path
from typing import Annotated

import typer

from ops.cli import common
from ops.cli.common import AsJson, Organisation
from worker.config import settings
from worker.errors import InvalidInputError
from worker.reports import attestations


def register(group: typer.Typer) -> None:
    """Add the commands to the group of reports."""
    group.command("attestation")(attestation)
    group.command("verify-attestation")(verify)


def attestation(
    month: Annotated[str, typer.Option(help="The month, in the organisation's time zone. Example: 2026-10.")],
    output: Annotated[str, typer.Option("--output", "-o", help="The file to write. - writes to standard output.")],
    organisation: Organisation = None,
) -> None:
    """Write who left in a month, when, withdrawn after how long, and what is open; signed, as JSON Lines."""
    with common.database() as db:
        org = common.organisation_id(db, organisation)
        with db.begin() as connection:
            lines = attestations.make(connection, settings(), org, month)
            first = next(lines)  # a wrong month leaves an earlier file alone
            if output == "-":
                sys.stdout.writelines(itertools.chain([first], lines))
                return
            with Path(output).open("w", encoding="utf-8", newline="\n") as sink:
                sink.writelines(itertools.chain([first], lines))


def verify(
    file: Annotated[Path, typer.Argument(help="The attestation.")],
    json: AsJson = False,
) -> None:
    """Check that an attestation is whole and unchanged, with the installation's key; exit code 1 if it is not."""
    try:
        with file.open(encoding="utf-8", newline="") as lines:
            found = attestations.verify(settings(), lines)
    except (OSError, UnicodeDecodeError):
        raise InvalidInputError(f"{file}: cannot be read") from None
    if json:
        common.print_json(found)
        return
    counts = ", ".join(f"{name} {count:,}" for name, count in found.counts.items())
    common.out.print(f"whole and unchanged: {found.month}, made at {found.made_at}; {counts}", markup=False)
