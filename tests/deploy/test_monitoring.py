"""Dashboards and alerts ask for what the trainer and the server tell.

That they get an answer is for deploy/smoke.sh, and promtool there for the alerts.
"""

import json
import re
from pathlib import Path

import pytest
import yaml
from prometheus_client import Histogram
from prometheus_client.metrics import MetricWrapperBase

from serving import metrics
from tests.conftest import ROOT
from trainer.on_ray.gauges import OWN, TRAIN

DASHBOARDS = sorted((ROOT / "deploy" / "grafana" / "dashboards").iterdir())
ALERTS = ROOT / "deploy" / "prometheus" / "alerts.yml"


def told() -> set[str]:
    """Names of series that exist once there is something to tell."""
    names = {f"ray_trainer_{name}" for name in (*TRAIN, *OWN, "error")}
    for metric in vars(metrics).values():
        if isinstance(metric, MetricWrapperBase):
            endings = ("_bucket", "_sum", "_count") if isinstance(metric, Histogram) else ("",)
            counted = "_total" if metric._type == "counter" else ""
            names |= {metric._name + counted + ending for ending in endings}
    return names


def asked(query: str) -> set[str]:
    return set(re.findall(r"\b(?:ray_trainer|serving)_\w+", query))


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_a_dashboard_asks_for_what_is_told(path: Path) -> None:
    board = json.loads(path.read_text())
    queries = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    assert set.union(*map(asked, queries)) <= told()
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in board["panels"]]
    assert len(set(places)) == len(places)
    assert all(panel["description"] and panel["title"] for panel in board["panels"])


def test_an_alert_asks_for_what_is_told_and_says_what_to_do() -> None:
    rules = [
        rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]
    ]
    assert {rule["alert"] for rule in rules} == {
        "ApiNotReady", "ErrorRate", "QueueFull", "TrainingStalled", "LoaderBound",
    }  # fmt: skip
    for rule in rules:
        assert asked(rule["expr"])
        assert asked(rule["expr"]) <= told()
        assert rule["annotations"].keys() == {"summary", "remedy"}


def test_every_gauge_of_a_run_is_on_a_dashboard() -> None:
    shown = asked("".join(path.read_text() for path in DASHBOARDS))
    assert {f"ray_trainer_{name}" for name in (*TRAIN, *OWN, "error")} <= shown
