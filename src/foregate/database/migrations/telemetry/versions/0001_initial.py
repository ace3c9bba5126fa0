"""The first schema."""

from __future__ import annotations

from pathlib import Path

from alembic import op

from foregate.database.migrations.script import drop_everything, run_script

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create tables, indexes and triggers."""
    run_script(op.get_bind(), Path(__file__).with_suffix(".sql"))


def downgrade() -> None:
    """Drop all of them."""
    drop_everything(op.get_bind())
