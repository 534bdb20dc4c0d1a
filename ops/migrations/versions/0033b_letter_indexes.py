"""Indexes of dead letters, beside a running service."""

from pathlib import Path

from ops.online import run

revision = "0033b"
down_revision = "0033"
online = True


def upgrade() -> None:
    run(Path(__file__).with_suffix(".sql"))
