"""Indexes and constraints of 0014, beside a running service."""

from pathlib import Path

from ops.online import run

revision = "0014b"
down_revision = "0014"
online = True


def upgrade() -> None:
    run(Path(__file__).with_suffix(".sql"))
