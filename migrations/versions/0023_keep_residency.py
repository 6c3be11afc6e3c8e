"""Keep what planes' gateways recorded of where requests went, and the newest record of each.

Expands: the release before is told none and does not look at it.
Locks: none that anybody waits for; the tables are new.
"""

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "residency_records",
        sa.Column("plane", sa.String(63), nullable=False),
        sa.Column("chain", sa.String(63), nullable=False),
        sa.Column("sequence", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column("from_ms", sa.BigInteger, nullable=False),
        sa.Column("to_ms", sa.BigInteger, nullable=False),
        sa.Column("content", sa.Text, nullable=False),
        sa.Column("previous", sa.LargeBinary),
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("plane", "chain", "sequence", name="pk_residency_records"),
    )
    op.create_index("ix_residency_records_to_ms", "residency_records", ["to_ms"])
    op.create_table(
        "residency_heads",
        sa.Column("plane", sa.String(63), nullable=False),
        sa.Column("chain", sa.String(63), nullable=False),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("digest", sa.LargeBinary),
        sa.Column("fault", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("plane", name="pk_residency_heads"),
    )


def downgrade() -> None:
    """Drop the tables; planes tell again what they still have."""
    op.drop_table("residency_heads")
    op.drop_index("ix_residency_records_to_ms", table_name="residency_records")
    op.drop_table("residency_records")
