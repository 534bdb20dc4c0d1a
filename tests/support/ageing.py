"""Let time pass: everything that is there happened earlier."""

from sqlalchemy import Connection, text

from worker.database import Database

TIMES = {
    "withdrawals.jobs": ("created_at", "effective_at", "admitted_at", "finished_at", "received_at"),
    "withdrawals.chunks": ("created_at", "closed_at"),
    "withdrawals.outcomes": ("decided_at",),
    "withdrawals.dead_letters": ("opened_at", "closed_at"),
    "withdrawals.audit": ("at",),
    "withdrawals.receipts": ("received_at",),
    "withdrawals.rosters": ("planned_at", "accepted_at", "done_at", "failed_at"),
    "withdrawals.brake_volume": ("minute",),
    "lms.enrolments": ("withdrawn_at",),
}


TODAY = "CAST((now() - interval '1 hour') AT TIME ZONE 'UTC' AS date)"
"""The day that goes on for the seals: for them a day ends an hour after midnight."""


def years_pass(owner: Database, *, days: int, organisation_id: int | None = None) -> None:
    """As if what is there had happened so many days earlier: of one organisation, or of all, then with the seals."""
    with owner.begin() as connection:
        connection.execute(text("SET LOCAL session_replication_role = replica"))
        for table, columns in TIMES.items():
            moved = ", ".join(f"{column} = {_earlier(column, days)}" for column in columns)
            connection.execute(
                text(f"UPDATE {table} SET {moved} WHERE organisation_id = :o OR CAST(:o AS bigint) IS NULL"),
                {"o": organisation_id},
            )
        if organisation_id is None:
            _move_seals(connection, days)


def days_pass(owner: Database, days: int = 1) -> None:
    """As if what the seals count had happened so many days earlier."""
    with owner.begin() as connection:
        connection.execute(text("SET LOCAL session_replication_role = replica"))
        for table, column in (("audit", "at"), ("receipts", "received_at")):
            connection.execute(text(f"UPDATE withdrawals.{table} SET {column} = {_earlier(column, days)}"))
        _move_seals(connection, days)


def _earlier(column: str, days: int) -> str:
    """A time so many days earlier; what happened in the hour that belongs to the day before, on that day."""
    tomorrow = f"(CAST({TODAY} + 1 AS timestamp) AT TIME ZONE 'UTC')"
    hour = f"CASE WHEN {column} BETWEEN {tomorrow} AND now() THEN interval '1 hour' ELSE interval '0' END"
    return f"{column} - interval '{days} days' - {hour}"


def _move_seals(connection: Connection, days: int) -> None:
    """The first seal is of today: the template of this database may have been made before midnight."""
    for statement in (
        f"UPDATE withdrawals.seals SET day = {TODAY} WHERE after IS NULL AND looked_at > now() - interval '12 hours'",
        # by a detour: the days of two seals must not meet on the way
        "UPDATE withdrawals.seals SET day = day - 9999, after = after - 9999",
        f"UPDATE withdrawals.seals SET day = day + 9999 - {days}, after = after + 9999 - {days}",
        f"UPDATE withdrawals.seals SET looked_at = looked_at - interval '{days} days'",
    ):
        connection.execute(text(statement))
