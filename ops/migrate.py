"""`withdrawals migrate`: brings the schema up to date; safe to run twice, and by two processes at once."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, text

HERE = Path(__file__).parent / "migrations"
_LOCK = 7_270_001  # advisory: one migration at a time


def migrate(engine: Engine, *, role: str) -> str:
    """Create or upgrade everything in one transaction; returns the revision reached.

    Schema `lms` is created only where there is none. `role` is created if missing and granted what the
    service needs; the connecting user must be allowed to do that.
    """
    with engine.begin() as connection:
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        if connection.scalar(text("SELECT to_regnamespace('lms') IS NULL")):
            connection.exec_driver_sql((HERE / "lms.sql").read_text(encoding="utf-8"))
        connection.execute(text("CREATE SCHEMA IF NOT EXISTS withdrawals"))
        config = Config(attributes={"connection": connection})
        config.set_main_option("script_location", str(HERE))
        command.upgrade(config, "head")
        _grant(connection, role)
    return head()


def head() -> str:
    """The revision that this code was written for."""
    config = Config()
    config.set_main_option("script_location", str(HERE))
    return ScriptDirectory.from_config(config).get_current_head() or ""


def _grant(connection: Connection, role: str) -> None:
    # A role belongs to the whole cluster: another database's migration may create it at this very moment.
    connection.exec_driver_sql(
        f"DO $$ BEGIN CREATE ROLE {role}; EXCEPTION WHEN duplicate_object OR unique_violation THEN END $$"
    )
    connection.exec_driver_sql(f"GRANT {role} TO CURRENT_USER")
    connection.exec_driver_sql((HERE / "grants.sql").read_text(encoding="utf-8").replace(":role", role))
