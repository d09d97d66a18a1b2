"""What the Helm chart takes from the code: services, topics, what settings values may hold, and its README's table."""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from headrace_runtime.services import SERVICES, ServiceShape
from headrace_runtime.settings import ServiceSettings
from headrace_runtime.topic_plan import TopicPlan

ROOT = Path(__file__).resolve().parent.parent
CHART = ROOT / "deploy" / "helm" / "headrace"
TABLE = re.compile(r"(<!-- values:begin -->\n).*?(<!-- values:end -->)", re.DOTALL)
KEY = re.compile(r"(?P<indent> *)(?P<key>[A-Za-z][\w-]*):")

FACTS = """\
# What the code fixes about each service, which is nobody's choice. Generated from `headrace_runtime.services` by
# `make docs`.
#
# workload    the kind of its pods' owner
# grpcPort    the port of the gRPC server; left out where there is none
# workDir     whether HEADRACE_WORK_DIR is written to
# store       whether objects are read or written
# redis       whether hot predictions are kept
# single      whether a second instance would take the first one's place
# lag         where KEDA finds the work that waits: a group and its topics, or `{pipeline}` in both for one each
"""

GOVERNED = frozenset(
    {
        "health_address",
        "hold_dir",
        "instance",
        "kafka_bootstrap_servers",
        "kafka_sasl_mechanism",
        "kafka_sasl_password",
        "kafka_sasl_username",
        "kafka_security_protocol",
        "kafka_ssl_cafile",
        "kafka_ssl_certfile",
        "kafka_ssl_keyfile",
        "grpc_tls_cert_file",
        "grpc_tls_client_ca_file",
        "grpc_tls_key_file",
        "listen_address",
        "metrics_address",
        "otlp_endpoint",
        "personal_keys_dir",
        "pods_account",
        "pods_from",
        "pods_owner",
        "pods_patience_s",
        "pods_processes",
        "pods_template",
        "redis_url",
        "rest_address",
        "schema_registry_hosts",
        "schema_registry_keys_dir",
        "store_url",
        "telemetry_dir",
        "upstream_adapters_dir",
        "upstream_hosts",
        "upstream_keys_dir",
        "work_dir",
    }
)
"""Settings that templates set from values of their own, or that mean nothing in a container: not for `settings`."""


def pages() -> Mapping[Path, str]:
    """Return the chart's generated files."""
    return {
        CHART / "files" / "services.yaml": services(),
        CHART / "files" / "topics.json": topics(),
        CHART / "values.schema.json": schema(),
        CHART / "README.md": readme(),
    }


def services() -> str:
    """Return what the code fixes about each service, as the templates read it."""
    facts = {name: service_facts(shape) for name, shape in sorted(SERVICES.items())}
    return FACTS + yaml.safe_dump(facts, sort_keys=False)


def service_facts(shape: ServiceShape) -> dict[str, Any]:
    """Return the facts about a service that hold for it: what it has not is left out."""
    facts = {
        "workload": shape.workload,
        "grpcPort": shape.grpc_port,
        "workDir": shape.uses_work_dir,
        "store": shape.uses_store,
        "redis": shape.uses_cache,
        "single": shape.is_single,
        "lag": shape.work_waits_in and {"group": shape.groups[0], "topics": list(shape.work_waits_in)},
    }
    return {name: fact for name, fact in facts.items() if fact}


def topics() -> str:
    """Return the control topics as the chart's job gets them; replicas are added by the chart."""
    without_replicas = {"topics": {"__all__": {"replication_factor"}}}
    plan = TopicPlan.production().model_dump(by_alias=True, exclude=without_replicas)
    return json.dumps(plan, indent=2) + "\n"


def schema() -> str:
    """Return the values' schema with what services share, and the settings of each, made anew.

    The rest is written by hand. What is shared is referred to key by key: a schema that takes in another one whole
    cannot name the keys that it does not know.
    """
    path = CHART / "values.schema.json"
    document = json.loads(path.read_text())
    parts = document["properties"]["services"]["properties"]
    classes = {name: settings_class(name) for name in parts} | {"defaults": ServiceSettings}
    shared = {key: {"$ref": f"#/$defs/service/properties/{key}"} for key in document["$defs"]["service"]["properties"]}
    for name, part in (parts | {"defaults": document["properties"]["defaults"]}).items():
        part["properties"] |= shared
        document["$defs"][f"settings-{name}"] = settings_schema(classes[name])
    return json.dumps(document, indent=2) + "\n"


def settings_class(service: str) -> type[ServiceSettings]:
    """Return the settings class of a service."""
    module = importlib.import_module(f"headrace_{service.replace('-', '_')}.settings")
    found: type[ServiceSettings] = module.Settings
    return found


def settings_schema(settings: type[ServiceSettings]) -> dict[str, Any]:
    """Return the closed schema of the settings that a values file may hold."""
    fields = settings.model_json_schema()["properties"]
    kept = {
        name: {key: value for key, value in field.items() if key not in ("title", "default")}
        for name, field in fields.items()
        if name not in GOVERNED
    }
    return {"type": "object", "additionalProperties": False, "properties": kept}


def readme() -> str:
    """Return the chart's README with the table of its values made anew."""
    rows = ["| value | default | meaning |", "|---|---|---|"]
    values = (CHART / "values.yaml").read_text()
    for path, meaning in explained(values):
        default = json.dumps(value_at(yaml.safe_load(values), path), ensure_ascii=False).replace("|", "\\|")
        rows.append(f"| `{'.'.join(path)}` | `{default}` | {meaning} |")
    text, count = TABLE.subn(
        lambda found: found[1] + "\n".join(rows) + "\n" + found[2], (CHART / "README.md").read_text()
    )
    if count != 1:
        raise SystemExit(
            f"the chart's README.md: expected one <!-- values:begin --> and <!-- values:end -->, got {count}"
        )
    return text


def explained(values: str) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield the path of every key with a `# --` comment before it, and the comment's text on one line."""
    parents: list[tuple[int, str]] = []
    meaning: list[str] = []
    for line in values.splitlines():
        text = line.strip()
        if text.startswith("# -- "):
            meaning = [text.removeprefix("# -- ")]
        elif text.startswith("# ") and meaning:
            meaning.append(text.removeprefix("# "))
        elif match := KEY.match(line):
            depth = len(match["indent"])
            parents = [(indent, key) for indent, key in parents if indent < depth] + [(depth, match["key"])]
            if meaning:
                yield tuple(key for _, key in parents), " ".join(meaning)
            meaning = []


def value_at(values: Any, path: tuple[str, ...]) -> Any:
    """Return what stands at a path."""
    for key in path:
        values = values[key]
    return values
