"""Reports: enrolments and outcomes as files, and a summary."""

import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import typer

from ops.cli import common
from ops.cli.common import AsJson, Organisation
from schemas.reports import EnrolmentFilter, OutcomeFilter
from worker.database import Database
from worker.errors import InvalidInputError
from worker.reports import lists
from worker.reports.exports import Format

group = typer.Typer(no_args_is_help=True, help="Enrolments and outcomes as files, and a summary.")

Output = Annotated[str, typer.Option("--output", "-o", help="The file; - is standard output.")]
FormatName = Annotated[
    Format | None, typer.Option("--format", help="Default: by the file's name; on standard output csv.")
]
Status = Annotated[
    list[str] | None, typer.Option(help="Only enrolments that have this status now; repeat it for several.")
]
ExcludeStatus = Annotated[
    list[str] | None, typer.Option(help="No enrolments that have this status now; repeat it for several.")
]
Series = Annotated[str | None, typer.Option(help="Only of the Series with this code.")]
Reason = Annotated[str | None, typer.Option(help="not_required, user_deactivated, learner_declined, enrolment_error.")]
Source = Annotated[str | None, typer.Option(help="Of the job: hr, bulk, correction, admin or support.")]
_SPAN = "a time with its offset, or a date in the organisation's time zone."
From = Annotated[str | None, typer.Option("--from", help=f"Withdrawn, or decided, at or after: {_SPAN}")]
To = Annotated[str | None, typer.Option("--to", help=f"Withdrawn, or decided, before the end of: {_SPAN}")]


@group.command("enrolments")
def enrolments(
    output: Output,
    format_: FormatName = None,
    status: Status = None,
    exclude_status: ExcludeStatus = None,
    series: Series = None,
    reason: Reason = None,
    source: Source = None,
    begin: From = None,
    end: To = None,
    organisation: Organisation = None,
) -> None:
    """Write every enrolment as it is now, withdrawn ones included, into a file."""
    with common.database() as db:
        organisation_id = common.organisation_id(db, organisation)
        wanted = common.parse(
            EnrolmentFilter,
            status=status or None,
            exclude_status=exclude_status or None,
            series_id=_series(db, organisation_id, series),
            reason=reason,
            source=source,
            withdrawn_from=begin,
            withdrawn_to=end,
        )
        _write(db, organisation_id, wanted, output, format_)


@group.command("outcomes")
def outcomes(
    output: Output,
    format_: FormatName = None,
    job: Annotated[int | None, typer.Option(help="Only of this job.")] = None,
    outcome: Annotated[list[str] | None, typer.Option(help="Only this outcome; repeat it for several.")] = None,
    status: Status = None,
    exclude_status: ExcludeStatus = None,
    series: Series = None,
    reason: Reason = None,
    source: Source = None,
    begin: From = None,
    end: To = None,
    organisation: Organisation = None,
) -> None:
    """Write what jobs decided into a file, a row for each enrolment of each job."""
    with common.database() as db:
        organisation_id = common.organisation_id(db, organisation)
        wanted = common.parse(
            OutcomeFilter,
            job_id=job,
            outcome=outcome or None,
            status=status or None,
            exclude_status=exclude_status or None,
            series_id=_series(db, organisation_id, series),
            reason=reason,
            source=source,
            decided_from=begin,
            decided_to=end,
        )
        _write(db, organisation_id, wanted, output, format_)


@group.command("summary")
def summary(
    status: Status = None,
    exclude_status: ExcludeStatus = None,
    series: Series = None,
    reason: Reason = None,
    source: Source = None,
    begin: From = None,
    end: To = None,
    organisation: Organisation = None,
    json: AsJson = False,
) -> None:
    """Withdrawals by week and reason, refusals by cause, time from request to withdrawal, open dead letters."""
    with common.database() as db:
        organisation_id = common.organisation_id(db, organisation)
        wanted = common.parse(
            EnrolmentFilter,
            status=status or None,
            exclude_status=exclude_status or None,
            series_id=_series(db, organisation_id, series),
            reason=reason,
            source=source,
            withdrawn_from=begin,
            withdrawn_to=end,
        )
        found = lists.summary(db, organisation_id, wanted)
    if json:
        common.print_json(found.model_dump(mode="json"))
        return
    _show("week", "reason", "withdrawn", rows=[(row.week, row.reason, f"{row.count:,}") for row in found.withdrawals])
    _show("refused because", "enrolments", rows=[(row.cause, f"{row.count:,}") for row in found.refused])
    _show("open letters", "age", "letters", rows=[(row.code, row.age, f"{row.count:,}") for row in found.open_letters])
    took = found.seconds_to_withdrawal
    if took.p50 is not None:
        common.out.print(f"request to withdrawal: p50 {took.p50:,.1f} s, p95 {took.p95:,.1f} s, p99 {took.p99:,.1f} s")
        _show("request to withdrawal", "withdrawn", rows=[(row.band, f"{row.count:,}") for row in took.bands])


def _show(*columns: str, rows: list[tuple[Any, ...]]) -> None:
    if rows:
        common.out.print(common.table(*columns, rows=rows))
        common.out.print()


def _series(db: Database, organisation_id: int, code: str | None) -> int | None:
    return None if code is None else lists.series_of_code(db, organisation_id, code)


def _write(
    db: Database, organisation_id: int, wanted: EnrolmentFilter | OutcomeFilter, output: str, format_: Format | None
) -> None:
    chosen = format_ or _format(output)

    def write(sink: BinaryIO) -> int:
        return lists.export(db, organisation_id, wanted, chosen, sink)

    if output == "-":
        _to_standard_output(write)
        return
    count = _to_file(Path(output), write)
    common.err.print(f"{count:,} rows in {output}", markup=False)


def _format(output: str) -> Format:
    suffix = Path(output).suffix.lower().removeprefix(".")
    if output == "-":
        return Format.CSV
    if suffix not in list(Format):
        raise InvalidInputError(f"--output {output}: name it .csv, .xlsx or .parquet, or give --format")
    return Format(suffix)


def _to_standard_output(write: Callable[[BinaryIO], int]) -> None:
    # Whole first: whoever reads slowly at the other end of the pipe keeps no transaction open.
    with tempfile.TemporaryFile(prefix="withdrawals-export-") as spool:
        write(spool)
        spool.seek(0)
        sys.stdout.flush()
        shutil.copyfileobj(spool, sys.stdout.buffer)
        sys.stdout.buffer.flush()


def _to_file(path: Path, write: Callable[[BinaryIO], int]) -> int:
    """Write beside it and rename at the end: half a file never has the name.

    Raises:
        InvalidInputError: it cannot be written there.
    """
    part: Path | None = None
    try:
        if path.is_dir():
            raise IsADirectoryError(21, "Is a directory")
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
        part = Path(name)
        with os.fdopen(descriptor, "w+b") as sink:
            count = write(sink)
            sink.flush()
            os.fsync(sink.fileno())
        mask = os.umask(0)
        os.umask(mask)
        part.chmod(0o666 & ~mask)  # mkstemp's own is for one's eyes alone
        part.replace(path)
        part = None
    except OSError as error:
        raise InvalidInputError(f"--output {path}: {error.strerror or 'cannot be written'}") from None
    finally:
        if part is not None:
            part.unlink(missing_ok=True)
    return count
