"""Exports: every row of a report in one file, from one snapshot.

A file is written whole before its first byte is sent (ops/decisions/0013). How each format is written: `formats`.
"""

from collections.abc import Callable, Generator
from contextlib import closing
from typing import BinaryIO

import structlog

from schemas.reports import EnrolmentFilter, OutcomeFilter
from worker.database import Database
from worker.ledger import report_lists
from worker.ledger.report_conditions import Period
from worker.ledger.report_lists import Rows
from worker.reports.filters import find_period
from worker.reports.formats import Column, ColumnType, Format, write

log = structlog.get_logger(__name__)

ENROLMENTS: tuple[Column, ...] = (
    Column("enrolment_id", ColumnType.INTEGER),
    Column("learner_external_id", ColumnType.TEXT),
    Column("series_code", ColumnType.TEXT),
    Column("series_title", ColumnType.TEXT),
    Column("pathway_title", ColumnType.TEXT),
    Column("status", ColumnType.TEXT),
    Column("enrolled_at", ColumnType.TIME),
    Column("due_at", ColumnType.TIME),
    Column("progress", ColumnType.NUMBER),
    Column("withdrawn_at", ColumnType.TIME),
    Column("withdrawal_reason", ColumnType.TEXT),
    Column("withdrawn_by", ColumnType.TEXT),
    Column("source", ColumnType.TEXT),
    Column("job_id", ColumnType.INTEGER),
)
OUTCOMES: tuple[Column, ...] = (
    Column("job_id", ColumnType.INTEGER),
    Column("enrolment_id", ColumnType.INTEGER),
    Column("learner_external_id", ColumnType.TEXT),
    Column("series_code", ColumnType.TEXT),
    Column("series_title", ColumnType.TEXT),
    Column("pathway_title", ColumnType.TEXT),
    Column("status", ColumnType.TEXT),
    Column("outcome", ColumnType.TEXT),
    Column("prior_status", ColumnType.TEXT),
    Column("decided_at", ColumnType.TIME),
    Column("reason", ColumnType.TEXT),
    Column("source", ColumnType.TEXT),
    Column("requested_by", ColumnType.TEXT),
    Column("dead_letter_id", ColumnType.INTEGER),
)


NAMES = (Column("learner_name", ColumnType.TEXT), Column("learner_email", ColumnType.TEXT))
"""Columns at the end of either, for roles that may see them (`schemas.catalogue.SEES_NAMES`)."""


class ExportAbandoned(Exception):  # noqa: N818 - nothing went wrong: nobody waits for the file any more
    """Nobody waits for this export any more."""


def export(
    database: Database,
    organisation_id: int,
    wanted: EnrolmentFilter | OutcomeFilter,
    format_: Format,
    sink: BinaryIO,
    *,
    names: bool = False,
    abandoned: Callable[[], bool] = lambda: False,
) -> int:
    """Write every row of a report into `sink`, from one snapshot. Returns the number of rows.

    `names`: with the learners' names and e-mail addresses.
    `abandoned`: called between two batches of rows; true stops the export.

    Raises:
        InvalidInputError: the period ends before it starts, or a day is too far away.
        ExportAbandoned: nobody waits for the file any more. The sink holds a part of it.
    """
    name, listed = ("enrolments", ENROLMENTS) if isinstance(wanted, EnrolmentFilter) else ("outcomes", OUTCOMES)
    columns = (*listed, *NAMES) if names else listed
    with database.begin() as connection:
        period = find_period(connection, organisation_id, wanted)
    with closing(_snapshot(database, organisation_id, wanted, period, names, abandoned)) as batches:
        count = write(format_, name, columns, batches, sink)
    log.info("report.exported", report=name, format=format_.value, organisation_id=organisation_id, rows=count)
    return count


def _snapshot(
    database: Database,
    organisation_id: int,
    wanted: EnrolmentFilter | OutcomeFilter,
    period: Period,
    names: bool,
    abandoned: Callable[[], bool],
) -> Generator[Rows, None, None]:
    """Batches of one snapshot. It ends with the last row: compressing a file can take longer than reading the rows."""
    with database.begin() as connection:  # not retried: rows that were handed on cannot be taken back
        report_lists.use_snapshot(connection)
        if isinstance(wanted, EnrolmentFilter):
            batches = report_lists.every_enrolment(connection, organisation_id, wanted, period, names=names)
        else:
            batches = report_lists.every_outcome(connection, organisation_id, wanted, period, names=names)
        with closing(batches):  # while the connection is still ours
            for batch in batches:
                if abandoned():
                    raise ExportAbandoned
                yield batch
