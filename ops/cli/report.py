"""Reports: enrolments and outcomes as files, and a summary."""

import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import typer

from ops.cli import common
from ops.cli.common import AsJson, Organisation
from schemas.catalogue import Reason, Source
from schemas.reports import (
    DURATION_BANDS,
    LETTER_AGES,
    Comparison,
    ComparisonFilter,
    DurationBand,
    EnrolmentFilter,
    OutcomeFilter,
)
from worker.config import settings
from worker.database import Database
from worker.errors import InvalidInputError
from worker.reports.exports import export
from worker.reports.filters import find_series_id
from worker.reports.formats import Format
from worker.reports.lists import count_rows
from worker.reports.reader import Read, ReportReader
from worker.reports.summary import compare as compare_periods
from worker.reports.summary import summarise

group = typer.Typer(no_args_is_help=True, help="Enrolments and outcomes as files, and a summary.")

OutputOption = Annotated[str, typer.Option("--output", "-o", help="The file to write. - writes to standard output.")]
OutputOrNone = Annotated[
    str | None, typer.Option("--output", "-o", help="The file to write. - writes to standard output.")
]
FormatOption = Annotated[
    Format | None, typer.Option("--format", help="Default: by the file's name; csv on standard output.")
]
StatusOption = Annotated[
    list[str] | None, typer.Option(help="Only enrolments that have this status now. Repeat it for several.")
]
ExcludeStatusOption = Annotated[
    list[str] | None, typer.Option(help="No enrolments that have this status now. Repeat it for several.")
]
SeriesOption = Annotated[str | None, typer.Option(help="Only the Series with this code.")]
ReasonOption = Annotated[str | None, typer.Option(help=f"The reason: {', '.join(Reason)}.")]
SourceOption = Annotated[str | None, typer.Option(help=f"The source of the job: {', '.join(Source)}.")]
_TIME = "A time with its offset, or a date in the organisation's time zone."
FromOption = Annotated[str | None, typer.Option("--from", help=f"Withdrawn or decided at or after this time. {_TIME}")]
ToOption = Annotated[
    str | None, typer.Option("--to", help=f"Withdrawn or decided before this time, or until the end of a date. {_TIME}")
]


NamesOption = Annotated[bool, typer.Option("--names", help="With the learners' names and e-mail addresses.")]
CountOption = Annotated[bool, typer.Option("--count", help="Write no file: say how many rows it would have.")]


@group.command("enrolments")
def enrolments(
    output: OutputOrNone = None,
    format_: FormatOption = None,
    status: StatusOption = None,
    exclude_status: ExcludeStatusOption = None,
    series: SeriesOption = None,
    reason: ReasonOption = None,
    source: SourceOption = None,
    begin: FromOption = None,
    end: ToOption = None,
    names: NamesOption = False,
    count: CountOption = False,
    organisation: Organisation = None,
) -> None:
    """Write enrolments as they are now to a file. Withdrawn ones are included unless excluded."""
    with common.database() as db:
        organisation_id = common.organisation_id(db, organisation)
        shared = shared_conditions(db, organisation_id, status, exclude_status, series, reason, source)
        wanted = common.parse(EnrolmentFilter, **shared, withdrawn_from=begin, withdrawn_to=end)
        _export(db, organisation_id, wanted, output, format_, names=names, count=count)


