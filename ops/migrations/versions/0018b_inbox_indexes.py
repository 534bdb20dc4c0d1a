"""Indexes of 0018, beside a running service."""

from pathlib import Path

from ops.online import run

revision = "0018b"
down_revision = "0018"
online = True


def upgrade() -> None:
    run(Path(__file__).with_suffix(".sql"))
