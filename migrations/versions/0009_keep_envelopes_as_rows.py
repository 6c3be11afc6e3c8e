"""Keep envelopes as rows beside the desired states that tell them, and names of regions.

Expands: the release before writes no envelopes, and its desired states have none of their
generation until this release puts the next; a catalogue name may be CLOUD/REGION now.
Locks: the table is new; PostgreSQL takes the catalogue for itself for a moment and rewrites
nothing, SQLite copies it (at most some thousand rows) within the migration's transaction.
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table, and make room for longer names."""
    op.create_table(
        "envelopes",
        sa.Column("deployment", sa.String(63), nullable=False),
        sa.Column("pool", sa.String(63), nullable=False),
        sa.Column("plane", sa.String(63), nullable=False),
        sa.Column("floor", sa.Integer, nullable=False),
        sa.Column("target", sa.Integer, nullable=False),
        sa.Column("ceiling", sa.Integer, nullable=False),
        sa.Column("generation", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("deployment", "pool", name="pk_envelopes"),
    )
    op.create_index("ix_envelopes_plane", "envelopes", ["plane"])
    _resize_names(63, 127)


def downgrade() -> None:
    """Drop the table, and the clouds and regions that were registered."""
    op.execute("delete from catalogue where kind in ('cloud', 'region')")
    _resize_names(127, 63)
    op.drop_table("envelopes")


def _resize_names(before: int, after: int) -> None:
    with op.batch_alter_table("catalogue") as catalogue:
        catalogue.alter_column(
            "name",
            existing_type=sa.String(before),
            type_=sa.String(after),
            existing_nullable=False,
        )
