"""Let leadership expire, and keep what control planes say of themselves: two tables of their own.

Expands: the release before takes over at once whenever it starts, and raises the epoch in
`leadership` alone; ours notices that at its next renewal.
Locks: none that anybody waits for; the tables are new.
"""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create both tables; the term is nobody's yet."""
    term = op.create_table(
        "leadership_terms",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True)),
        sa.Column("operator_address", sa.String(255), nullable=False),
        sa.Column("link_address", sa.String(255), nullable=False),
        sa.Column("http_address", sa.String(255), nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ck_leadership_terms_single_row")),
        sa.PrimaryKeyConstraint("id", name="pk_leadership_terms"),
    )
    nobody = {"operator_address": "", "link_address": "", "http_address": ""}
    op.bulk_insert(term, [{"id": 1, "epoch": 0, "expires_at": None, **nobody}])
    op.create_table(
        "control_planes",
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("operator_address", sa.String(255), nullable=False),
        sa.Column("link_address", sa.String(255), nullable=False),
        sa.Column("http_address", sa.String(255), nullable=False),
        sa.Column("software", sa.String(63), nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("heard_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_control_planes"),
    )


def downgrade() -> None:
    """Drop both; control planes of the release before lead as they start."""
    op.drop_table("control_planes")
    op.drop_table("leadership_terms")
