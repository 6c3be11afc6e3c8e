"""Keep how far each deployment's newest revision is rolled out, in a table of its own.

Expands: the release before tells every plane to run the newest revision; what planes were told is
taken for rolled out where there is no row.
Locks: none that anybody waits for; the table is new.
"""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "rollouts",
        sa.Column("deployment", sa.String(63), nullable=False),
        sa.Column("rollout", sa.JSON, nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("deployment", name="pk_rollouts"),
    )


def downgrade() -> None:
    """Drop the table; with it planes run the newest revision of everything."""
    op.drop_table("rollouts")
