"""Full rosters of HR systems."""

from pathlib import Path

from alembic import op

revision = "0034"
down_revision = "0033b"


def upgrade() -> None:
    op.execute(Path(__file__).with_suffix(".sql").read_text(encoding="utf-8"))
