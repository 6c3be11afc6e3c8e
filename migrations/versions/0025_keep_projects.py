"""Keep projects, and of credentials whose they are.

Expands: the release before makes credentials of `default`, where it knows no other, and refuses
every other project. `default` is no row: it always exists.
Locks: service_tokens and api_keys for an instant; the table is new.
"""

import sqlalchemy as sa
from alembic import op

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table, and the columns with `default` in every row."""
    op.create_table(
        "projects",
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("creator", sa.String(255), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_projects"),
    )
    for table in ("service_tokens", "api_keys"):
        project = sa.Column("project", sa.String(63), nullable=False, server_default="default")
        op.add_column(table, project)


def downgrade() -> None:
    """Drop both: what projects owned is `default`'s again, as the release before has it."""
    for table in ("service_tokens", "api_keys"):
        op.drop_column(table, "project")
    op.drop_table("projects")
