"""Edges that join: certificates, join tokens, the CA of the feed; groups of edges."""

from __future__ import annotations

from pathlib import Path

from alembic import op

from foregate.database.migrations.script import run_script

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the tables, and what `edges` needs for them."""
    run_script(op.get_bind(), Path(__file__).with_suffix(".sql"))


def downgrade() -> None:
    """Drop all of it; edges that joined are forgotten, as the schema before has no place for them."""
    run_script(op.get_bind(), Path(__file__).with_suffix(".down.sql"))
