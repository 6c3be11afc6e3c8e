"""Keep that a database was restored from a backup until its control plane has recovered.

Expands: the release before knows nothing of the table and leads at once, as it always did.
Locks: creates one table, which nobody else can be waiting for.
"""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "recovery",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ck_recovery_single_row")),
        sa.PrimaryKeyConstraint("id", name="pk_recovery"),
    )


def downgrade() -> None:
    """Drop the table."""
    op.drop_table("recovery")
