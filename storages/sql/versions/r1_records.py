"""Records and the version of their tables."""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql, postgresql

revision: Final = "1"
down_revision: Final = None

_NUMBER: Final = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_NAME: Final = (
    sa.Text().with_variant(mysql.MEDIUMBLOB(), "mysql").with_variant(postgresql.TEXT(collation="C"), "postgresql")
)
_ADDRESS: Final = sa.LargeBinary().with_variant(mysql.BINARY(32), "mysql")
_TEXT: Final = sa.Text().with_variant(mysql.LONGTEXT(), "mysql")
_BYTES: Final = sa.LargeBinary().with_variant(mysql.LONGBLOB(), "mysql")
_OPTIONS: Final[dict[str, Any]] = {
    "mysql_engine": "InnoDB",
    "mysql_row_format": "DYNAMIC",
    "mysql_charset": "utf8mb4",
    "mysql_collate": "utf8mb4_bin",
}
_START: Final = 255


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "flowstore_meta",
        sa.Column("name", sa.Text().with_variant(mysql.VARCHAR(64), "mysql"), primary_key=True),
        sa.Column("value", sa.Text, nullable=False),
        **_OPTIONS,
    )
    op.create_table(
        "flowstore_records",
        sa.Column("id", _NUMBER, sa.Identity(), primary_key=True, autoincrement=True),
        sa.Column("address", _ADDRESS, nullable=False, unique=True),
        *(sa.Column(name, _NAME, nullable=False) for name in ("kind", "flow_name", "task_name", "task_id", "name")),
        sa.Column("run_id", _NAME),
        sa.Column("state", _NAME),
        sa.Column("revision", _NUMBER, nullable=False, server_default="1"),
        sa.Column("stored_at", sa.Double, nullable=False),
        sa.Column("expires_at", sa.Double),
        sa.Column("headers", _TEXT, nullable=False),
        sa.Column("value", _TEXT),
        sa.Column("payload", _BYTES),
        **_OPTIONS,
    )
    is_postgresql = op.get_bind().dialect.name == "postgresql"
    for name, columns in {"run": ["run_id"], "task": ["task_id"], "kind": ["kind", "flow_name"]}.items():
        starts: list[Any] = [sa.text(f"left({column}, {_START})") for column in columns]
        op.create_index(
            f"flowstore_records_{name}",
            "flowstore_records",
            [*starts, "id"] if is_postgresql else columns,
            mysql_length=_START,
            **(_where("run_id") if name == "run" else {}),
        )
    op.create_index("flowstore_records_expiry", "flowstore_records", ["expires_at"], **_where("expires_at"))
    if is_postgresql:
        has_lz4 = "SELECT 1 FROM pg_settings WHERE name = 'default_toast_compression' AND 'lz4' = ANY (enumvals)"
        how = "COMPRESSION lz4" if op.get_bind().execute(sa.text(has_lz4)).first() else "STORAGE EXTERNAL"
        for column in ("value", "payload"):
            op.execute(f"ALTER TABLE flowstore_records ALTER COLUMN {column} SET {how}")


def _where(column: str) -> dict[str, Any]:
    condition = sa.text(f"{column} IS NOT NULL")
    return {"sqlite_where": condition, "postgresql_where": condition}
