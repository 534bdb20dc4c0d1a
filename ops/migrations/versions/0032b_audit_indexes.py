"""Indexes of the audit, beside a running service."""

from pathlib import Path

from ops.online import run

revision = "0032b"
down_revision = "0032"
online = True


def upgrade() -> None:
    run(Path(__file__).with_suffix(".sql"))
