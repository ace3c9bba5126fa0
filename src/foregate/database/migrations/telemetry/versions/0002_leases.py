"""Leases: which process does what one process does at a time."""

from __future__ import annotations

from pathlib import Path

from alembic import op

from foregate.database.migrations.script import run_script

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Create the table."""
    run_script(op.get_bind(), Path(__file__).with_suffix(".sql"))


def downgrade() -> None:
    """Drop it."""
    op.drop_table("leases")
