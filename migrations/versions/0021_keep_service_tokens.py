"""Keep what programs may do by their tokens' digests, in a table of their own.

Expands: the release before asks nobody for a credential and does not look at it.
Locks: none that anybody waits for; the table is new.
"""

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "service_tokens",
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("grant", sa.JSON, nullable=False),
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sa.Column("creator", sa.String(255), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True)),
        sa.Column("last_used_at", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("name", name="pk_service_tokens"),
    )


def downgrade() -> None:
    """Drop the table; every token has to be made again then."""
    op.drop_table("service_tokens")
