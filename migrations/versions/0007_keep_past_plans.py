"""Keep past plans, and those that wait for an approval.

Expands: the release before keeps only the last decision, where it still is.
Locks: none that anybody waits for; the table is new.
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "plans",
        sa.Column("number", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("state", sa.String(15), nullable=False),
        sa.Column("inputs", sa.String(64), nullable=False),
        sa.Column("summary", sa.Text, nullable=False),
        sa.Column("decision", sa.JSON, nullable=False),
        sa.Column("placements", sa.JSON),
        sa.PrimaryKeyConstraint("number", name="pk_plans"),
    )


def downgrade() -> None:
    """Drop the table; a plan that waits for its approval is decided again."""
    op.drop_table("plans")
