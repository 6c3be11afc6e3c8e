"""Create the capacity database.

Locks: none that anybody waits for; the tables are new.
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

NAME = sa.String(63)
TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Create every table, with the single rows of the leadership and the change counter."""
    _create_log()
    _create_demand()
    _create_supply()
    _create_decisions()


def downgrade() -> None:
    """Drop every table."""
    for name in (
        "requests",
        "desired_states",
        "decisions",
        "placements",
        "pool_terms",
        "pools",
        "planes",
        "revisions",
        "deployments",
        "changes",
        "change_counter",
        "leadership",
    ):
        op.drop_table(name)


def _create_log() -> None:
    leadership = op.create_table(
        "leadership",
        sa.Column("id", sa.Integer, autoincrement=False, nullable=False),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("holder", sa.String(255), nullable=False),
        sa.Column("taken_at", TIME),
        sa.PrimaryKeyConstraint("id", name="pk_leadership"),
        sa.CheckConstraint("id = 1", name=op.f("ck_leadership_single_row")),
    )
    counter = op.create_table(
        "change_counter",
        sa.Column("id", sa.Integer, autoincrement=False, nullable=False),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_change_counter"),
        sa.CheckConstraint("id = 1", name=op.f("ck_change_counter_single_row")),
    )
    op.create_table(
        "changes",
        sa.Column("sequence", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column("time", TIME, nullable=False),
        sa.Column("actor", sa.String(255), nullable=False),
        sa.Column("kind", sa.String(63), nullable=False),
        sa.Column("subject", sa.String(255), nullable=False),
        sa.Column("summary", sa.Text, nullable=False),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("sequence", name="pk_changes"),
    )
    op.bulk_insert(leadership, [{"id": 1, "epoch": 0, "holder": ""}])
    op.bulk_insert(counter, [{"id": 1, "sequence": 0}])


def _create_demand() -> None:
    op.create_table(
        "deployments",
        sa.Column("name", NAME, nullable=False),
        sa.Column("project", NAME, nullable=False),
        sa.Column("served_name", sa.String(255), nullable=False),
        sa.Column("deployment", sa.JSON, nullable=False),
        sa.Column("etag", sa.String(32), nullable=False),
        sa.Column("deleting", sa.Boolean, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("updated_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_deployments"),
        sa.UniqueConstraint("served_name", name="uq_deployments_served_name"),
    )
    op.create_table(
        "revisions",
        sa.Column("deployment", NAME, nullable=False),
        sa.Column("number", sa.Integer, autoincrement=False, nullable=False),
        sa.Column("revision", sa.JSON, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("deployment", "number", name="pk_revisions"),
    )
    op.create_table(
        "requests",
        sa.Column("actor", sa.String(255), nullable=False),
        sa.Column("request_id", sa.String(128), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("answer", sa.JSON, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("actor", "request_id", name="pk_requests"),
    )
    op.create_index("ix_requests_created_at", "requests", ["created_at"])


def _create_supply() -> None:
    op.create_table(
        "planes",
        sa.Column("name", NAME, nullable=False),
        sa.Column("identity", sa.JSON, nullable=False),
        sa.Column("gateway", sa.JSON, nullable=False),
        sa.Column("condition", sa.JSON),
        sa.Column("updated_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_planes"),
    )
    op.create_table(
        "pools",
        sa.Column("name", NAME, nullable=False),
        sa.Column("plane", NAME, nullable=False),
        sa.Column("shape", sa.JSON, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_pools"),
        sa.ForeignKeyConstraint(["plane"], ["planes.name"], name="fk_pools_plane_planes"),
    )
    op.create_index("ix_pools_plane", "pools", ["plane"])
    op.create_table(
        "pool_terms",
        sa.Column("pool", NAME, nullable=False),
        sa.Column("terms", sa.JSON, nullable=False),
        sa.Column("etag", sa.String(32), nullable=False),
        sa.Column("updated_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("pool", name="pk_pool_terms"),
    )


def _create_decisions() -> None:
    op.create_table(
        "placements",
        sa.Column("deployment", NAME, nullable=False),
        sa.Column("pool", NAME, nullable=False),
        sa.Column("replicas", sa.Integer, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("deployment", "pool", name="pk_placements"),
        sa.CheckConstraint("replicas >= 0", name=op.f("ck_placements_counted")),
    )
    op.create_table(
        "decisions",
        sa.Column("id", sa.Integer, autoincrement=False, nullable=False),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("decided_at", TIME, nullable=False),
        sa.Column("decision", sa.JSON, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_decisions"),
        sa.CheckConstraint("id = 1", name=op.f("ck_decisions_single_row")),
    )
    op.create_table(
        "desired_states",
        sa.Column("plane", NAME, nullable=False),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("generation", sa.BigInteger, nullable=False),
        sa.Column("payload", sa.LargeBinary, nullable=False),
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sa.Column("updated_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("plane", name="pk_desired_states"),
    )
