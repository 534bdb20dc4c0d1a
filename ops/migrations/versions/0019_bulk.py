"""The ids of chunks are stored uncompressed."""

from pathlib import Path

from alembic import op

revision = "0019"
down_revision = "0018b"


def upgrade() -> None:
    op.execute(Path(__file__).with_suffix(".sql").read_text(encoding="utf-8"))
