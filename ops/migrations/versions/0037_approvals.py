"""Approvals: acts that need a second person, and the policies that say which."""

from pathlib import Path

from alembic import op

revision = "0037"
down_revision = "0036b"


def upgrade() -> None:
    op.execute(Path(__file__).with_suffix(".sql").read_text(encoding="utf-8"))
