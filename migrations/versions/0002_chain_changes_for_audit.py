"""Chain changes for audit: whose project, why, what it was before and after, and digests.

Expands: every column may be missing, so that the release before goes on recording changes.
Locks: `changes` for the time of changing the catalogue, milliseconds whatever its size.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

COLUMNS = ("project", "reason", "before", "after", "previous_digest", "digest")


def upgrade() -> None:
    """Add the columns, all empty."""
    op.add_column("changes", sa.Column("project", sa.String(63)))
    op.add_column("changes", sa.Column("reason", sa.Text))
    op.add_column("changes", sa.Column("before", sa.JSON))
    op.add_column("changes", sa.Column("after", sa.JSON))
    op.add_column("changes", sa.Column("previous_digest", sa.LargeBinary))
    op.add_column("changes", sa.Column("digest", sa.LargeBinary))


def downgrade() -> None:
    """Drop the columns, and with them the proof that nothing was altered."""
    for name in reversed(COLUMNS):
        op.drop_column("changes", name)
