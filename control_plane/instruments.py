"""The control plane's own instruments; the reconcile loop sets them, `/metrics` shows them."""

from skerry.plumbing import metrics

PLANES = metrics.gauge(
    "skerry_known_planes",
    unit="planes",
    help="Planes by the state they were last judged to be in.",
    labels=("state",),
)
TURNS = metrics.counter(
    "skerry_reconcile_turns_total",
    unit="turns",
    help="Turns of the reconcile loop: done, or failed and tried again.",
    labels=("outcome",),
)
ROLLOUTS = metrics.gauge(
    "skerry_rollouts",
    unit="rollouts",
    help="Deployments by how far their newest revision is.",
    labels=("state",),
)
FROZEN_PLANES = metrics.gauge(
    "skerry_frozen_planes",
    unit="planes",
    help="Silent planes for which moves are frozen, as most fell silent at once; 0 otherwise.",
)
SOLVE_SECONDS = metrics.histogram(
    "skerry_placement_solve_seconds",
    unit="seconds",
    help="Time one placement took to decide.",
)
OPERATOR_CERTIFICATE_LEFT = metrics.gauge(
    "skerry_operator_certificate_left_seconds",
    unit="seconds",
    help="Until the certificate that operators are shown ends, negative once it has. NaN where the"
    " port has none or it cannot be read.",
)
REVOKED_PLANES = metrics.gauge(
    "skerry_revoked_planes",
    unit="planes",
    help="Planes that were put out and have not joined anew, however long ago.",
)
REVOKED_CERTIFICATES = metrics.gauge(
    "skerry_revoked_certificates",
    unit="certificates",
    help="Planes that were put out and whose certificate has not ended; one of an unknown end is"
    " counted for 366 days. Gateways are told of 1,000 at most, those that end last.",
)
PENDING_REPLICAS = metrics.gauge(
    "skerry_pending_replicas",
    unit="replicas",
    help="Replicas that the last decision found no place for.",
)
COST = metrics.gauge(
    "skerry_placed_usd_per_hour",
    unit="usd_per_hour",
    help="What the placements of the last decision cost.",
)
SCALING_DECISIONS = metrics.counter(
    "skerry_scaling_decisions_total",
    unit="decisions",
    help="Decisions of the global loop of autoscaling, by what decided.",
    labels=("because",),
)
SCALING_UNMET = metrics.gauge(
    "skerry_scaling_unmet_replicas",
    unit="replicas",
    help="Replicas that load asks for and no pool has free accelerators for.",
)
SCALING_UNMET_COST = metrics.gauge(
    "skerry_scaling_unmet_usd_per_hour",
    unit="usd_per_hour",
    help="What those would cost where they are cheapest.",
)
ACTIONS = metrics.counter(
    "skerry_reconcile_actions_total",
    unit="actions",
    help="Actions that reconciliation applied, by kind.",
    labels=("kind",),
)
RECOVERING = metrics.gauge(
    "skerry_recovering",
    unit="recovering",
    help="1 while this control plane takes in what planes hold and changes nothing, else 0.",
)
DATABASE_AWAY = metrics.gauge(
    "skerry_database_away",
    unit="away",
    help="1 while the database did not answer this control plane when it was asked last, else 0.",
)
LEADER = metrics.gauge(
    "skerry_leader",
    unit="leader",
    help="1 while this control plane leads and may act, else 0.",
)
EPOCH = metrics.gauge(
    "skerry_leadership_epoch",
    unit="epoch",
    help="The epoch under which this control plane leads; 0 while it stands by.",
)
TAKEOVERS = metrics.counter(
    "skerry_leadership_takeovers_total",
    unit="takeovers",
    help="Times this process took over leadership.",
)
ACCESS_REFUSALS = metrics.counter(
    "skerry_operator_refused_calls_total",
    unit="calls",
    help="Calls of the operator API that were refused for want of a credential or of a role, or"
    " because one caller made too many.",
    labels=("code",),
)
AUDITED = metrics.counter(
    "skerry_audit_verified_pieces_total",
    unit="pieces",
    help="Pieces of the change log that somebody had verified: sound, or broken.",
    labels=("outcome",),
)
