"""When each source was last heard, beside a running service."""

from pathlib import Path

from ops.online import run

revision = "0034b"
down_revision = "0034"
online = True


def upgrade() -> None:
    run(Path(__file__).with_suffix(".sql"))
