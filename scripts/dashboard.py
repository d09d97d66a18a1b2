"""The Grafana dashboard, from the table of its panels; tests compare the metrics' names with the code's."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

PATH = Path(__file__).resolve().parent.parent / "deploy" / "dashboards" / "headrace.json"
WIDTH, HEIGHT = 8, 7
"""Of a panel, in Grafana's units; a row of panels is 24 wide."""

HERE = '{namespace="$namespace"}'


def rate(metric: str, by: str) -> str:
    """Return the rate of a counter, summed up by some labels."""
    return f"sum by ({by}) (rate({metric}{HERE}[$__rate_interval]))"


def quantile(metric: str, by: str, q: float) -> str:
    """Return a quantile of a histogram."""
    return f"histogram_quantile({q}, {rate(f'{metric}_bucket', f'le, {by}')})"


def quantiles(metric: str) -> tuple[tuple[str, str], ...]:
    """Return the queries of three quantiles of a histogram that each model has."""
    return tuple((quantile(metric, "model", q), f"{{{{model}}}} p{100 * q:.0f}") for q in (0.5, 0.95, 0.99))


ROWS: tuple[tuple[str, tuple[tuple[str, str, tuple[tuple[str, str], ...]], ...]], ...] = (
    (
        "Records",
        (
            (
                "Records checked",
                "rps",
                ((rate("headrace_ingestion_records_total", "pipeline, outcome"), "{{pipeline}} {{outcome}}"),),
            ),
            (
                "Rows cleaned",
                "rps",
                ((rate("headrace_preprocessing_rows_total", "pipeline, outcome"), "{{pipeline}} {{outcome}}"),),
            ),
            ("Messages consumed", "rps", ((rate("headrace_records_consumed_total", "topic"), "{{topic}}"),)),
            (
                "Transactions, 50 % and 99 %",
                "s",
                tuple(
                    (quantile("headrace_transaction_seconds", "loop", q), f"{{{{loop}}}} p{100 * q:.0f}")
                    for q in (0.5, 0.99)
                ),
            ),
            ("Records set aside", "rps", ((rate("headrace_records_parked_total", "loop"), "{{loop}}"),)),
            (
                "Partitions tried before handling",
                "none",
                ((f"sum by (loop) (headrace_suspected_partitions{HERE})", "{{loop}}"),),
            ),
            (
                "Segments held until somebody decides",
                "none",
                ((f"max by (pipeline) (headrace_freeze_held_segments{HERE})", "{{pipeline}}"),),
            ),
            (
                "Labels that came later, by outcome",
                "rps",
                ((rate("headrace_preprocessing_labels_total", "pipeline, outcome"), "{{pipeline}} {{outcome}}"),),
            ),
        ),
    ),
    (
        "Serving",
        (
            (
                "Calls by model and outcome",
                "rps",
                ((rate("headrace_inference_requests_total", "model, outcome"), "{{model}} {{outcome}}"),),
            ),
            (
                "Duration of calls, 50 %, 95 % and 99 %",
                "s",
                quantiles("headrace_inference_duration_seconds"),
            ),
            ("Rows answered", "rps", ((rate("headrace_inference_rows_total", "model"), "{{model}}"),)),
            (
                "Time in ONNX Runtime, 99 %",
                "s",
                ((quantile("headrace_inference_compute_duration_seconds", "model", 0.99), "{{model}}"),),
            ),
            (
                "Hot predictions by outcome",
                "rps",
                ((rate("headrace_inference_cache_lookups_total", "outcome"), "{{outcome}}"),),
            ),
            (
                "Calls of all servers by status",
                "rps",
                (
                    (
                        rate("headrace_rpc_server_call_duration_seconds_count", "rpc_method, rpc_status_code"),
                        "{{rpc_method}} {{rpc_status_code}}",
                    ),
                ),
            ),
        ),
    ),
    (
        "Models of language",
        (
            (
                "Time to the first token, 50 %, 95 % and 99 %",
                "s",
                quantiles("headrace_gen_ai_server_time_to_first_token_seconds"),
            ),
            (
                "Time of each further token, 50 %, 95 % and 99 %",
                "s",
                quantiles("headrace_gen_ai_server_time_per_output_token_seconds"),
            ),
            (
                "Tokens per second, of prompts and of answers",
                "short",
                ((rate("headrace_inference_tokens_total", "model, token_type"), "{{model}} {{token_type}}"),),
            ),
            (
                "Answers that are made, and that wait",
                "short",
                ((f"sum by (model, state) (headrace_inference_answers{HERE})", "{{model}} {{state}}"),),
            ),
            (
                "Wait for the engine, 50 %, 95 % and 99 %",
                "s",
                quantiles("headrace_inference_queue_duration_seconds"),
            ),
            (
                "Memory for keys and values in use",
                "percentunit",
                ((f"max by (model, pod) (headrace_inference_cache_used_ratio{HERE})", "{{model}} {{pod}}"),),
            ),
            ("Engines started anew", "rps", ((rate("headrace_inference_engine_faults_total", "model"), "{{model}}"),)),
            (
                "Answers of equal calls",
                "rps",
                ((rate("headrace_inference_shared_total", "model, how"), "{{model}} {{how}}"),),
            ),
            (
                "Hot predictions that pay (serve.cache: auto)",
                "short",
                (
                    (
                        f"max by (model, variant, pod) (headrace_inference_cache_pays{HERE})",
                        "{{model}} {{variant}} {{pod}}",
                    ),
                ),
            ),
        ),
    ),
    (
        "Models",
        (
            (
                "Version served",
                "none",
                ((f"max by (model, alias) (headrace_inference_loaded_version{HERE})", "{{model}}@{{alias}}"),),
            ),
            ("Releases loaded", "rps", ((rate("headrace_inference_swaps_total", "model"), "{{model}}"),)),
            ("Releases not loaded", "rps", ((rate("headrace_inference_load_failures_total", "model"), "{{model}}"),)),
            ("Versions in the catalogue", "none", ((f"max(headrace_registry_versions{HERE})", "versions"),)),
            ("The registry's entries", "rps", ((rate("headrace_registry_entries_total", "event"), "{{event}}"),)),
            (
                "Facts passed over",
                "rps",
                ((rate("headrace_registry_facts_passed_over_total", "fact, why"), "{{fact}}: {{why}}"),),
            ),
        ),
    ),
    (
        "Processes",
        (
            ("Memory", "bytes", ((f"process_resident_memory_bytes{HERE}", "{{pod}}"),)),
            ("CPU", "percentunit", ((rate("process_cpu_seconds_total", "pod"), "{{pod}}"),)),
            ("Events dropped", "rps", ((rate("headrace_events_dropped_total", "topic"), "{{topic}}"),)),
        ),
    ),
)
"""Rows of panels: title, unit, and each query with the name of its lines."""


