"""The index of letters that nobody was told to be overdue, beside a running service."""

from pathlib import Path

from ops.online import run

revision = "0043"
down_revision = "0042"
online = True


def upgrade() -> None:
    run(Path(__file__).with_suffix(".sql"))