@group.command("outcomes")
def outcomes(
    output: OutputOrNone = None,
    format_: FormatOption = None,
    job: Annotated[int | None, typer.Option(help="Only this job.")] = None,
    outcome: Annotated[list[str] | None, typer.Option(help="Only this outcome. Repeat it for several.")] = None,
    took: Annotated[
        DurationBand | None, typer.Option(help="How long it took, from the request to the decision.")
    ] = None,
    standing: Annotated[bool, typer.Option("--standing", help="Only what the summary counts.")] = False,
    status: StatusOption = None,
    exclude_status: ExcludeStatusOption = None,
    series: SeriesOption = None,
    reason: ReasonOption = None,
    source: SourceOption = None,
    begin: FromOption = None,
    end: ToOption = None,
    names: NamesOption = False,
    count: CountOption = False,
    organisation: Organisation = None,
) -> None:
    """Write what jobs decided to a file, a row for each enrolment of each job."""
    with common.database() as db:
        organisation_id = common.organisation_id(db, organisation)
        shared = shared_conditions(db, organisation_id, status, exclude_status, series, reason, source)
        wanted = common.parse(
            OutcomeFilter, **shared, job_id=job, outcome=outcome or None, took=took, standing=standing,
            decided_from=begin, decided_to=end,
        )  # fmt: skip
        _export(db, organisation_id, wanted, output, format_, names=names, count=count)


@group.command("summary")
def summary(
    status: StatusOption = None,
    exclude_status: ExcludeStatusOption = None,
    series: SeriesOption = None,
    reason: ReasonOption = None,
    source: SourceOption = None,
    begin: FromOption = None,
    end: ToOption = None,
    organisation: Organisation = None,
    json: AsJson = False,
) -> None:
    """Withdrawals by week and reason, refusals by cause, time from request to withdrawal, open dead letters."""
    with common.database() as db:
        organisation_id = common.organisation_id(db, organisation)
        shared = shared_conditions(db, organisation_id, status, exclude_status, series, reason, source)
        wanted = common.parse(EnrolmentFilter, **shared, withdrawn_from=begin, withdrawn_to=end)
        with _reader(db) as reader:
            read = reader.read(lambda source: summarise(source, organisation_id, wanted))
        _say_lag(read)
        found = read.found
    if json:
        common.print_json(found)
        return
    _print_table("week", "reason", "withdrawn", rows=[(row.week, row.reason, row.count) for row in found.withdrawals])
    _print_table("refused because", "enrolments", rows=[(row.cause, row.count) for row in found.refused])
    letters = [(row.code, LETTER_AGES[row.age].label, row.count) for row in found.open_letters]
    _print_table("open dead letters", "age", "number", rows=letters)
    took = found.seconds_to_withdrawal
    if took.p50 is not None:
        common.out.print(f"request to withdrawal: p50 {took.p50:,.1f} s, p95 {took.p95:,.1f} s, p99 {took.p99:,.1f} s")
        bands = [(DURATION_BANDS[row.band].label, row.count) for row in took.bands]
        _print_table("request to withdrawal", "withdrawn", rows=bands)


@group.command("compare")
def compare(
    begin: Annotated[str, typer.Option("--from", help=f"The start of the period. {_TIME}")],
    end: ToOption = None,
    compare_from: Annotated[
        str | None, typer.Option(help="The start of the other period. Default: the one just before, as long.")
    ] = None,
    compare_to: Annotated[str | None, typer.Option(help="The end of the other period.")] = None,
    status: StatusOption = None,
    exclude_status: ExcludeStatusOption = None,
    series: SeriesOption = None,
    reason: ReasonOption = None,
    source: SourceOption = None,
    organisation: Organisation = None,
    json: AsJson = False,
) -> None:
    """Withdrawals by reason and refusals by cause of a period beside another, with the difference."""
    with common.database() as db:
        organisation_id = common.organisation_id(db, organisation)
        shared = shared_conditions(db, organisation_id, status, exclude_status, series, reason, source)
        period = {"withdrawn_from": begin, "withdrawn_to": end, "compare_from": compare_from, "compare_to": compare_to}
        wanted = common.parse(ComparisonFilter, **shared, **period)
        with _reader(db) as reader:
            read = reader.read(lambda source: compare_periods(source, organisation_id, wanted))
        _say_lag(read)
    _print_comparison(read.found, json)


