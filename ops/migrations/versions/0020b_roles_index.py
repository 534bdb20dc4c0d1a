"""The index of 0020, beside a running service."""

from pathlib import Path

from ops.online import run

revision = "0020b"
down_revision = "0020"
online = True


def upgrade() -> None:
    run(Path(__file__).with_suffix(".sql"))
