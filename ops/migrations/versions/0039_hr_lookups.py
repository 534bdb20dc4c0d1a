"""Events of HR systems that have to be looked up before they are applied."""

from pathlib import Path

from alembic import op

revision = "0039"
down_revision = "0038b"


def upgrade() -> None:
    op.execute(Path(__file__).with_suffix(".sql").read_text(encoding="utf-8"))
