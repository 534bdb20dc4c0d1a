"""Persons who were erased, what was erased of sealed rows, and a second signing secret of webhook endpoints."""

from pathlib import Path

from alembic import op

revision = "0027"
down_revision = "0026"


def upgrade() -> None:
    op.execute(Path(__file__).with_suffix(".sql").read_text(encoding="utf-8"))
