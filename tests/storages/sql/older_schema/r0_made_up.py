"""A version that never was: without the column for states, and without an index of tasks."""

from __future__ import annotations

revision = "0"
down_revision = None


def upgrade() -> None:
    raise AssertionError("the first revision is where a database of that version stands")
