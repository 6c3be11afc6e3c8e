"""Every alert asks for what exists, has a runbook, fires on its fault and on nothing else."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.deploy.alert_cases import CASES, EVAL_TIME, HEALTHY, STEP_SECONDS, Case
from tests.unit.deploy.prom_queries import GRAFANA, ROOT, faults_of, needs_promtool, promtool

ALERTS = GRAFANA / "alerts.yml"
GROUPS = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"]
RULES: list[dict[str, Any]] = [rule for group in GROUPS for rule in group["rules"]]
RECORDED = {rule["record"]: frozenset({"deployment"}) for rule in RULES if "record" in rule}
BY_NAME = {rule["alert"]: rule for rule in RULES if "alert" in rule}


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as they are made of them on the web."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    kept = (re.sub(r"[^a-z0-9 \-]", "", heading.lower()) for heading in headings)
    return {heading.replace(" ", "-") for heading in kept}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.get("alert") or rule["record"])
def test_every_rule_asks_for_metrics_and_labels_that_exist(rule: dict[str, Any]) -> None:
    assert list(faults_of(rule["expr"], RECORDED)) == []


def test_a_metric_or_label_that_does_not_exist_is_found() -> None:
    wrong = 'sum by (colour) (rate(skerry_leader{shape="round"}[5m])) > skerry_nothing'
    assert len(list(faults_of(wrong, {}))) == 3


@pytest.mark.parametrize("name", BY_NAME)
def test_every_alert_says_how_bad_it_is_and_what_to_do(name: str) -> None:
    rule = BY_NAME[name]
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert rule["annotations"]["summary"]
    page, _, anchor = rule["annotations"]["runbook_url"].partition("#")
    assert anchor in anchors(ROOT / page)


def test_every_alert_has_a_case_on_which_it_fires() -> None:
    assert CASES.keys() == BY_NAME.keys()


def firing(name: str, case: Case) -> dict[str, Any]:
    """Return promtool's test that the alert fires on the case's series."""
    rule = BY_NAME[name]
    labels = {"severity": rule["labels"]["severity"], **case.labels}

    def filled(text: str) -> str:
        return re.sub(r"\{\{ \$labels\.(\w+) \}\}", lambda m: labels.get(m.group(1), ""), text)

    annotations = {key: filled(text) for key, text in rule["annotations"].items()}
    expected = [{"exp_labels": labels, "exp_annotations": annotations}]
    return world(case.series, [{"alertname": name, "exp_alerts": expected}])


def world(series: dict[str, str], tests: list[dict[str, Any]]) -> dict[str, Any]:
    """Return one of promtool's tests: what there is, and what is to come of it."""
    return {
        "interval": f"{STEP_SECONDS}s",
        "input_series": [{"series": name, "values": told} for name, told in series.items()],
        "alert_rule_test": [{"eval_time": EVAL_TIME, **test} for test in tests],
    }


@needs_promtool
@pytest.mark.integration
def test_alerts_fire_on_their_faults_and_stay_quiet_in_a_healthy_fleet(tmp_path: Path) -> None:
    quiet = world(HEALTHY, [{"alertname": name, "exp_alerts": []} for name in BY_NAME])
    tests = [quiet, *(firing(name, case) for name, case in CASES.items())]
    values = {"rule_files": [str(ALERTS)], "evaluation_interval": "30s", "tests": tests}
    file = tmp_path / "alerts_test.yml"
    file.write_text(yaml.safe_dump(values), encoding="utf-8")
    promtool("check", "rules", ALERTS)
    promtool("test", "rules", file)


@needs_promtool
@pytest.mark.integration
def test_the_example_of_a_configuration_is_one_and_loads_the_alerts() -> None:
    promtool("check", "config", GRAFANA / "prometheus.yml")
