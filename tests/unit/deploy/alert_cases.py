"""For each alert of deploy/grafana/alerts.yml series on which it fires, in promtool's notation.

Values are 30 s apart; `a+bxn` begins at `a` and grows by `b` for `n` steps. HEALTHY is a world in
which none fires.
"""

from dataclasses import dataclass, field

STEP_SECONDS = 30
EVAL_TIME = "40m"
LEADS = 'skerry_leader{instance="cp"}', "1x80"
ANSWERS = 'skerry_plane_scaling_answers{plane="a",deployment="chat",kind="%s"}'
ENVOY = (
    'envoy_http_downstream_rq_xx{plane="a",envoy_http_conn_manager_prefix="public",'
    'envoy_response_code_class="%s"}'
)
CHAT = 'instance="a:1",plane="a",deployment="chat"'


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Series by name with their values, and the labels that the alert has, without its severity."""

    series: dict[str, str]
    labels: dict[str, str] = field(default_factory=dict)


def of_leader(metric: str, **labels: str) -> Case:
    """Return the case of a gauge that only the leader's word counts for."""
    all_labels = {"instance": "cp", **labels}
    told = ",".join(f'{name}="{value}"' for name, value in all_labels.items())
    return Case(series={f"{metric}{{{told}}}": "2x80", LEADS[0]: LEADS[1]}, labels=all_labels)


def of_one(series: str, values: str, **labels: str) -> Case:
    """Return the case of one series."""
    return Case(series={series: values}, labels=labels)


def is_down(job: str, **labels: str) -> Case:
    """Return the case of a process that is not scraped."""
    all_labels = {"job": f"skerry-{job}", **labels}
    told = ",".join(f'{name}="{value}"' for name, value in all_labels.items())
    return of_one(f"up{{{told}}}", "1x10 0x70", **all_labels)


