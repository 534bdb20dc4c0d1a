"""Which request an event and a job came with."""

from pathlib import Path

from alembic import op

revision = "0024"
down_revision = "0022"


def upgrade() -> None:
    op.execute(Path(__file__).with_suffix(".sql").read_text(encoding="utf-8"))
