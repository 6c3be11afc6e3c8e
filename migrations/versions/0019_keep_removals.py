"""Keep which deployments were removed, in a table of their own.

Expands: the release before removes without keeping it. What was removed so far is taken from the
change log, as far as that goes back.
Locks: none that anybody waits for; the table is new, and the change log is read once.
"""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

REMOVALS_MAX = 1_024  # as many as are kept of them afterwards

_CHANGES = sa.table(
    "changes",
    sa.column("sequence", sa.BigInteger),
    sa.column("time", sa.DateTime(timezone=True)),
    sa.column("kind", sa.String),
    sa.column("before", sa.JSON),
)


def upgrade() -> None:
    """Create the table, and fill it from the change log."""
    removals = op.create_table(
        "removals",
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("deployment", sa.JSON, nullable=False),
        sa.Column("last_revision", sa.Integer, nullable=False),
        sa.Column("removed_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_removals"),
    )
    if rows := _removed_so_far():
        op.bulk_insert(removals, rows)


def downgrade() -> None:
    """Drop the table; a plane that starts again what was removed goes on with it then."""
    op.drop_table("removals")


def _removed_so_far() -> list[dict[str, object]]:
    """Return the newest removal of every name that is nobody's now."""
    connection = op.get_bind()
    # Of names in use the revisions are those of the life they have now.
    in_use = "select name from deployments"
    highest = sa.text(
        "select deployment, max(number) from revisions"
        f" where deployment not in ({in_use}) group by deployment"
    )
    numbers = {row[0]: row[1] for row in connection.execute(highest)}
    removed = (
        sa.select(_CHANGES.c.time, _CHANGES.c.before)
        .where(_CHANGES.c.kind == "deployment.removed")
        .order_by(_CHANGES.c.sequence.desc())
        .limit(REMOVALS_MAX)
    )
    rows: dict[str, dict[str, object]] = {}
    for time, deployment in connection.execute(removed):
        name = str(deployment.get("name")) if isinstance(deployment, dict) else ""
        if name in numbers:
            row = {"name": name, "deployment": deployment, "last_revision": numbers[name]}
            rows.setdefault(name, row | {"removed_at": time})
    return list(rows.values())
