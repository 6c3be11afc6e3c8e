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
    false,
)

from control_plane.store.columns import UtcTime, ValueColumn
from control_plane.store.values import Answer, Decision
from skerry.fleet.access import Grant
from skerry.fleet.api_key import KeyTerms
from skerry.fleet.autoscaling.scaled import FleetRecord, Scaled
from skerry.fleet.deployment import Deployment, Revision
from skerry.fleet.names import DEFAULT_PROJECT
from skerry.fleet.node import Node
from skerry.fleet.observation import PlaneCondition
from skerry.fleet.pool import GatewayAddresses, PlaneIdentity, PoolShape, PoolTerms
from skerry.fleet.rollout import Rollout
from skerry.fleet.verdict import Verdict

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
ADDRESS = String(255)

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

# Until when the leader's term lasts, by the database's clock: NULL is given up, or was never given.
# Not in `leadership`: each write of the leader shares that row's lock, and renewals must not wait.
leadership_terms = Table(
    "leadership_terms",
    metadata,
    Column(
        "id",
        Integer,
        CheckConstraint("id = 1", name="single_row"),
        primary_key=True,
        autoincrement=False,
    ),
    Column("epoch", BigInteger, nullable=False),
    Column("expires_at", UtcTime),
    Column("operator_address", ADDRESS, nullable=False),
    Column("link_address", ADDRESS, nullable=False),
    Column("http_address", ADDRESS, nullable=False),
)

