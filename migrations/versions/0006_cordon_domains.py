"""Cordon domains: clouds, regions and planes where nothing new is placed.

Expands: the release before does not know the table, and its cordons of pools stay where they are.
Locks: none that anybody waits for; the table is new.
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "cordons",
        sa.Column("domain", sa.String(31), nullable=False),
        sa.Column("name", sa.String(127), nullable=False),
        sa.Column("actor", sa.String(255), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("domain", "name", name="pk_cordons"),
    )


def downgrade() -> None:
    """Drop the table."""
    op.drop_table("cordons")