def panels() -> Iterator[dict[str, Any]]:
    """Yield rows and panels at their places."""
    y, number = 0, 0
    for title, row in ROWS:
        number += 1
        yield {"id": number, "type": "row", "title": title, "gridPos": {"x": 0, "y": y, "w": 24, "h": 1}}
        y += 1
        for index, (name, unit, queries) in enumerate(row):
            number += 1
            place = {"x": index % 3 * WIDTH, "y": y + index // 3 * HEIGHT, "w": WIDTH, "h": HEIGHT}
            yield panel(number, name, unit, place) | {
                "targets": [
                    {"refId": chr(ord("A") + order), "expr": expression, "legendFormat": legend}
                    for order, (expression, legend) in enumerate(queries)
                ]
            }
        y += -(-len(row) // 3) * HEIGHT


def panel(number: int, title: str, unit: str, place: Mapping[str, int]) -> dict[str, Any]:
    """Return a time series without its queries."""
    return {
        "id": number,
        "type": "timeseries",
        "title": title,
        "datasource": {"type": "prometheus", "uid": "${source}"},
        "gridPos": dict(place),
        "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
    }


def dashboard() -> dict[str, Any]:
    """Return the dashboard as Grafana imports it."""
    source = {"name": "source", "label": "Prometheus", "type": "datasource", "query": "prometheus"}
    namespace = {
        "name": "namespace",
        "type": "query",
        "datasource": {"type": "prometheus", "uid": "${source}"},
        "query": "label_values(headrace_registry_versions, namespace)",
        "refresh": 2,
    }
    return {
        "uid": "headrace",
        "title": "Headrace",
        "tags": ["headrace"],
        "schemaVersion": 39,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": [source, namespace]},
        "panels": list(panels()),
    }


def pages() -> Mapping[Path, str]:
    """Return the dashboard's file."""
    return {PATH: json.dumps(dashboard(), indent=1) + "\n"}
