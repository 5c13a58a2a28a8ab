"""The client's own words about a request, in its records."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; what was recorded before had no labels."""
    op.add_column("records", sa.Column("labels", sa.Text, nullable=False, server_default=sa.text("''")))
