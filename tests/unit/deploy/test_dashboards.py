"""Every panel of the dashboards asks for metrics and labels that exist, in PromQL that parses."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.deploy.prom_queries import GRAFANA, faults_of, needs_promtool, promtool
from tests.unit.deploy.test_alerts import RECORDED
from tools.gen_dashboards import DASHBOARDS, render

PAGES = sorted((GRAFANA / "dashboards").glob("*.json"))


def panels(page: Path) -> list[dict[str, Any]]:
    """Return the panels of a page."""
    found: list[dict[str, Any]] = json.loads(page.read_text(encoding="utf-8"))["panels"]
    return found


def expressions(page: Path) -> list[str]:
    """Return what all panels of a page ask, with the variables filled in."""
    asked = [target["expr"] for panel in panels(page) for target in panel["targets"]]
    return [re.sub(r"\$\w+", ".*", expression) for expression in asked]


def test_the_files_are_those_that_the_generator_writes() -> None:
    assert {page.stem: page.read_text(encoding="utf-8") for page in PAGES} == {
        dashboard.name: render(dashboard) for dashboard in DASHBOARDS
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_panel_asks_for_metrics_and_labels_that_exist(page: Path) -> None:
    asked = expressions(page)
    assert asked
    assert [fault for one in asked for fault in faults_of(one, RECORDED)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_variable_asks_for_a_metric_and_a_label_that_exist(page: Path) -> None:
    for variable in json.loads(page.read_text(encoding="utf-8"))["templating"]["list"]:
        if variable["type"] == "query":
            metric, label = re.findall(r"[a-z_]+", variable["query"].removeprefix("label_values"))
            assert list(faults_of(f"sum by ({label}) ({metric})", RECORDED)) == []


@needs_promtool
@pytest.mark.integration
def test_every_expression_parses(tmp_path: Path) -> None:
    asked = [expression for page in PAGES for expression in expressions(page)]
    rules = [{"record": f"panel_{number}", "expr": one} for number, one in enumerate(asked)]
    file = tmp_path / "panels.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    promtool("check", "rules", file)
