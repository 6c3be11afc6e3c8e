"""deploy/grafana/dashboards/*.json from the panels below; `--check` only says what is stale.

A panel is a title, a unit and what it asks; size and place follow from its number.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent.parent / "deploy" / "grafana" / "dashboards"
COLUMNS, WIDTH, HEIGHT = 2, 12, 8  # Grafana's grid is 24 wide
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
LEADS = " and on (instance) skerry_leader == 1"
PLANE = 'plane=~"$plane"'
DEPLOYMENT = 'deployment=~"$deployment"'
USERS = 'envoy_http_conn_manager_prefix="public"'


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """A graph: `queries` are (expression, legend) each; `unit` is one of Grafana's."""

    title: str
    queries: tuple[tuple[str, str], ...]
    unit: str = "short"


@dataclass(frozen=True, slots=True, kw_only=True)
class Dashboard:
    """A page of graphs; `variables` are (name, query) and choose what it shows."""

    name: str
    title: str
    panels: tuple[Panel, ...]
    variables: tuple[tuple[str, str], ...] = ()


PLANES = ("plane", "label_values(skerry_picker_open_requests, plane)")
DEPLOYMENTS = ("deployment", "label_values(skerry_picker_usable_replicas, deployment)")


def panel(title: str, *queries: str, unit: str = "short") -> Panel:
    """Return a panel; a query is `EXPRESSION -> LEGEND`."""
    pairs = (query.rpartition(" -> ") for query in queries)
    asked = tuple((expression, legend) for expression, _, legend in pairs)
    return Panel(title=title, queries=asked, unit=unit)


def first_bytes(share: str, by: str, where: str) -> str:
    """Return the query of a quantile of times to the first byte."""
    told = f"skerry_picker_first_byte_answers_total{where}"
    return f"histogram_quantile({share}, sum by ({by}, le) (rate({told}[5m])))"


def rate(metric: str, by: str, where: str = "") -> str:
    """Return the query of a sum of rates over five minutes."""
    return f"sum by ({by}) (rate({metric}{where}[5m]))"


