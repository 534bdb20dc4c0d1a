"""The index of 0017, beside a running service."""

from pathlib import Path

from ops.online import run

revision = "0017b"
down_revision = "0017"
online = True


def upgrade() -> None:
    run(Path(__file__).with_suffix(".sql"))
