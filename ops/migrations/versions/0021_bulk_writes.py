"""What a bulk job writes for each enrolment."""

from pathlib import Path

from alembic import op

revision = "0021"
down_revision = "0020b"


def upgrade() -> None:
    op.execute(Path(__file__).with_suffix(".sql").read_text(encoding="utf-8"))
