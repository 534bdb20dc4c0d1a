"""`withdrawals migrate`: bring the schema up to date. Safe to repeat, and to run by two processes at once."""

from pathlib import Path

from sqlalchemy import Connection, Engine, text

MIGRATIONS = Path(__file__).parent / "migrations"
_DIGITS = 4
"""The name of a migration's file begins with its revision."""
_LOCK = 7_270_001
"""Number of the advisory lock that lets one migration run at a time."""


def migrate(engine: Engine, *, role: str) -> str:
    """Create or upgrade both schemas in one transaction; returns the new revision.

    Schema `lms` belongs to the platform and is created only if it does not exist. `role` is created if it does not
    exist, and gets the rights that the service needs; the connecting user must be allowed to do both.
    """
    from alembic import command  # noqa: PLC0415 - takes longer to import than a command runs that needs no migration
    from alembic.config import Config  # noqa: PLC0415 - likewise

    with engine.begin() as connection:
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        if connection.scalar(text("SELECT to_regnamespace('lms') IS NULL")):
            connection.exec_driver_sql((MIGRATIONS / "lms.sql").read_text(encoding="utf-8"))
        connection.execute(text("CREATE SCHEMA IF NOT EXISTS withdrawals"))
        config = Config(attributes={"connection": connection})
        config.set_main_option("script_location", str(MIGRATIONS))
        command.upgrade(config, "head")
        _grant(connection, role)
    return head()


def head() -> str:
    """The newest revision, which this code needs."""
    return max(file.name for file in (MIGRATIONS / "versions").glob("[0-9]*.py"))[:_DIGITS]


def _grant(connection: Connection, role: str) -> None:
    # Roles belong to the whole cluster: the migration of another database may create the role at the same time.
    connection.exec_driver_sql(
        f"DO $$ BEGIN CREATE ROLE {role}; EXCEPTION WHEN duplicate_object OR unique_violation THEN END $$"
    )
    connection.exec_driver_sql(f"GRANT {role} TO CURRENT_USER")
    connection.exec_driver_sql((MIGRATIONS / "grants.sql").read_text(encoding="utf-8").replace(":role", role))
