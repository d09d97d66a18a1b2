"""The services of Headrace, declared once: the chart, the permissions, the launcher and the tests read this table.

In names `{pipeline}` and `{instance}` stand for a pipeline's name and for `HEADRACE_INSTANCE`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from headrace_runtime.record_topics import SCORING_GROUP, raw_topic
from headrace_runtime.topics import COMPRESSION_REQUESTED, EVALUATION_REQUESTED, TRAINING_REQUESTED

SOURCE = "{source}"
"""Stands for each pipeline's `stream.topic` where a service finds its work."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceShape:
    """What the code fixes about a service, which is nobody's choice."""

    name: str
    metrics_offset: int
    """Its Prometheus port on one machine, counted from the first one."""
    grpc_port: int | None = None
    """Port of its gRPC server; None where it has none."""
    groups: tuple[str, ...] = ()
    """Consumer groups. Of releases inference has none: every replica reads all."""
    transactional_ids: tuple[str, ...] = ()
    on_producers_topics: tuple[str, ...] = ()
    """What it does with the topics of producers, as Kafka's operations."""
    workload: Literal["StatefulSet", "Deployment"] = "StatefulSet"
    """StatefulSet where group member and transactional id are named after the instance: the same pod must come back
    under the same name, to fence what it left open and to keep its partitions. A pod with another name would leave them
    alone until its session times out, and two pods with one name would fence each other in turns, as a rolling
    Deployment of the registry would. Deployment where the instance owns nothing, or gives it back when it ends."""
    is_single: bool = False
    """Whether a second instance would take the first one's place."""
    uses_work_dir: bool = False
    """Whether `HEADRACE_WORK_DIR` is written to."""
    uses_store: bool = False
    """Whether objects are read or written."""
    uses_cache: bool = False
    """Whether hot predictions are kept in Redis or Valkey."""
    uses_torch: bool = False
    """Whether PyTorch is installed."""
    work_waits_in: tuple[str, ...] = ()
    """The topics whose lag in the first group is the work that waits; none where nobody scales on it."""

    @property
    def module(self) -> str:
        """Its import package."""
        return f"headrace_{self.name.replace('-', '_')}"

    @property
    def address_field(self) -> str | None:
        """The setting of clients and of the embedded platform that holds the address of its gRPC server."""
        return f"{self.name.removeprefix('model-')}_address" if self.grpc_port else None


SERVICES: Mapping[str, ServiceShape] = {
    shape.name: shape
    for shape in (
        ServiceShape(
            name="ingestion",
            metrics_offset=0,
            grpc_port=7010,
            groups=("ingestion.{pipeline}",),
            transactional_ids=("ingestion.{pipeline}.{instance}", "ingestion.push"),
            on_producers_topics=("Read",),
            # What records refer to lies in it.
            uses_store=True,
            work_waits_in=(SOURCE,),
        ),
        ServiceShape(
            name="preprocessing",
            metrics_offset=1,
            groups=("preprocessing.{pipeline}", "freeze.{pipeline}"),
            transactional_ids=("preprocessing.{pipeline}.{instance}", "freeze.{pipeline}"),
            # How long a topic keeps records is told of a key that is forgotten.
            on_producers_topics=("Describe", "DescribeConfigs"),
            uses_store=True,
            work_waits_in=(raw_topic("{pipeline}"),),
        ),
        ServiceShape(
            name="model-registry",
            metrics_offset=2,
            grpc_port=7020,
            groups=("registry",),
            transactional_ids=("registry", "registry.beginnings"),
            # It creates them only for `headrace apply --create-topic`, and commits where scoring begins in them.
            on_producers_topics=("Read", "Describe", "Create"),
            is_single=True,
            uses_store=True,
        ),
        ServiceShape(
            name="trainer",
            metrics_offset=3,
            groups=("trainer",),
            transactional_ids=("trainer.{instance}",),
            uses_work_dir=True,
            uses_store=True,
            uses_torch=True,
            work_waits_in=(TRAINING_REQUESTED.name,),
        ),
        ServiceShape(
            name="compressor",
            metrics_offset=4,
            groups=("compressor", "compressor.{class}"),
            transactional_ids=("compressor.{instance}",),
            uses_work_dir=True,
            uses_store=True,
            uses_torch=True,
            work_waits_in=(COMPRESSION_REQUESTED.name, EVALUATION_REQUESTED.name),
        ),
        ServiceShape(
            name="inference",
            metrics_offset=5,
            grpc_port=8001,
            groups=(SCORING_GROUP,),
            transactional_ids=(f"{SCORING_GROUP}.{{instance}}",),
            on_producers_topics=("Read",),
            workload="Deployment",
            uses_work_dir=True,
            uses_store=True,
            uses_cache=True,
        ),
    )
}
"""Every service by its name, in the order in which records pass them."""

PIPELINE_GROUPS = tuple(group for shape in SERVICES.values() for group in shape.groups if "{pipeline}" in group)
"""The consumer groups that pipelines have."""
