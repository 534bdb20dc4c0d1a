"""The audit: `withdrawals audit list|export|verify|days`."""

import sys
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from ops.cli import common
from ops.cli.common import AsJson, Cursor, Limit, Organisation
from schemas.audit import AuditAct, AuditDay, AuditFilter
from worker.errors import InvalidInputError
from worker.ledger import audit_log
from worker.ledger.books import audit_chain
from worker.reports import audit_files

group = typer.Typer(no_args_is_help=True, help="Who did what: list, export for a SIEM, verify an export.")

FirstOption = Annotated[str | None, typer.Option("--from", help="The first day, in UTC. Example: 2026-03-01.")]
LastOption = Annotated[str | None, typer.Option("--to", help="The last day, in UTC.")]


@group.command("list")
def list_acts(
    actor: Annotated[str | None, typer.Option(help="Only acts of this actor.")] = None,
    action: Annotated[str | None, typer.Option(help="Only this action; job. for all that begin so.")] = None,
    job: Annotated[
        int | None, typer.Option(min=1, help="Only acts on this job.", callback=common.refuse_large_id("job"))
    ] = None,
    dead_letter: Annotated[
        int | None,
        typer.Option(min=1, help="Only acts on this dead letter.", callback=common.refuse_large_id("dead letter")),
    ] = None,
    limit: Limit = None,
    cursor: Cursor = None,
    organisation: Organisation = None,
    json: AsJson = False,
) -> None:
    """List acts, newest first."""
    wanted = common.parse(AuditFilter, actor=actor, action=action, job_id=job, dead_letter_id=dead_letter)
    most = common.page_size(limit, json)
    with common.database() as db:
        organisation_id = common.organisation_id(db, organisation)
        with db.begin() as connection:
            found = audit_log.list_acts(connection, organisation_id, wanted, before=cursor, limit=most)
    common.print_list(
        found,
        json,
        columns=("act", "at", "actor", "action", "about", "note"),
        row=lambda one: (one.id, one.at, one.actor, one.action, _about(one), one.note),
        document=lambda one: common.as_json(AuditAct.model_validate(one)),
        most=most,
    )


@group.command("export")
def export(
    output: Annotated[str, typer.Argument(help="The file to write. - writes to standard output.")],
    first: FirstOption = None,
    last: LastOption = None,
    organisation: Organisation = None,
) -> None:
    """Write the audit as JSON Lines of OCSF events, with the hashes of its finished days. Default: all days."""
    begin, end = _parse_day(first, "--from"), _parse_day(last, "--to")
    with common.database() as db:
        organisation_id = common.organisation_id(db, organisation)
        with db.begin() as connection:
            known = audit_log.find_days(connection, organisation_id) or (datetime.now(UTC).date(),) * 2
            begin, end = max(known[0], begin or known[0]), min(known[1], end or known[1])
            lines = audit_files.export_days(connection, organisation_id, begin, end)
            if output == "-":
                audit_files.write(lines, sys.stdout)
                return
            with Path(output).open("w", encoding="utf-8", newline="\n") as target:
                written = audit_files.write(lines, target)
    common.err.print(f"{written:,} lines written to {output}")


@group.command("verify")
def verify(
    file: Annotated[Path, typer.Argument(help="The exported file.", exists=True, dir_okay=False)],
    head: Annotated[
        str | None, typer.Option(help="The hash that the last finished day must have, as it was kept elsewhere.")
    ] = None,
    json: AsJson = False,
) -> None:
    """Check an exported file alone, without the database. Exit code 1: it is not what was exported.

    Whoever can write the whole file can also make a chain of hashes. So compare the last hash with one that was kept
    elsewhere, or with `withdrawals audit days`.
    """
    try:
        with file.open(encoding="utf-8", newline="\n") as lines:
            found = audit_files.verify(lines)
    except UnicodeDecodeError:
        raise InvalidInputError(f"{file}: not a text file in UTF-8") from None
    if head is not None and head.lower() != found.head:
        found.faults.append(f"the last finished day has the hash {found.head or 'none'}, not {head}")
    if json:
        common.print_json(found)
    else:
        _print(found)
    if found.faults:
        raise typer.Exit(1)


@group.command("days")
def list_days(
    first: FirstOption = None, last: LastOption = None, organisation: Organisation = None, json: AsJson = False
) -> None:
    """List the finished days with their hashes, oldest first."""
    with common.database() as db:
        organisation_id = common.organisation_id(db, organisation)
        with db.begin() as connection:
            days = audit_chain.list_links(
                connection, organisation_id, since=_parse_day(first, "--from"), until=_parse_day(last, "--to")
            )
            found = [AuditDay(day=d.day, after=d.after, row_count=d.row_count, hash=d.hash.hex()) for d in days]
    columns = ("day", "acts", "hash")
    common.print_list(found, json, columns=columns, row=lambda one: (one.day, one.row_count, one.hash))


def _print(found: audit_files.Verified) -> None:
    for fault in found.faults:
        common.out.print(fault, markup=False)
    if found.unsealed_days:
        common.out.print(f"not sealed: {', '.join(found.unsealed_days)}")
    common.out.print(f"{found.records:,} acts, {found.sealed_days:,} finished days")
    if found.erased:
        common.out.print(f"of these, {found.erased:,} from which a person was erased: proved is that they were there")
    if found.pruned:
        common.out.print(f"{found.pruned:,} acts of these days were pruned before: of such days the number is proved")
    if found.head is not None:
        common.out.print(f"last finished day {found.head_day}: {found.head}")
    common.out.print("NOT as exported" if found.faults else "as exported")


def _about(act: audit_log.Act) -> str:
    about: list[tuple[str, Any]] = [("job", act.job_id), ("dead letter", act.dead_letter_id)]
    return ", ".join(f"{name} {value}" for name, value in about if value is not None)


def _parse_day(given: str | None, option: str) -> date | None:
    try:
        return None if given is None else date.fromisoformat(given)
    except ValueError:
        raise InvalidInputError(f"{option}: give a day such as 2026-03-01") from None
