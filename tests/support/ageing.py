"""Let time pass: everything that is there happened earlier."""

from sqlalchemy import text

from worker.database import Database

TIMES = {
    "withdrawals.jobs": ("created_at", "effective_at", "admitted_at", "finished_at", "received_at"),
    "withdrawals.chunks": ("created_at", "closed_at"),
    "withdrawals.outcomes": ("decided_at",),
    "withdrawals.dead_letters": ("opened_at", "closed_at"),
    "withdrawals.audit": ("at",),
    "withdrawals.receipts": ("received_at",),
    "withdrawals.rosters": ("planned_at", "accepted_at", "done_at"),
    "withdrawals.brake_volume": ("minute",),
    "lms.enrolments": ("withdrawn_at",),
}


def years_pass(owner: Database, *, days: int, organisation_id: int | None = None) -> None:
    """As if what is there had happened so many days earlier: of one organisation, or of all, then with the seals."""
    with owner.begin() as connection:
        connection.execute(text("SET LOCAL session_replication_role = replica"))
        for table, columns in TIMES.items():
            moved = ", ".join(f"{column} = {column} - make_interval(days => :days)" for column in columns)
            connection.execute(
                text(f"UPDATE {table} SET {moved} WHERE organisation_id = :o OR CAST(:o AS bigint) IS NULL"),
                {"days": days, "o": organisation_id},
            )
        if organisation_id is None:
            for statement in (
                "UPDATE withdrawals.seals SET day = day - 9999, after = after - 9999",  # days must not meet on the way
                f"UPDATE withdrawals.seals SET day = day + 9999 - {days}, after = after + 9999 - {days}",
                f"UPDATE withdrawals.seals SET looked_at = looked_at - interval '{days} days'",
            ):
                connection.execute(text(statement))
