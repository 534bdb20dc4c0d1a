"""Indexes of 0015, beside a running service."""

from pathlib import Path

from ops.online import run

revision = "0015b"
down_revision = "0015"
online = True


def upgrade() -> None:
    run(Path(__file__).with_suffix(".sql"))
