"""Keep with every measured start which configuration of its engine it was of.

Expands: the release before does not write the column, and its starts count as of an unknown
configuration, as those do that were there already.
Locks: SQLite and PostgreSQL add a column with a constant default without rewriting the table.
"""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column."""
    op.add_column(
        "cold_starts",
        sa.Column("configuration", sa.String(64), nullable=False, server_default="unknown"),
    )


def downgrade() -> None:
    """Drop the column; starts are of a base model, engine and accelerator kind again."""
    op.drop_column("cold_starts", "configuration")
