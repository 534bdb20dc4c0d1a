"""The inbox: an event waits in its receipt until it is applied."""

from pathlib import Path

from alembic import op

revision = "0018"
down_revision = "0017b"


def upgrade() -> None:
    op.execute(Path(__file__).with_suffix(".sql").read_text(encoding="utf-8"))
