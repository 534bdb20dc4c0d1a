"""Reports: enrolments and outcomes with the Status filter, as pages and as files, and a summary.

A file is written whole, from one snapshot, before anybody gets a byte of it (see ops/decisions/0013).
"""

from collections.abc import Callable, Generator
from contextlib import closing
from datetime import date, datetime, timedelta
from typing import BinaryIO

import structlog
from sqlalchemy import Connection

from schemas import reports as schema
from schemas.reports import EnrolmentFilter, OutcomeFilter, Summary
from worker.database import Database
from worker.errors import InvalidInputError, NotFoundError
from worker.jobs.calendar import effective_time
from worker.ledger import reports, series_library
from worker.reports import exports
from worker.reports.exports import Column, Format, Kind
from worker.rules import CLEAN

log = structlog.get_logger(__name__)

Span = tuple[datetime | None, datetime | None]

ENROLMENTS = (
    Column("enrolment_id", Kind.INTEGER),
    Column("learner_external_id", Kind.TEXT),
    Column("series_code", Kind.TEXT),
    Column("series_title", Kind.TEXT),
    Column("pathway_title", Kind.TEXT),
    Column("status", Kind.TEXT),
    Column("enrolled_at", Kind.TIME),
    Column("due_at", Kind.TIME),
    Column("progress", Kind.NUMBER),
    Column("withdrawn_at", Kind.TIME),
    Column("withdrawal_reason", Kind.TEXT),
    Column("withdrawn_by", Kind.TEXT),
    Column("source", Kind.TEXT),
    Column("job_id", Kind.INTEGER),
)
OUTCOMES = (
    Column("job_id", Kind.INTEGER),
    Column("enrolment_id", Kind.INTEGER),
    Column("learner_external_id", Kind.TEXT),
    Column("series_code", Kind.TEXT),
    Column("series_title", Kind.TEXT),
    Column("pathway_title", Kind.TEXT),
    Column("status", Kind.TEXT),
    Column("outcome", Kind.TEXT),
    Column("prior_status", Kind.TEXT),
    Column("decided_at", Kind.TIME),
    Column("reason", Kind.TEXT),
    Column("source", Kind.TEXT),
    Column("requested_by", Kind.TEXT),
    Column("dead_letter_id", Kind.INTEGER),
)


class Abandoned(Exception):  # noqa: N818 - nothing went wrong: nobody waits for the file any more
    """Nobody waits for this export any more."""


def enrolments(
    database: Database, organisation_id: int, wanted: EnrolmentFilter, *, before: int | None, limit: int
) -> reports.Rows:
    """A page of enrolments, newest first.

    Raises:
        InvalidInputError: the span of time ends before it begins, or its days cannot be placed.
    """
    with database.begin() as connection:
        span = _span(connection, organisation_id, wanted.withdrawn_from, wanted.withdrawn_to, "withdrawn")
        return reports.enrolments(connection, organisation_id, wanted, span, before=before, limit=limit)


def outcomes(
    database: Database, organisation_id: int, wanted: OutcomeFilter, *, before: tuple[int, int] | None, limit: int
) -> reports.Rows:
    """A page of outcomes, newest job first.

    Raises:
        InvalidInputError: as `enrolments`.
    """
    with database.begin() as connection:
        span = _span(connection, organisation_id, wanted.decided_from, wanted.decided_to, "decided")
        return reports.outcomes(connection, organisation_id, wanted, span, before=before, limit=limit)


def export(
    database: Database,
    organisation_id: int,
    wanted: EnrolmentFilter | OutcomeFilter,
    format_: Format,
    sink: BinaryIO,
    *,
    abandoned: Callable[[], bool] = lambda: False,
) -> int:
    """Write every row of a report into `sink`, from one snapshot; how many there were.

    `abandoned` is asked between two batches of rows.

    Raises:
        InvalidInputError: as `enrolments`.
        Abandoned: nobody waits any more; the sink holds a part.
    """
    if isinstance(wanted, EnrolmentFilter):
        name, columns, of = "enrolments", ENROLMENTS, (wanted.withdrawn_from, wanted.withdrawn_to, "withdrawn")
    else:
        name, columns, of = "outcomes", OUTCOMES, (wanted.decided_from, wanted.decided_to, "decided")
    with database.begin() as connection:
        span = _span(connection, organisation_id, *of)
    with closing(_rows(database, organisation_id, wanted, span, abandoned)) as batches:
        count = exports.write(format_, name, columns, batches, sink)
    log.info("report.exported", report=name, format=format_.value, organisation_id=organisation_id, rows=count)
    return count