def _print_comparison(found: Comparison, json: bool) -> None:
    if json:
        common.print_json(found)
        return
    rows = [
        (row.kind, row.code or "all", f"{row.now:,}", f"{row.before:,}", f"{row.difference:+,}")
        for row in found.differences
    ]
    common.out.print(common.table("figure", "of", "now", "before", "difference", rows=rows))


def shared_conditions(
    db: Database,
    organisation_id: int,
    status: list[str] | None,
    exclude_status: list[str] | None,
    series: str | None,
    reason: str | None,
    source: str | None,
) -> dict[str, Any]:
    """The conditions that all reports have, by their names in the filters."""
    return {
        "status": status or None,
        "exclude_status": exclude_status or None,
        "series_id": None if series is None else find_series_id(db, organisation_id, series),
        "reason": reason,
        "source": source,
    }


def _print_table(*columns: str, rows: list[tuple[Any, ...]]) -> None:
    """A table whose last column is a count; nothing where there are no rows."""
    if rows:
        common.out.print(common.table(*columns, rows=[(*names, f"{count:,}") for *names, count in rows]))
        common.out.print()


def _export(
    db: Database,
    organisation_id: int,
    wanted: EnrolmentFilter | OutcomeFilter,
    output: str | None,
    format_: Format | None,
    *,
    names: bool,
    count: bool,
) -> None:
    if count:
        _print_count(db, organisation_id, wanted)
        return
    if output is None:
        raise InvalidInputError("--output: name the file to write, or - for standard output")
    chosen = format_ or _format_of(output)

    def write(sink: BinaryIO) -> int:
        def read(source: Database) -> int:
            sink.seek(0)  # what a replica left that failed on the way
            sink.truncate()
            return export(source, organisation_id, wanted, chosen, sink, names=names)

        with _reader(db) as reader:
            found = reader.read(read)
        _say_lag(found)
        return found.found

    if output == "-":
        to_standard_output(write)
        return
    rows = to_file(Path(output), write)
    common.err.print(f"{rows:,} rows in {output}", markup=False)


def _print_count(db: Database, organisation_id: int, wanted: EnrolmentFilter | OutcomeFilter) -> None:
    found = count_rows(db, organisation_id, wanted)
    if found.count is None:
        common.err.print("To count them takes too long. Narrow the filter.")
        raise typer.Exit(1)
    common.out.print(f"{found.count:,}{'+' if found.at_least else ''} rows")


def _reader(db: Database) -> closing[ReportReader]:
    """Reads from the replica, if there is one."""
    return closing(ReportReader.open(settings(), db, pool_size=1))


def _say_lag(read: Read[Any]) -> None:
    if read.lag is not None:
        common.err.print(f"read from a replica, at most {read.lag:.1f} s behind", markup=False)


def _format_of(output: str) -> Format:
    suffix = Path(output).suffix.lower().removeprefix(".")
    if output == "-":
        return Format.CSV
    if suffix not in list(Format):
        raise InvalidInputError(f"--output {output}: the name must end in .csv, .xlsx or .parquet, or give --format")
    return Format(suffix)


def to_standard_output(write: Callable[[BinaryIO], int]) -> None:
    """Write a file to standard output."""
    # Written whole first, so that a slow reader at the other end of the pipe does not keep a transaction open.
    with tempfile.TemporaryFile(prefix="withdrawals-export-") as spool:
        write(spool)
        spool.seek(0)
        sys.stdout.flush()
        shutil.copyfileobj(spool, sys.stdout.buffer)
        sys.stdout.buffer.flush()


def to_file(path: Path, write: Callable[[BinaryIO], int]) -> int:
    """Write to a temporary file beside it and rename that at the end, so that half a file never has the name.

    Raises:
        InvalidInputError: the file cannot be written there.
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
        part.chmod(0o666 & ~mask)  # mkstemp lets only the owner read it
        part.replace(path)
        part = None
    except OSError as error:
        raise InvalidInputError(f"--output {path}: {error.strerror or 'cannot be written'}") from None
    finally:
        if part is not None:
            part.unlink(missing_ok=True)
    return count
