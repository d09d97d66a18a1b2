"""One table names the services and what is fixed about each; what cannot read it says the same."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import yaml
from headrace_client import addresses
from headrace_runtime.record_topics import RECORD_TOPICS
from headrace_runtime.services import SERVICES
from headrace_runtime.topics import CONTROL_TOPICS

ROOT = Path(__file__).parents[2]


def test_the_table_names_each_folder() -> None:
    assert sorted(SERVICES) == sorted(path.parent.name for path in ROOT.glob("services/*/pyproject.toml"))
    assert all((ROOT / "services" / name / "src" / shape.module).is_dir() for name, shape in SERVICES.items())
    assert all(name == shape.name for name, shape in SERVICES.items())


def test_services_on_one_machine_share_no_port() -> None:
    assert [shape.metrics_offset for shape in SERVICES.values()] == [*range(len(SERVICES))]
    ports = [shape.grpc_port for shape in SERVICES.values() if shape.grpc_port]
    assert len({*ports}) == len(ports)


def test_every_service_calls_itself_as_the_table_does_and_listens_there() -> None:
    for name, shape in SERVICES.items():
        assert name == importlib.import_module(f"{shape.module}.wiring").NAME
        fields = importlib.import_module(f"{shape.module}.settings").Settings.model_fields
        listens = fields["listen_address"].default if "listen_address" in fields else None
        assert listens == (f"127.0.0.1:{shape.grpc_port}" if shape.grpc_port else None)


def test_a_client_calls_them_where_they_listen() -> None:
    called = {name.lower(): value for name, value in vars(addresses).items() if name.startswith("DEFAULT_")}
    listens = {shape.address_field: shape.grpc_port for shape in SERVICES.values() if shape.address_field}
    assert called == {
        f"default_{field.removesuffix('_address')}": f"127.0.0.1:{port}" for field, port in listens.items()
    }


def test_topics_the_chart_and_the_dockerfile_name_these_services() -> None:
    named = {name for topic in CONTROL_TOPICS for name in (*topic.producers, *topic.consumers)}
    named |= {name for record_topic in RECORD_TOPICS for name in (*record_topic.producers, *record_topic.consumers)}
    assert named - SERVICES.keys() == {"provision"}
    values = yaml.safe_load((ROOT / "deploy" / "helm" / "headrace" / "values.yaml").read_text())
    assert [*values["services"]] == [*SERVICES]
    text = (ROOT / "deploy" / "Dockerfile").read_text()
    (listed,) = re.findall(r"^# SERVICE +(.*)$", text, re.MULTILINE)
    assert re.split(r", | or ", listed) == [*SERVICES]
