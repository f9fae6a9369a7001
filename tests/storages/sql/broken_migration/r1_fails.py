"""A revision that fails half-way."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "1"
down_revision = "0"


def upgrade() -> None:
    op.add_column("flowstore_records", sa.Column("half_done", sa.Text()))
    op.execute("SELECT * FROM no_such_table")