FLEET = Dashboard(
    name="fleet",
    title="Skerry / Fleet",
    panels=(
        panel("Planes by state", f"skerry_known_planes{LEADS} -> {{{{state}}}}"),
        panel("Planes for which moves are frozen", f"skerry_frozen_planes{LEADS} -> frozen"),
        panel(
            "Replicas without a place",
            f"skerry_pending_replicas{LEADS} -> pending",
            f"skerry_scaling_unmet_replicas{LEADS} -> asked for by load",
        ),
        panel("Usable replicas", "sum by (plane) (skerry_picker_usable_replicas) -> {{plane}}"),
        panel(
            "Users' requests",
            f"{rate('envoy_http_downstream_rq_xx', 'plane', f'{{{USERS}}}')} -> {{{{plane}}}}",
            unit="reqps",
        ),
        panel(
            "Answers 5xx",
            rate(
                "envoy_http_downstream_rq_xx",
                "plane",
                f'{{{USERS},envoy_response_code_class="5"}}',
            )
            + " -> {{plane}}",
            unit="reqps",
        ),
        panel(
            "Generated tokens",
            rate("skerry_replica_engine_tokens_total", "plane", '{kind="generated"}')
            + " -> {{plane}}",
        ),
        panel(
            "Cost of an hour",
            f"skerry_placed_usd_per_hour{LEADS} -> placed",
            f"skerry_scaling_unmet_usd_per_hour{LEADS} -> of what is short",
            unit="currencyUSD",
        ),
        panel("Rollouts", f"skerry_rollouts{LEADS} -> {{{{state}}}}"),
        panel(
            "Answers that miss the objective",
            "deployment:skerry_objective_missed:ratio_rate1h -> {{deployment}}",
            unit="percentunit",
        ),
    ),
)
PLANE_PAGE = Dashboard(
    name="plane",
    title="Skerry / Plane",
    variables=(PLANES,),
    panels=(
        panel(
            "Usable replicas",
            f"skerry_picker_usable_replicas{{{PLANE}}} -> {{{{plane}}}} {{{{deployment}}}}",
        ),
        panel(
            "Replicas as the plane's loop counts them",
            f"sum by (state) (skerry_plane_scaling_counted_replicas{{{PLANE}}}) -> {{{{state}}}}",
        ),
        panel("Requests under way", f"skerry_picker_open_requests{{{PLANE}}} -> {{{{plane}}}}"),
        panel(
            "Answers by class",
            rate(
                "envoy_http_downstream_rq_xx",
                "plane, envoy_response_code_class",
                f"{{{USERS},{PLANE}}}",
            )
            + " -> {{plane}} {{envoy_response_code_class}}xx",
            unit="reqps",
        ),
        panel(
            "Engines' requests",
            f"sum by (plane, state) (skerry_replica_engine_requests{{{PLANE}}})"
            " -> {{plane}} {{state}}",
        ),
        panel(
            "Tokens",
            f"{rate('skerry_replica_engine_tokens_total', 'plane, kind', f'{{{PLANE}}}')}"
            " -> {{plane}} {{kind}}",
        ),
        panel(
            "Starts of engines that ended by themselves",
            f"increase(skerry_replica_engine_restarts_total{{{PLANE}}}[15m]) -> {{{{replica}}}}",
        ),
        panel(
            "Key-value cache",
            f"skerry_replica_engine_kv_used_ratio{{{PLANE}}} -> {{{{replica}}}}",
            unit="percentunit",
        ),
        panel(
            "What is wrong with the gateway",
            f"skerry_plane_gateway_faults{{{PLANE}}} -> {{{{plane}}}}",
        ),
        panel(
            "Free disk", f"skerry_data_free_ratio{{{PLANE}}} -> {{{{plane}}}}", unit="percentunit"
        ),
        panel(
            "Until the certificate ends",
            f"skerry_certificate_left_seconds{{{PLANE}}} -> {{{{plane}}}}",
            unit="s",
        ),
        panel(
            "Clock against Prometheus'",
            f"skerry_clock_seconds{{{PLANE}}} - timestamp(skerry_clock_seconds{{{PLANE}}})"
            " -> {{plane}}",
            unit="s",
        ),
    ),
)
DEPLOYMENT_PAGE = Dashboard(
    name="deployment",
    title="Skerry / Deployment",
    variables=(DEPLOYMENTS,),
    panels=(
        panel(
            "Time to the first byte",
            f"{first_bytes('0.5', 'deployment', f'{{{DEPLOYMENT}}}')} -> {{{{deployment}}}} p50",
            f"{first_bytes('0.99', 'deployment', f'{{{DEPLOYMENT}}}')} -> {{{{deployment}}}} p99",
            unit="s",
        ),
        panel(
            "Answers that miss the objective",
            *(
                f"deployment:skerry_objective_missed:ratio_rate{w}{{{DEPLOYMENT}}}"
                f" -> {{{{deployment}}}} {w}"
                for w in ("5m", "1h", "6h")
            ),
            unit="percentunit",
        ),
        panel(
            "Replicas wanted and bounds",
            f"sum by (deployment) (skerry_plane_scaling_target_replicas{{{DEPLOYMENT}}})"
            " -> {{deployment}} wanted",
            f"sum by (deployment, bound) (skerry_plane_scaling_bound_replicas{{{DEPLOYMENT}}})"
            " -> {{deployment}} {{bound}}",
        ),
        panel(
            "Replicas by state",
            "sum by (deployment, state)"
            f" (skerry_plane_scaling_counted_replicas{{{DEPLOYMENT}}})"
            " -> {{deployment}} {{state}}",
        ),
        panel(
            "What the load needs",
            f"sum by (deployment, part) (skerry_plane_scaling_need_replicas{{{DEPLOYMENT}}})"
            " -> {{deployment}} {{part}}",
        ),
        panel(
            "Waiting requests",
            f"skerry_picker_waiting_requests{{{DEPLOYMENT}}} -> {{{{plane}}}} {{{{deployment}}}}",
        ),
        panel(
            "Tokens",
            rate("skerry_replica_engine_tokens_total", "deployment, kind", f"{{{DEPLOYMENT}}}")
            + " -> {{deployment}} {{kind}}",
        ),
        panel(
            "Prompt tokens found in a cache",
            f"{rate('skerry_picker_cached_tokens_total', 'deployment', f'{{{DEPLOYMENT}}}')}"
            f" / {rate('skerry_picker_prompt_tokens_total', 'deployment', f'{{{DEPLOYMENT}}}')}"
            " -> {{deployment}}",
            unit="percentunit",
        ),
        panel(
            "Key-value cache by replica",
            f"skerry_replica_engine_kv_used_ratio{{{DEPLOYMENT}}} -> {{{{replica}}}}",
            unit="percentunit",
        ),
        panel(
            "Streams that broke",
            rate("skerry_relay_broken_streams_total", "deployment, reason", f"{{{DEPLOYMENT}}}")
            + " -> {{deployment}} {{reason}}",
        ),
    ),
)
GATEWAY_PAGE = Dashboard(
    name="gateway",
    title="Skerry / Gateway and picker",
    variables=(PLANES,),
    panels=(
        panel(
            "Users' requests under way",
            f"envoy_http_downstream_rq_active{{{USERS},{PLANE}}} -> {{{{plane}}}}",
        ),
        panel(
            "Answers 5xx by cluster",
            rate(
                "envoy_cluster_upstream_rq_xx",
                "envoy_cluster_name",
                f'{{{PLANE},envoy_response_code_class="5"}}',
            )
            + " -> {{envoy_cluster_name}}",
            unit="reqps",
        ),
        panel(
            "Healthy hosts by cluster",
            f"envoy_cluster_membership_healthy{{{PLANE}}} -> {{{{envoy_cluster_name}}}}",
        ),
        panel(
            "What the picker did",
            f"{rate('skerry_picker_requests_total', 'outcome', f'{{{PLANE}}}')} -> {{{{outcome}}}}",
            unit="reqps",
        ),
        panel(
            "Prompt tokens yet to read",
            f"skerry_picker_pending_tokens{{{PLANE}}} -> {{{{plane}}}} {{{{deployment}}}}",
        ),
        panel(
            "Waiting room",
            f"{rate('skerry_picker_room_requests_total', 'outcome', f'{{{PLANE}}}')}"
            " -> {{outcome}}",
            unit="reqps",
        ),
        panel(
            "Access log",
            f"{rate('skerry_picker_log_entries_total', 'outcome', f'{{{PLANE}}}')}"
            " -> {{outcome}}",
        ),
        panel(
            "Quarantined requests",
            f"skerry_picker_quarantined_requests{{{PLANE}}} -> {{{{plane}}}}",
        ),
        panel(
            "Streams through the relay",
            f"skerry_relay_running_streams{{{PLANE}}} -> {{{{plane}}}}",
        ),
        panel(
            "Streams that went on elsewhere",
            f"{rate('skerry_relay_continuations_total', 'deployment', f'{{{PLANE}}}')}"
            " -> {{deployment}}",
        ),
    ),
)
CONTROL_PAGE = Dashboard(
    name="control-plane",
    title="Skerry / Control plane",
    panels=(
        panel("Who leads", "skerry_leader -> {{instance}}"),
        panel("Epoch", "skerry_leadership_epoch -> {{instance}}"),
        panel("Database away", "skerry_database_away -> {{instance}}"),
        panel(
            "Turns of the reconcile loop",
            f"{rate('skerry_reconcile_turns_total', 'instance, outcome')}"
            " -> {{instance}} {{outcome}}",
        ),
        panel("Actions", f"{rate('skerry_reconcile_actions_total', 'kind')} -> {{{{kind}}}}"),
        panel(
            "Time of a placement",
            "histogram_quantile(0.99,"
            " sum by (instance, le) (rate(skerry_placement_solve_seconds_bucket[15m])))"
            " -> {{instance}} p99",
            unit="s",
        ),
        panel(
            "Decisions of autoscaling",
            f"{rate('skerry_scaling_decisions_total', 'because')} -> {{{{because}}}}",
        ),
        panel(
            "Refused calls",
            f"{rate('skerry_operator_refused_calls_total', 'code')} -> {{{{code}}}}",
            unit="reqps",
        ),
        panel("Recovering", "skerry_recovering -> {{instance}}"),
        panel(
            "Until the certificate ends",
            'skerry_certificate_left_seconds{job="skerry-control-plane"} -> {{instance}}',
            unit="s",
        ),
    ),
)
DASHBOARDS = (FLEET, PLANE_PAGE, DEPLOYMENT_PAGE, GATEWAY_PAGE, CONTROL_PAGE)


