"""States, and tasks by index."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql, postgresql

revision = "1"
down_revision = "0"

NAME = sa.Text().with_variant(mysql.MEDIUMBLOB(), "mysql").with_variant(postgresql.TEXT(collation="C"), "postgresql")


def upgrade() -> None:
    op.add_column("flowstore_records", sa.Column("state", NAME))
    columns: list[Any] = (
        [sa.text("left(task_id, 255)"), "id"] if op.get_bind().dialect.name == "postgresql" else ["task_id"]
    )
    op.create_index("flowstore_records_task", "flowstore_records", columns, mysql_length=255)
