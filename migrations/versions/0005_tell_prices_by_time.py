"""Tell prices by time: what an accelerator-hour of a pool costs from a moment on.

Expands: the price in a pool's terms still counts where no row says otherwise.
Locks: none that anybody waits for; the table is new.
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "prices",
        sa.Column("pool", sa.String(63), nullable=False),
        sa.Column("valid_from", sa.DateTime(timezone=True), nullable=False),
        sa.Column("price_per_accelerator_hour", sa.Float, nullable=False),
        sa.PrimaryKeyConstraint("pool", "valid_from", name="pk_prices"),
    )


def downgrade() -> None:
    """Drop the table."""
    op.drop_table("prices")
