"""What the list of running jobs is read from."""

from pathlib import Path

from ops.online import run

revision = "0022"
down_revision = "0021b"
online = True


def upgrade() -> None:
    run(Path(__file__).with_suffix(".sql"))
