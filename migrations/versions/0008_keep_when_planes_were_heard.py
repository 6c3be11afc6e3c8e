"""Keep when each plane was last heard, flushed once a second.

Expands: the release before keeps it in memory only.
Locks: none that anybody waits for; the table is new.
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "leases",
        sa.Column("plane", sa.String(63), nullable=False),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("heard_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("held_epoch", sa.BigInteger, nullable=False),
        sa.Column("held_generation", sa.BigInteger, nullable=False),
        sa.Column("replicas_ready", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("plane", name="pk_leases"),
    )


def downgrade() -> None:
    """Drop the table."""
    op.drop_table("leases")
