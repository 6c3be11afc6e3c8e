"""Remember how long replicas took to start, the newest of every kind.

Expands: the release before knows nothing of it.
Locks: none that anybody waits for; the table is new.
"""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "cold_starts",
        sa.Column("plane", sa.String(63), nullable=False),
        sa.Column("replica", sa.String(63), nullable=False),
        sa.Column("restarts", sa.Integer, nullable=False),
        sa.Column("base_model", sa.Text, nullable=False),
        sa.Column("engine", sa.String(31), nullable=False),
        sa.Column("accelerator", sa.Text, nullable=False),
        sa.Column("seconds", sa.Float, nullable=False),
        sa.Column("measured_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("plane", "replica", "restarts", name="pk_cold_starts"),
    )


def downgrade() -> None:
    """Drop the table."""
    op.drop_table("cold_starts")
