"""Cordon nodes and pools, in a table of their own.

Expands: the release before takes every row of `cordons` for a plane, region or cloud, and does not
know this table.
Locks: none that anybody waits for; the table is new.
"""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "cordons_within_planes",
        sa.Column("domain", sa.String(31), nullable=False),
        sa.Column("name", sa.String(127), nullable=False),
        sa.Column("actor", sa.String(255), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("draining", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.PrimaryKeyConstraint("domain", "name", name="pk_cordons_within_planes"),
    )


def downgrade() -> None:
    """Drop the table; with it those cordons end."""
    op.drop_table("cordons_within_planes")
