"""Indexes of the look-ups, beside a running service."""

from pathlib import Path

from ops.online import run

revision = "0039b"
down_revision = "0039"
online = True


def upgrade() -> None:
    run(Path(__file__).with_suffix(".sql"))
