"""The index of outcomes by time, beside a running service."""

from pathlib import Path

from ops.online import run

revision = "0021b"
down_revision = "0021"
online = True


def upgrade() -> None:
    run(Path(__file__).with_suffix(".sql"))
