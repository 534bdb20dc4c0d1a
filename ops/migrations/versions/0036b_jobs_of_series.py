"""An index of jobs by Series, beside a running service."""

from pathlib import Path

from ops.online import run

revision = "0036b"
down_revision = "0036"
online = True


def upgrade() -> None:
    run(Path(__file__).with_suffix(".sql"))
