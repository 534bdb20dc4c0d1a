"""What the books are compared with: digests of the ids of chunks, and seals of finished days."""

from pathlib import Path

from alembic import op

revision = "0016"
down_revision = "0015b"


def upgrade() -> None:
    op.execute(Path(__file__).with_suffix(".sql").read_text(encoding="utf-8"))
