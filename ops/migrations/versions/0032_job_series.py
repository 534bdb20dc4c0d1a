"""The Series that a job is about."""

from pathlib import Path

from alembic import op

revision = "0032"
down_revision = "0030"


def upgrade() -> None:
    op.execute(Path(__file__).with_suffix(".sql").read_text(encoding="utf-8"))
