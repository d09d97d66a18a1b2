"""Alerts and the dashboard name metrics and labels that the code has."""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import REGISTRY

ROOT = Path(__file__).parents[2]
SCRAPED = {"namespace", "service", "pod"}
"""Labels that Prometheus Operator adds to what it scrapes."""
NOT_OURS: dict[str, set[str]] = {
    "up": set(),
    "process_resident_memory_bytes": set(),
    "process_cpu_seconds_total": set(),
}
SELECTED = re.compile(r"\b(\w+)\{([^}]*)\}")
GROUPED = re.compile(r"by \(([^)]*)\)")


@pytest.fixture(scope="module")
def metrics() -> dict[str, set[str]]:
    """Return the labels of every series that a service can have, by its name at the endpoint."""
    for path in sorted(ROOT.glob("*/*/src/headrace_*/**/*.py")):
        if re.search(
            r"^from (prometheus_client|headrace_runtime\.telemetry\.quick_histogram) import", path.read_text(), re.M
        ):
            importlib.import_module(".".join(path.with_suffix("").parts[path.parts.index("src") + 1 :]))
    found: dict[str, set[str]] = {}
    for collector in REGISTRY._collector_to_names:
        name = str(getattr(collector, "_name", ""))
        if name.startswith("headrace_"):
            kind = getattr(collector, "_type", "histogram")
            named: Any = getattr(collector, "_labelnames", None) or getattr(collector, "_label_names", ())
            labels = set(named)
            endings = {"counter": ("_total",), "gauge": ("",)}.get(kind, ("_bucket", "_count", "_sum"))
            found |= {name + ending: labels | ({"le"} if ending == "_bucket" else set()) for ending in endings}
    return found


def unknown(expression: str, metrics: dict[str, set[str]]) -> Iterator[str]:
    """Yield the metrics and labels of an expression that nothing has."""
    known = metrics | NOT_OURS
    selected = SELECTED.findall(expression)
    if not selected:
        yield f"no metric in {expression}"
    for metric, matchers in selected:
        if metric not in known:
            yield metric
            continue
        labels = set(re.findall(r"(\w+)\s*=~?\s*\"", matchers)) - SCRAPED
        grouped = {label.strip() for group in GROUPED.findall(expression) for label in group.split(",")} - SCRAPED
        yield from (f"{metric}: {label}" for label in sorted((labels | grouped) - known[metric]))


def test_the_code_has_the_metrics_that_this_looks_for(metrics: dict[str, set[str]]) -> None:
    assert metrics["headrace_inference_duration_seconds_bucket"] == {"model", "le"}
    assert metrics["headrace_ingestion_records_total"] == {"pipeline", "outcome"}
    assert list(unknown('rate(headrace_nothing_total{namespace="a"}[5m])', metrics)) == ["headrace_nothing_total"]
    wrong = 'sum by (topic) (headrace_suspected_partitions{colour="a"})'
    assert list(unknown(wrong, metrics)) == [f"headrace_suspected_partitions: {each}" for each in ("colour", "topic")]


def test_the_dashboard_shows_what_there_is(metrics: dict[str, set[str]]) -> None:
    dashboard = json.loads((ROOT / "deploy" / "dashboards" / "headrace.json").read_text())
    panels = [panel for panel in dashboard["panels"] if panel["type"] != "row"]
    assert len(panels) > 15
    for panel in panels:
        for target in panel["targets"]:
            assert list(unknown(target["expr"], metrics)) == [], panel["title"]
            shown = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            grouped = {label.strip() for group in GROUPED.findall(target["expr"]) for label in group.split(",")}
            assert shown <= grouped | {"pod"}, panel["title"]
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(ids)) == len(ids)
    (variable,) = (each for each in dashboard["templating"]["list"] if each["type"] == "query")
    assert re.findall(r"headrace_\w+", variable["query"])[0] in metrics


def test_alerts_watch_what_there_is(metrics: dict[str, set[str]], rendering: Callable[[str], str]) -> None:
    manifests: list[dict[str, Any]] = [each for each in yaml.safe_load_all(rendering("production")) if each]
    (rule,) = (each for each in manifests if each["kind"] == "PrometheusRule")
    rules = [rule for group in rule["spec"]["groups"] for rule in group["rules"]]
    assert len({each["alert"] for each in rules}) == len(rules) > 5
    for each in rules:
        assert list(unknown(each["expr"], metrics)) == [], each["alert"]
        assert 'namespace="headrace"' in each["expr"]
        assert each["annotations"]["summary"].endswith(".")
    (down,) = (each for each in rules if each["alert"] == "HeadraceDown")
    services = [each["metadata"]["name"] for each in manifests if each["kind"] == "Service"]
    pattern = re.search(r'service=~"([^"]+)"', down["expr"])
    assert pattern is not None
    assert sum(bool(re.fullmatch(pattern[1], name)) for name in services) == 6