def summary(database: Database, organisation_id: int, wanted: EnrolmentFilter) -> Summary:
    """Withdrawals by reason and week, refusals by cause, time to withdrawal, open letters by age.

    `withdrawn_from` and `withdrawn_to` bound when outcomes were decided, also of what was refused.

    Raises:
        InvalidInputError: as `enrolments`.
    """
    with database.begin() as connection:
        reports.snapshot(connection)
        span = _span(connection, organisation_id, wanted.withdrawn_from, wanted.withdrawn_to, "withdrawn")
        reports.room_for_sums(connection)
        decided = reports.decided(connection, organisation_id, wanted, span)
        counts, seconds = reports.durations(connection, organisation_id, wanted, span)
        letters = reports.open_letters(connection, organisation_id)
    refused: dict[str, int] = {}
    for row in decided:
        if row.outcome not in CLEAN:
            refused[row.outcome] = refused.get(row.outcome, 0) + row.n
    p50, p95, p99 = seconds or (None, None, None)
    return Summary(
        withdrawn_from=span[0],
        withdrawn_to=span[1],
        withdrawals=[
            schema.WeekCount(week=row.week, reason=row.reason, count=row.n) for row in decided if row.outcome in CLEAN
        ],
        refused=[schema.CauseCount(cause=cause, count=n) for cause, n in sorted(refused.items())],
        seconds_to_withdrawal=schema.Durations(
            count=sum(counts),
            p50=p50,
            p95=p95,
            p99=p99,
            bands=[
                schema.BandCount.model_validate({"band": band, "count": n})
                for (band, _), n in zip(reports.BANDS, counts, strict=True)
                if sum(counts)
            ],
        ),
        open_letters=[schema.AgeCount(age=row.age, code=row.code, count=row.n) for row in letters],
    )


def series_of_code(database: Database, organisation_id: int, code: str) -> int:
    """The id of the Series with this code.

    Raises:
        NotFoundError: the organisation has none.
    """
    with database.begin() as connection:
        found = reports.series_id(connection, organisation_id, code)
    if found is None:
        raise NotFoundError(f"--series: there is no Series {code!r} in this organisation")
    return found


def series_like(database: Database, organisation_id: int, given: str, limit: int = 20) -> list[series_library.Series]:
    """Series to choose from: those that have this text in their code or title."""
    with database.begin() as connection:
        return series_library.list_series(connection, organisation_id, containing=given, after=None, limit=limit)


def _span(
    connection: Connection, organisation_id: int, first: datetime | date | None, last: datetime | date | None, of: str
) -> Span:
    """From and to as moments; a day begins and ends in the organisation's time zone."""
    if first is not None and not isinstance(first, datetime):
        if first == date.min:
            raise InvalidInputError(f"{of}_from: that date is too far away")
        first -= timedelta(days=1)  # the end of the day before
    try:
        begin = effective_time(connection, organisation_id, first)
        end = effective_time(connection, organisation_id, last)
    except InvalidInputError as error:
        raise InvalidInputError(str(error).replace("effective_at", f"{of}_from, {of}_to")) from None
    if begin is not None and end is not None and begin >= end:
        raise InvalidInputError(f"{of}_to: is not after {of}_from")
    return begin, end


def _rows(
    database: Database,
    organisation_id: int,
    wanted: EnrolmentFilter | OutcomeFilter,
    span: Span,
    abandoned: Callable[[], bool],
) -> Generator[reports.Rows, None, None]:
    """Batches of one snapshot, which is let go with the last row: compressing a file may take longer than reading."""
    with database.begin() as connection:  # not repeated: what was handed on cannot be taken back
        reports.snapshot(connection)
        if isinstance(wanted, EnrolmentFilter):
            batches = reports.every_enrolment(connection, organisation_id, wanted, span)
        else:
            batches = reports.every_outcome(connection, organisation_id, wanted, span)
        with closing(batches):  # before the connection, which may be another's by then
            for batch in batches:
                if abandoned():
                    raise Abandoned
                yield batch
