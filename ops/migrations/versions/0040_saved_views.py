"""Filters of lists that people keep under a name."""

from pathlib import Path

from alembic import op

revision = "0040"
down_revision = "0039b"


def upgrade() -> None:
    op.execute(Path(__file__).with_suffix(".sql").read_text(encoding="utf-8"))
