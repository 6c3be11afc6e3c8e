"""Keep what users may ask by their API keys' digests, in a table of their own.

Expands: the release before tells gateways of no keys and does not look at it.
Locks: none that anybody waits for; the table is new.
"""

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "api_keys",
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("terms", sa.JSON, nullable=False),
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sa.Column("creator", sa.String(255), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True)),
        sa.Column("revoked_at", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("name", name="pk_api_keys"),
    )


def downgrade() -> None:
    """Drop the table; gateways keep what they were told, and every key has to be made again."""
    op.drop_table("api_keys")
