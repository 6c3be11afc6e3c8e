"""Keep nodes: the machines of a plane's pools by the names that the plane gives them.

Expands: the release before neither writes nor reads them; a plane whose digest it leaves alone is
read anew by its next report.
Locks: `planes`, for the moment that adding a column without a default takes.
"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table and add the column."""
    op.create_table(
        "nodes",
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("plane", sa.String(63), nullable=False),
        sa.Column("node", sa.JSON, nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["plane"], ["planes.name"], name="fk_nodes_plane_planes"),
        sa.PrimaryKeyConstraint("name", name="pk_nodes"),
    )
    op.create_index("ix_nodes_plane", "nodes", ["plane"])
    op.add_column("planes", sa.Column("nodes_digest", sa.String(64)))


def downgrade() -> None:
    """Drop the column and the table."""
    op.drop_column("planes", "nodes_digest")
    op.drop_index("ix_nodes_plane", table_name="nodes")
    op.drop_table("nodes")
