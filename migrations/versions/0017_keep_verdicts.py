"""Keep how planes were judged, with the evidence, in a table of its own.

Expands: the release before judges without writing it down.
Locks: none that anybody waits for; the table is new.
"""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "verdicts",
        sa.Column("plane", sa.String(63), nullable=False),
        sa.Column("number", sa.Integer, autoincrement=False, nullable=False),
        sa.Column("judged_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("verdict", sa.JSON, nullable=False),
        sa.PrimaryKeyConstraint("plane", "number", name="pk_verdicts"),
    )


def downgrade() -> None:
    """Drop the table; the change log still says when states changed."""
    op.drop_table("verdicts")
