"""The relay that leads, and what keeps claims and sweeps from reading the whole backlog."""

from pathlib import Path

from alembic import op

revision = "0015"
down_revision = "0014b"


def upgrade() -> None:
    op.execute(Path(__file__).with_suffix(".sql").read_text(encoding="utf-8"))