# What each control plane says of itself once a second; times are of the database's clock.
control_planes = Table(
    "control_planes",
    metadata,
    Column("name", String(255), primary_key=True),
    Column("epoch", BigInteger, nullable=False),
    Column("operator_address", ADDRESS, nullable=False),
    Column("link_address", ADDRESS, nullable=False),
    Column("http_address", ADDRESS, nullable=False),
    Column("software", String(63), nullable=False),
    Column("since", UtcTime, nullable=False),
    Column("heard_at", UtcTime, nullable=False),
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

# Releases before autoscaling know no unset delay and read their own where there is none.
_DEPLOYMENT = ValueColumn(Deployment, unset=("scaling.scale_down_delay_seconds",))

deployments = Table(
    "deployments",
    metadata,
    Column("name", NAME, primary_key=True),
    Column("project", NAME, nullable=False),
    Column("served_name", String(255), nullable=False, unique=True),
    Column("deployment", _DEPLOYMENT, nullable=False),
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

# Deployments that are no more, the newest 1,024 (removals.py), by the last spec of each and the
# highest revision it ever had. An older release does not write them.
removals = Table(
    "removals",
    metadata,
    Column("name", NAME, primary_key=True),
    Column("deployment", _DEPLOYMENT, nullable=False),
    Column("last_revision", Integer, nullable=False),
    Column("removed_at", UtcTime, nullable=False),
)

planes = Table(
    "planes",
    metadata,
    Column("name", NAME, primary_key=True),
    Column("identity", ValueColumn(PlaneIdentity), nullable=False),
    Column("gateway", ValueColumn(GatewayAddresses), nullable=False),
    Column("condition", ValueColumn(PlaneCondition)),
    Column("updated_at", UtcTime, nullable=False),
    # Of the nodes as last reported, so that the same report again need not read them.
    Column("nodes_digest", String(64)),
)

# Machines by the names that planes give them, as last reported.
nodes = Table(
    "nodes",
    metadata,
    Column("name", POOL, primary_key=True),
    Column("plane", NAME, ForeignKey("planes.name"), nullable=False, index=True),
    Column("node", ValueColumn(Node), nullable=False),
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

# Accelerator kinds, base models, reservations, clouds, regions, profiles: a name with a value.
catalogue = Table(
    "catalogue",
    metadata,
    Column("kind", String(31), primary_key=True),
    Column("name", String(127), primary_key=True),  # of a region: CLOUD/REGION
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


def _cordons(name: str) -> Table:
    return Table(
        name,
        metadata,
        Column("domain", String(31), primary_key=True),  # what the glossary calls a scope
        Column("name", String(127), primary_key=True),
        Column("actor", String(255), nullable=False),
        Column("reason", Text, nullable=False),
        Column("since", UtcTime, nullable=False),
        Column("draining", Boolean, nullable=False, server_default=false()),
    )


# Where nothing new is placed: a plane, region or cloud by name, and why.
cordons = _cordons("cordons")
# And a node or pool: releases before 0013 take no row of `cordons` for such a thing.
cordons_within_planes = _cordons("cordons_within_planes")

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

# How far the newest revision of each deployment is. An older release does not know them: it tells
# every plane to run it, and what it told is taken for rolled out afterwards.
rollouts = Table(
    "rollouts",
    metadata,
    Column("deployment", NAME, primary_key=True),
    Column("rollout", ValueColumn(Rollout), nullable=False),
    Column("updated_at", UtcTime, nullable=False),
)

# What the global loop of autoscaling holds of each deployment, and its last decisions, as many as
# scalings.py keeps. An older release places `min_replicas` of everything.
scalings = Table(
    "scalings",
    metadata,
    Column("deployment", NAME, primary_key=True),
    Column("scaled", ValueColumn(Scaled), nullable=False),
    Column("updated_at", UtcTime, nullable=False),
)

scaling_records = Table(
    "scaling_records",
    metadata,
    Column("deployment", NAME, primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("decided_at", UtcTime, nullable=False),
    Column("record", ValueColumn(FleetRecord), nullable=False),
)

# How long replicas took to their first answer: the newest 64 of a base model, engine, its
# configuration (a digest, or unknown) and accelerator kind. At most 8,192 rows
# (cold_starts.py), so no index beside the key.
cold_starts = Table(
    "cold_starts",
    metadata,
    Column("plane", NAME, primary_key=True),
    Column("replica", NAME, primary_key=True),
    Column("restarts", Integer, primary_key=True, autoincrement=False),
    Column("base_model", Text, nullable=False),
    Column("engine", String(31), nullable=False),
    Column("accelerator", Text, nullable=False),
    Column("seconds", Float, nullable=False),
    Column("measured_at", UtcTime, nullable=False),
    Column("configuration", String(64), nullable=False, server_default="unknown"),
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

# How far each plane may scale on its own, as it was last told: rows of the generation that
# `desired_states` has. An older release does not write them; its payloads are read instead.
envelopes = Table(
    "envelopes",
    metadata,
    Column("deployment", NAME, primary_key=True),
    Column("pool", POOL, primary_key=True),
    Column("plane", NAME, nullable=False, index=True),
    Column("floor", Integer, nullable=False),
    Column("target", Integer, nullable=False),
    Column("ceiling", Integer, nullable=False),
    Column("generation", BigInteger, nullable=False),
)

# There while a restored database was not yet reconciled with what the planes hold.
recovery = Table(
    "recovery",
    metadata,
    Column(
        "id",
        Integer,
        CheckConstraint("id = 1", name="single_row"),
        primary_key=True,
        autoincrement=False,
    ),
    Column("since", UtcTime, nullable=False),
    Column("reason", Text, nullable=False),
)

# Why each plane's state was what, the newest of every plane.
verdicts = Table(
    "verdicts",
    metadata,
    Column("plane", NAME, primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("judged_at", UtcTime, nullable=False),
    Column("verdict", ValueColumn(Verdict), nullable=False),
)

# Who owns deployments and credentials. `default`, which the fleet's own things are in, is no row.
projects = Table(
    "projects",
    metadata,
    Column("name", NAME, primary_key=True),
    Column("creator", String(255), nullable=False),
    Column("created_at", UtcTime, nullable=False),
)

# Credentials of programs: of each a digest of its text, which only its owner has. A row is gone
# with its token; the change log tells of both.
service_tokens = Table(
    "service_tokens",
    metadata,
    Column("name", NAME, primary_key=True),
    Column("grant", ValueColumn(Grant), nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("creator", String(255), nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("expires_at", UtcTime),
    Column("last_used_at", UtcTime),
    Column("project", NAME, nullable=False, server_default=DEFAULT_PROJECT),
)

# API keys for inference, by the digest of their text. A revoked one stays: that there is none left
# is something that gateways may be told, an empty database is not.
api_keys = Table(
    "api_keys",
    metadata,
    Column("name", NAME, primary_key=True),
    Column("terms", ValueColumn(KeyTerms), nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("creator", String(255), nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("expires_at", UtcTime),
    Column("revoked_at", UtcTime),
    Column("project", NAME, nullable=False, server_default=DEFAULT_PROJECT),
)

# What planes' gateways recorded of where requests went, as they chained it.
residency_records = Table(
    "residency_records",
    metadata,
    Column("plane", NAME, primary_key=True),
    Column("chain", NAME, primary_key=True),
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    Column("from_ms", BigInteger, nullable=False),
    Column("to_ms", BigInteger, nullable=False, index=True),
    Column("content", Text, nullable=False),
    Column("previous", LargeBinary),
    Column("digest", LargeBinary, nullable=False),
)

# The newest of each plane, and what is wrong with what followed it.
residency_heads = Table(
    "residency_heads",
    metadata,
    Column("plane", NAME, primary_key=True),
    Column("chain", NAME, nullable=False),
    Column("sequence", BigInteger, nullable=False),
    Column("digest", LargeBinary),
    Column("fault", Text, nullable=False),
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

# One invite a plane: a newer one takes the place of one that was used or has ended.
plane_invites = Table(
    "plane_invites",
    metadata,
    Column("plane", NAME, primary_key=True),
    Column("digest", LargeBinary, nullable=False),
    Column("creator", String(255), nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("expires_at", UtcTime, nullable=False),
    Column("replaces", Boolean, nullable=False),
    Column("used_at", UtcTime),
)

# What proves a plane that joined by invitation or was revoked; of others there is no row.
plane_identities = Table(
    "plane_identities",
    metadata,
    Column("plane", NAME, primary_key=True),
    Column("key_digest", LargeBinary, nullable=False),
    Column("serial", String(63), nullable=False),
    Column("joined_at", UtcTime),
    Column("expires_at", UtcTime),
    Column("revoked_at", UtcTime),
)
