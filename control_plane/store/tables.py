"""The tables of the capacity database; only the functions beside this file read or write them."""

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
)

from control_plane.store.columns import UtcTime, ValueColumn
from control_plane.store.values import Answer, Decision
from skerry.fleet.deployment import Deployment, Revision
from skerry.fleet.observation import PlaneCondition
from skerry.fleet.pool import GatewayAddresses, PlaneIdentity, PoolShape, PoolTerms

# Names of constraints are part of the schema: a migration can only drop what it can name.
metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

NAME = String(63)
POOL = String(63)
ETAG = String(32)

leadership = Table(
    "leadership",
    metadata,
    Column(
        "id",
        Integer,
        CheckConstraint("id = 1", name="single_row"),
        primary_key=True,
        autoincrement=False,
    ),
    Column("epoch", BigInteger, nullable=False),
    Column("holder", String(255), nullable=False),
    Column("taken_at", UtcTime),
)

# The counter is a row, not a database sequence: sequences commit out of order, and whoever watches
# from number N would skip what commits later with a number below N.
change_counter = Table(
    "change_counter",
    metadata,
    Column(
        "id",
        Integer,
        CheckConstraint("id = 1", name="single_row"),
        primary_key=True,
        autoincrement=False,
    ),
    Column("sequence", BigInteger, nullable=False),
    # Of the newest change: the next one is chained to it though older ones may be forgotten.
    Column("digest", LargeBinary),
    # The newest change that was forgotten, 0 while all are there.
    Column("compacted_to", BigInteger, nullable=False, server_default="0"),
)

# What is nullable since 0002 is missing from changes that an older release recorded.
changes = Table(
    "changes",
    metadata,
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    Column("time", UtcTime, nullable=False),
    Column("actor", String(255), nullable=False),
    Column("kind", String(63), nullable=False),
    Column("subject", String(255), nullable=False),
    Column("summary", Text, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("project", NAME),
    Column("reason", Text),
    Column("before", JSON(none_as_null=True)),
    Column("after", JSON(none_as_null=True)),
    Column("previous_digest", LargeBinary),
    Column("digest", LargeBinary),
)

deployments = Table(
    "deployments",
    metadata,
    Column("name", NAME, primary_key=True),
    Column("project", NAME, nullable=False),
    Column("served_name", String(255), nullable=False, unique=True),
    Column("deployment", ValueColumn(Deployment), nullable=False),
    Column("etag", ETAG, nullable=False),
    Column("deleting", Boolean, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("updated_at", UtcTime, nullable=False),
)

# No foreign key: the revisions of a removed deployment stay, so that a new deployment of the same
# name never reuses a number that replicas somewhere may still carry.
revisions = Table(
    "revisions",
    metadata,
    Column("deployment", NAME, primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("revision", ValueColumn(Revision), nullable=False),
    Column("created_at", UtcTime, nullable=False),
)

planes = Table(
    "planes",
    metadata,
    Column("name", NAME, primary_key=True),
    Column("identity", ValueColumn(PlaneIdentity), nullable=False),
    Column("gateway", ValueColumn(GatewayAddresses), nullable=False),
    Column("condition", ValueColumn(PlaneCondition)),
    Column("updated_at", UtcTime, nullable=False),
)

pools = Table(
    "pools",
    metadata,
    Column("name", POOL, primary_key=True),
    Column("plane", NAME, ForeignKey("planes.name"), nullable=False, index=True),
    Column("shape", ValueColumn(PoolShape), nullable=False),
)

# No foreign key: an operator may say the terms of a pool before its plane first reports it.
pool_terms = Table(
    "pool_terms",
    metadata,
    Column("pool", POOL, primary_key=True),
    Column("terms", ValueColumn(PoolTerms), nullable=False),
    Column("etag", ETAG, nullable=False),
    Column("updated_at", UtcTime, nullable=False),
)

# Accelerator kinds, base models and reservations: a name with a value, all kept alike.
catalogue = Table(
    "catalogue",
    metadata,
    Column("kind", String(31), primary_key=True),
    Column("name", NAME, primary_key=True),
    Column("project", NAME, nullable=False),
    Column("value", JSON, nullable=False),
    Column("etag", ETAG, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("updated_at", UtcTime, nullable=False),
)

# What an accelerator-hour of a pool costs from a moment on, until the next row of the pool.
prices = Table(
    "prices",
    metadata,
    Column("pool", POOL, primary_key=True),
    Column("valid_from", UtcTime, primary_key=True),
    Column("price_per_accelerator_hour", Float, nullable=False),
)

# Where nothing new is placed: a cloud, region or plane by name, and why.
cordons = Table(
    "cordons",
    metadata,
    Column("domain", String(31), primary_key=True),
    Column("name", String(127), primary_key=True),
    Column("actor", String(255), nullable=False),
    Column("reason", Text, nullable=False),
    Column("since", UtcTime, nullable=False),
)

placements = Table(
    "placements",
    metadata,
    Column("deployment", NAME, primary_key=True),
    Column("pool", POOL, primary_key=True),
    Column("replicas", Integer, CheckConstraint("replicas >= 0", name="counted"), nullable=False),
    Column("reason", Text, nullable=False),
)

decisions = Table(
    "decisions",
    metadata,
    Column(
        "id",
        Integer,
        CheckConstraint("id = 1", name="single_row"),
        primary_key=True,
        autoincrement=False,
    ),
    Column("epoch", BigInteger, nullable=False),
    Column("decided_at", UtcTime, nullable=False),
    Column("decision", ValueColumn(Decision), nullable=False),
)

# Past plans and those that wait for an approval, the newest thousand.
plans = Table(
    "plans",
    metadata,
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("epoch", BigInteger, nullable=False),
    Column("decided_at", UtcTime, nullable=False),
    Column("state", String(15), nullable=False),
    Column("inputs", String(64), nullable=False),
    Column("summary", Text, nullable=False),
    Column("decision", ValueColumn(Decision), nullable=False),
    # Of a plan that may still be approved: (deployment, pool, count, reason).
    Column("placements", JSON(none_as_null=True)),
)

# When each plane was last heard, as the leader flushes it once a second: what a successor and other
# control planes may know. Liveness itself is judged in memory, on the monotonic clock.
leases = Table(
    "leases",
    metadata,
    Column("plane", NAME, primary_key=True),
    Column("epoch", BigInteger, nullable=False),
    Column("heard_at", UtcTime, nullable=False),
    Column("held_epoch", BigInteger, nullable=False),
    Column("held_generation", BigInteger, nullable=False),
    Column("replicas_ready", Integer, nullable=False),
)

desired_states = Table(
    "desired_states",
    metadata,
    Column("plane", NAME, primary_key=True),
    Column("epoch", BigInteger, nullable=False),
    Column("generation", BigInteger, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("updated_at", UtcTime, nullable=False),
)

requests = Table(
    "requests",
    metadata,
    Column("actor", String(255), primary_key=True),
    Column("request_id", String(128), primary_key=True),
    Column("digest", String(64), nullable=False),
    Column("answer", ValueColumn(Answer), nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Index(None, "created_at"),
)