def render(dashboard: Dashboard) -> str:
    """Return the file's content."""
    variables = [
        {"name": "datasource", "type": "datasource", "query": "prometheus"},
        *(_variable(name, query) for name, query in dashboard.variables),
    ]
    values = {
        "uid": f"skerry-{dashboard.name}",
        "title": dashboard.title,
        "tags": ["skerry"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "15s",
        "time": {"from": "now-3h", "to": "now"},
        "templating": {"list": variables},
        "panels": [_panel(number, one) for number, one in enumerate(dashboard.panels)],
    }
    return json.dumps(values, indent=1) + "\n"


def _variable(name: str, query: str) -> dict[str, Any]:
    return {
        "name": name,
        "type": "query",
        "datasource": SOURCE,
        "query": query,
        "refresh": 2,  # with the time range: what comes later is found
        "multi": True,
        "includeAll": True,
        "current": {"text": ["All"], "value": ["$__all"]},
    }


def _panel(number: int, one: Panel) -> dict[str, Any]:
    row, column = divmod(number, COLUMNS)
    return {
        "id": number + 1,
        "type": "timeseries",
        "title": one.title,
        "datasource": SOURCE,
        "gridPos": {"x": column * WIDTH, "y": row * HEIGHT, "w": WIDTH, "h": HEIGHT},
        "fieldConfig": {"defaults": {"unit": one.unit}, "overrides": []},
        "targets": [
            {"refId": chr(ord("A") + place), "expr": expression, "legendFormat": legend}
            for place, (expression, legend) in enumerate(one.queries)
        ],
    }


def main(argv: Sequence[str]) -> int:
    """Write the files; with --check say which are not as they would be written."""
    stale = []
    for dashboard in DASHBOARDS:
        path, text = FOLDER / f"{dashboard.name}.json", render(dashboard)
        if "--check" in argv:
            if not path.is_file() or path.read_text(encoding="utf-8") != text:
                stale.append(path.name)
        else:
            path.write_text(text, encoding="utf-8")
    if stale:
        print(f"{', '.join(stale)}: not as tools/gen_dashboards.py writes them", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
