"""An index of the audit for the pages of the settings, beside a running service."""

from pathlib import Path

from ops.online import run

revision = "0038b"
down_revision = "0038"
online = True


def upgrade() -> None:
    run(Path(__file__).with_suffix(".sql"))
