"""Keep invites to planes by their digests, and what proves each plane that joined or was revoked.

Expands: the release before lets in whatever has a certificate, and does not look at it.
Locks: none that anybody waits for; the tables are new.
"""

import sqlalchemy as sa
from alembic import op

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "plane_invites",
        sa.Column("plane", sa.String(63), nullable=False),
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sa.Column("creator", sa.String(255), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("replaces", sa.Boolean, nullable=False),
        sa.Column("used_at", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("plane", name="pk_plane_invites"),
    )
    op.create_table(
        "plane_identities",
        sa.Column("plane", sa.String(63), nullable=False),
        sa.Column("key_digest", sa.LargeBinary, nullable=False),
        sa.Column("serial", sa.String(63), nullable=False),
        sa.Column("joined_at", sa.DateTime(timezone=True)),
        sa.Column("expires_at", sa.DateTime(timezone=True)),
        sa.Column("revoked_at", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("plane", name="pk_plane_identities"),
    )


def downgrade() -> None:
    """Drop the tables; revoked planes are let in again then, as long as their certificates last."""
    op.drop_table("plane_identities")
    op.drop_table("plane_invites")