MISSED = Case(
    series={ANSWERS % "judged": "0+100x80", ANSWERS % "good": "0+80x80"},
    labels={"deployment": "chat"},
)
CASES = {
    "SkerryPlaneSuspect": of_leader("skerry_known_planes", state="suspect"),
    "SkerryPlaneDisconnected": of_leader("skerry_known_planes", state="disconnected"),
    "SkerryPlaneLost": of_leader("skerry_known_planes", state="lost"),
    "SkerryPlaneRecovering": of_leader("skerry_known_planes", state="recovering"),
    "SkerryPlanesFrozen": of_leader("skerry_frozen_planes"),
    "SkerryGatewayRefused": of_one('skerry_plane_gateway_faults{plane="a"}', "1x80", plane="a"),
    "SkerryNoLeader": of_one('skerry_leader{instance="cp"}', "1x10 0x70"),
    "SkerryLeadershipRestless": of_one("skerry_leadership_takeovers_total", "0+1x80"),
    "SkerryControlPlaneDown": is_down("control-plane", instance="cp"),
    "SkerryDatabaseAway": of_one('skerry_database_away{instance="cp"}', "1x80"),
    "SkerryTurnsFail": of_one(
        'skerry_reconcile_turns_total{instance="cp",outcome="failed"}',
        "0+1x80",
        instance="cp",
        outcome="failed",
    ),
    "SkerryControlPlaneRecovering": of_one(
        'skerry_recovering{instance="cp"}', "1x80", instance="cp"
    ),
    "SkerryPlacementSlow": Case(
        series={
            'skerry_placement_solve_seconds_bucket{instance="cp",le="30.0"}': "0x80",
            'skerry_placement_solve_seconds_bucket{instance="cp",le="60.0"}': "0+1x80",
            'skerry_placement_solve_seconds_bucket{instance="cp",le="+Inf"}': "0+1x80",
        },
        labels={"instance": "cp"},
    ),
    "SkerryCallersRefused": of_one("skerry_operator_refused_calls_total", "0+60x80"),
    "SkerryAuditBroken": of_one(
        'skerry_audit_verified_pieces_total{outcome="broken"}', "0x40 1x40"
    ),
    "SkerryReplicasPending": of_leader("skerry_pending_replicas"),
    "SkerryLoadUnmet": of_leader("skerry_scaling_unmet_replicas"),
    "SkerryRolloutHalted": of_leader("skerry_rollouts", state="broken"),
    "SkerryObjectiveBurnsFast": MISSED,
    "SkerryObjectiveBurnsSlowly": MISSED,
    "SkerryReplicasBelowFloor": Case(
        series={
            f'skerry_plane_scaling_counted_replicas{{{CHAT},state="ready"}}': "1x80",
            f'skerry_plane_scaling_bound_replicas{{{CHAT},bound="floor"}}': "2x80",
        },
        labels={"instance": "a:1", "plane": "a", "deployment": "chat"},
    ),
    "SkerryRequestsWaitInVain": Case(
        series={
            f"skerry_picker_waiting_requests{{{CHAT}}}": "3x80",
            f"skerry_picker_usable_replicas{{{CHAT}}}": "0x80",
        },
        labels={"instance": "a:1", "plane": "a", "deployment": "chat"},
    ),
    "SkerryQueueGrows": of_one(
        f"skerry_picker_waiting_requests{{{CHAT}}}",
        "0+1x80",
        instance="a:1",
        plane="a",
        deployment="chat",
    ),
    "SkerryGatewayErrors": Case(
        series={ENVOY % "2": "0+90x80", ENVOY % "5": "0+10x80"}, labels={"plane": "a"}
    ),
    "SkerryStreamsBreak": of_one(
        'skerry_relay_broken_streams_total{plane="a",deployment="chat",reason="lost"}',
        "0+1x80",
        deployment="chat",
    ),
    "SkerryScalingBlind": of_one(
        'skerry_plane_scaling_held_total{plane="a",deployment="chat"}',
        "0+6x80",
        plane="a",
        deployment="chat",
    ),
    "SkerryReplicaCrashes": of_one(
        'skerry_replica_engine_restarts_total{replica="chat-1"}', "0+1x80", replica="chat-1"
    ),
    "SkerryRequestsQuarantined": of_one(
        'skerry_picker_quarantined_requests{plane="a"}', "1x80", plane="a"
    ),
    "SkerryCacheFull": of_one(
        'skerry_replica_engine_kv_used_ratio{replica="chat-1",cache="device"}',
        "0.99x80",
        replica="chat-1",
        cache="device",
    ),
    "SkerryGatewayDown": is_down("gateway", plane="a"),
    "SkerryAgentDown": is_down("agent", plane="a"),
    "SkerryPickerDown": is_down("picker", plane="a"),
    "SkerryRelayDown": is_down("relay", plane="a"),
    "SkerryCertificateEnding": of_one(
        'skerry_certificate_left_seconds{instance="a:1"}', "500000x80", instance="a:1"
    ),
    "SkerryCertificateEnded": of_one(
        'skerry_certificate_left_seconds{instance="a:1"}', "1000-30x80", instance="a:1"
    ),
    "SkerryManyRevokedPlanes": of_one(
        'skerry_revoked_certificates{instance="a:1"}', "801x80", instance="a:1"
    ),
    "SkerryDiskNearlyFull": of_one(
        'skerry_data_free_ratio{instance="a:1"}', "0.05x80", instance="a:1"
    ),
    "SkerryDiskFull": of_one('skerry_data_free_ratio{instance="a:1"}', "0.01x80", instance="a:1"),
    "SkerryClockSkew": of_one('skerry_clock_seconds{instance="a:1"}', "10+30x80", instance="a:1"),
}
HEALTHY = {
    **dict([LEADS]),
    **{f'skerry_leader{{instance="standby-{n}"}}': "0x80" for n in (1, 2)},
    # What one that led before goes on telling counts for nothing.
    'skerry_known_planes{instance="standby-1",state="lost"}': "3x80",
    'skerry_pending_replicas{instance="standby-1"}': "3x80",
    'skerry_known_planes{instance="cp",state="connected"}': "3x80",
    **{
        f'skerry_known_planes{{instance="cp",state="{state}"}}': "0x80"
        for state in ("suspect", "disconnected", "lost", "recovering")
    },
    **{
        f'{metric}{{instance="cp"}}': "0x80"
        for metric in (
            "skerry_frozen_planes",
            "skerry_database_away",
            "skerry_recovering",
            "skerry_pending_replicas",
            "skerry_scaling_unmet_replicas",
            "skerry_operator_refused_calls_total",
        )
    },
    'skerry_rollouts{instance="cp",state="broken"}': "0x80",
    'skerry_rollouts{instance="cp",state="complete"}': "5x80",
    'skerry_leadership_takeovers_total{instance="cp"}': "1x80",
    'skerry_reconcile_turns_total{instance="cp",outcome="done"}': "0+30x80",
    'skerry_reconcile_turns_total{instance="cp",outcome="failed"}': "1x80",
    'skerry_placement_solve_seconds_bucket{instance="cp",le="0.1"}': "0+1x80",
    'skerry_placement_solve_seconds_bucket{instance="cp",le="+Inf"}': "0+1x80",
    'skerry_audit_verified_pieces_total{outcome="sound"}': "0+1x80",
    'skerry_plane_gateway_faults{plane="a"}': "0x80",
    ANSWERS % "judged": "0+1000x80",
    ANSWERS % "good": "0+999x80",
    f'skerry_plane_scaling_counted_replicas{{{CHAT},state="ready"}}': "2x80",
    f'skerry_plane_scaling_bound_replicas{{{CHAT},bound="floor"}}': "2x80",
    'skerry_plane_scaling_held_total{plane="a",deployment="chat"}': "3x80",
    f"skerry_picker_usable_replicas{{{CHAT}}}": "2x80",
    f"skerry_picker_waiting_requests{{{CHAT}}}": "3x80",
    'skerry_picker_quarantined_requests{plane="a"}': "0x80",
    'skerry_relay_broken_streams_total{plane="a",deployment="chat",reason="lost"}': "2x80",
    ENVOY % "2": "0+1000x80",
    ENVOY % "5": "0+1x80",
    'skerry_replica_engine_restarts_total{replica="chat-1"}': "2x80",
    'skerry_replica_engine_kv_used_ratio{replica="chat-1",cache="device"}': "0.7x80",
    **{
        f'up{{job="skerry-{job}"}}': "1x80"
        for job in ("control-plane", "agent", "gateway", "picker", "relay", "replica")
    },
    'skerry_certificate_left_seconds{instance="a:1"}': "1400000x80",
    'skerry_operator_certificate_left_seconds{instance="a:1"}': "1400000x80",
    # Put out for good, long ago: their certificates have ended, and so has the alert.
    'skerry_revoked_planes{instance="a:1"}': "2000x80",
    'skerry_revoked_certificates{instance="a:1"}': "2x80",
    'skerry_data_free_ratio{instance="a:1"}': "0.5x80",
    'skerry_clock_seconds{instance="a:1"}': "0+30x80",
}
