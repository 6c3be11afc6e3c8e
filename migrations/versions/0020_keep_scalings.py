"""Keep what autoscaling decided of each deployment, and the last records of it, in two tables.

Expands: the release before places `min_replicas` and does not look at them.
Locks: none that anybody waits for; the tables are new.
"""

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "scalings",
        sa.Column("deployment", sa.String(63), nullable=False),
        sa.Column("scaled", sa.JSON, nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("deployment", name="pk_scalings"),
    )
    op.create_table(
        "scaling_records",
        sa.Column("deployment", sa.String(63), nullable=False),
        sa.Column("number", sa.Integer, autoincrement=False, nullable=False),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("record", sa.JSON, nullable=False),
        sa.PrimaryKeyConstraint("deployment", "number", name="pk_scaling_records"),
    )


def downgrade() -> None:
    """Drop the tables; with them `min_replicas` of everything are placed."""
    op.drop_table("scaling_records")
    op.drop_table("scalings")
