"""Keep a catalogue: accelerator kinds, base models and reservations.

Expands: the release before does not know the table.
Locks: none that anybody waits for; the table is new.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

NAME = sa.String(63)
TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "catalogue",
        sa.Column("kind", sa.String(31), nullable=False),
        sa.Column("name", NAME, nullable=False),
        sa.Column("project", NAME, nullable=False),
        sa.Column("value", sa.JSON, nullable=False),
        sa.Column("etag", sa.String(32), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("updated_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("kind", "name", name="pk_catalogue"),
    )


def downgrade() -> None:
    """Drop the table."""
    op.drop_table("catalogue")
