"""Let old changes be forgotten: the counter keeps the newest digest and how far it went.

Expands: the release before writes neither column and forgets nothing.
Locks: the counter's single row, for milliseconds.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns."""
    op.add_column("change_counter", sa.Column("digest", sa.LargeBinary))
    op.add_column(
        "change_counter",
        sa.Column("compacted_to", sa.BigInteger, nullable=False, server_default="0"),
    )


def downgrade() -> None:
    """Drop the columns."""
    op.drop_column("change_counter", "compacted_to")
    op.drop_column("change_counter", "digest")
