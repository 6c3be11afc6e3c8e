"""Drain what is cordoned: whether what runs there is to go elsewhere.

Expands: the release before writes cordons without a drain, and takes a drain for a cordon.
Locks: `cordons`, for the moment that adding a column with a constant default takes.
"""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column."""
    op.add_column(
        "cordons",
        sa.Column("draining", sa.Boolean, nullable=False, server_default=sa.false()),
    )


def downgrade() -> None:
    """Drop the column."""
    op.drop_column("cordons", "draining")
