"""What the registry answers, as plain JSON values: the shapes that `--json` prints and the README documents.

Keys are snake_case, enums lower-case words, times ISO 8601 in UTC; what is unset is null.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from datetime import UTC
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from headrace.events.v1.artifact_pb2 import Artifact
from headrace.events.v1.hold_pb2 import HOLD_STATE_DROPPED
from headrace.events.v1.model_pb2 import CachePolicy, Evaluation, GateResult, ModelTrained, Trial, Variant
from headrace.events.v1.pipeline_pb2 import PipelineApplied, PipelineTroubled
from headrace.events.v1.run_pb2 import RunKind, RunProgressed
from headrace.registry.v1 import registry_service_pb2 as messages

from headrace_client.errors import AnswerInvalid
from headrace_client.remarks import remarks_view

View = dict[str, Any]


def pipeline_view(applied: PipelineApplied) -> View:
    """Return a pipeline in force: name, model, topic, partitions, spec digest and the whole spec."""
    try:
        spec = json.loads(applied.spec.json)
        topic = spec["stream"]["topic"]
        model = (spec.get("train") or {}).get("model") or applied.pipeline
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise AnswerInvalid(f"the registry's spec of pipeline '{applied.pipeline}' cannot be read") from error
    return {
        "pipeline": applied.pipeline,
        "model": model,
        "topic": topic,
        "partitions": applied.partitions,
        "spec_digest": applied.spec.digest,
        "spec": spec,
    }


def dataset_view(dataset: messages.Dataset) -> View:
    """Return a frozen dataset: id, rows by split, what is not in it by rule, what is masked, the producers' ranges."""
    frozen = dataset.frozen
    return {
        "dataset_id": frozen.dataset_id,
        "pipeline": frozen.pipeline,
        "spec_digest": frozen.spec_digest,
        "rows": {"train": frozen.rows.train, "validation": frozen.rows.validation, "test": frozen.rows.test},
        "rejected": dict(sorted(frozen.rejected.items())),
        "masked": dict(sorted(frozen.masked.items())),
        "unread": dict(sorted(frozen.unread.items())),
        "writer_schemas": list(frozen.writer_schemas),
        "repeated_keys": frozen.repeated_keys,
        "late_rows": frozen.late_rows,
        "awaiting_labels": frozen.awaiting_labels,
        **remarks_view(frozen),
        "sources": [{"partition": part.partition, "start": part.start, "end": part.end} for part in frozen.sources],
        "manifest": artifact_view(frozen.manifest),
        "request_id": frozen.request_id or None,
        "freeze_time": _time(dataset, "freeze_time"),
    }


def run_view(run: messages.Run) -> View:
    """Return a run: kind, state, what it works on, its latest progress, and why it failed."""
    return {
        "run_id": run.run_id,
        "pipeline": run.pipeline,
        "kind": kind_word(run.kind),
        "state": run_state_word(run.state),
        "subject": run.subject,
        "reason": run.reason or None,
        "progress": progress_view(run.progress) if run.HasField("progress") else None,
        "request_time": _time(run, "request_time"),
        "end_time": _time(run, "end_time"),
        "origin": run.origin or None,
    }


def progress_view(progress: RunProgressed) -> View:
    """Return how far a run is: attempt, step of steps, measurements, seconds to the end."""
    return {
        "attempt": progress.attempt,
        "step": progress.step,
        "steps": progress.steps,
        "metrics": dict(sorted(progress.metrics.items())),
        "eta_s": progress.eta_s,
    }


def version_view(version: messages.Version) -> View:
    """Return a version: place in its model's history, state, metrics, variants, gates, comparison with the champion."""
    trained = version.trained
    from headrace_data.tasks import task_of  # with numpy and pydantic, which most commands do without

    task = task_of(trained.task, trained.metrics)
    return {
        "model": trained.model,
        "ordinal": version.ordinal,
        "version_id": trained.version_id,
        "pipeline": trained.pipeline,
        "dataset_id": trained.dataset_id,
        "run_id": trained.run_id,
        "state": version_state_word(version.state),
        "reason": version.reason or None,
        "epochs": trained.epochs,
        "attempt": trained.attempt,
        "task": task.kind,
        "measure": task.measure(trained.measure).name,
        "cpu_s": trained.cpu_s or None,
        "gpu_s": trained.gpu_s or None,
        "peak_memory_bytes": trained.peak_memory_bytes or None,
        "cost": trained.cost if trained.HasField("cost") else None,
        "currency": trained.currency or None,
        "privacy": _privacy(trained),
        "metrics": dict(sorted(trained.metrics.items())),
        "trials": [trial_view(trial) for trial in trained.trials],
        "manifest": artifact_view(trained.manifest),
        "graph": artifact_view(trained.graph),
        "weights": artifact_view(trained.weights),
        "variants": [variant_view(variant) for variant in version.variants],
        "gates": gate_views(version.gates),
        "evaluations": [evaluation_view(evaluation) for evaluation in version.evaluations],
        "cpu_class": version.cpu_class or None,
        "frontier": list(version.frontier),
        "elsewhere": [_measured_there(each) for each in version.elsewhere],
        "forgotten_keys": version.forgotten_keys,
    }


def _measured_there(measured: messages.ClassMeasurement) -> View:
    return {
        "cpu_class": measured.cpu_class,
        "variants": [variant_view(variant) for variant in measured.variants],
        "gates": gate_views(measured.gates),
        "frontier": list(measured.frontier),
    }


def _privacy(trained: ModelTrained) -> View | None:
    if not trained.HasField("privacy"):
        return None
    return {"epsilon": trained.privacy.epsilon, "delta": trained.privacy.delta}


def trial_view(trial: Trial) -> View:
    """Return one try of a search: its settings by path below train, how it ended, and its least validation loss."""
    return {
        "number": trial.number,
        "values": {path: json.loads(value) for path, value in sorted(trial.values.items())},
        "state": trial.state,
        "epochs": trial.epochs,
        "validation_loss": trial.score if trial.epochs else None,
        "reason": trial.reason or None,
        "chosen": trial.chosen,
    }


def measured_views(version: View, released: View | None) -> list[View]:
    """Return the variants of a version as `get variants` lists them, given the release in force of its model.

    Each with the class of processors that it was measured on, whether it passed its gates and is on the frontier of
    those that did, and its place in the order in which that class serves it, from 1; null where it is not served.
    """
    in_force = released if released and released["version_id"] == version["version_id"] else None
    common = {name: version[name] for name in ("model", "ordinal", "version_id", "measure")}
    return [view for each in (version, *version["elsewhere"]) for view in _views_on(each, common, in_force)]


def _views_on(version: View, common: View, in_force: View | None) -> list[View]:
    """Return the variants of one class of processors."""
    failed = {gate["variant"] for gate in version["gates"] if not gate["passed"]}
    order = _order(in_force, version["cpu_class"]) if in_force else []
    return [
        {
            **common,
            "cpu_class": version["cpu_class"],
            "variant": each["name"],
            "passed": each["name"] not in failed if version["gates"] else None,
            "on_frontier": each["name"] in version["frontier"],
            "served": order.index(each["name"]) + 1 if each["name"] in order else None,
            "graph": each["graph"],
            "metrics": each["metrics"],
        }
        for each in version["variants"]
    ]


def _order(released: View, cpu_class: str | None) -> list[str]:
    """Return what a class of processors serves, first to last."""
    classes, first = released["classes"], released["variant"]
    # Releases of before there were classes have none, and each serves the same.
    names: list[str] = classes.get(cpu_class) or [released["unmeasured"] if classes else first]
    return names if released["degrade"] else names[:1]


def variant_view(variant: Variant) -> View:
    """Return a variant: its graph, what was measured of it, and how it came about where that was told."""
    return {
        "name": variant.name,
        "graph": artifact_view(variant.graph),
        "metrics": dict(sorted(variant.metrics.items())),
        **({"told": dict(sorted(variant.told.items()))} if variant.told else {}),
    }


def gate_views(gates: Iterable[GateResult]) -> list[View]:
    """Return each gate of each variant: the limit, what was measured, and whether it passed."""
    return [
        {
            "variant": gate.variant,
            "gate": gate.gate,
            "passed": gate.passed,
            "limit": gate.limit,
            "measured": gate.measured,
            **({"reason": gate.reason} if gate.reason else {}),
        }
        for gate in gates
    ]


def evaluation_view(evaluation: Evaluation) -> View:
    """Return what one version scored on the test split of one dataset."""
    return {
        "version_id": evaluation.version_id,
        "dataset_id": evaluation.dataset_id,
        "rows": evaluation.rows,
        "metrics": dict(sorted(evaluation.metrics.items())),
    }


def release_view(release: messages.Release) -> View:
    """Return a release: which variant of which version an alias points at since when."""
    released = release.released
    return {
        "model": released.model,
        "alias": released.alias,
        "epoch": released.epoch,
        "version_id": released.version_id,
        "ordinal": released.ordinal,
        "variant": released.variant,
        "graph": artifact_view(released.graph),
        "pipeline": released.pipeline,
        "dataset_id": released.dataset_id,
        "run_id": released.run_id,
        "gates": gate_views(released.gates),
        "cache": _word(CachePolicy.Name(released.cache), "CACHE_POLICY_"),
        "cache_ttl_s": released.cache_ttl_s or None,
        "classes": {each.cpu_class: [one.variant for one in each.variants] for each in released.classes},
        "unmeasured": released.unmeasured.variant or None,
        "degrade": released.degrade,
        "upstream": {"urls": list(released.upstream.urls), "model": released.upstream.model}
        if released.HasField("upstream")
        else None,
        "reason": released.reason or None,
        "release_time": _time(release, "release_time"),
    }


def lineage_view(lineage: messages.GetLineageResponse) -> View:
    """Return the chain behind a thing: prediction, version, runs, dataset, topic, version begun from, null if none."""
    return {
        "prediction": prediction_view(lineage) if lineage.HasField("prediction") else None,
        "version": version_view(lineage.version) if lineage.HasField("version") else None,
        "runs": [run_view(run) for run in lineage.runs],
        "dataset": dataset_view(lineage.dataset) if lineage.HasField("dataset") else None,
        "topic": lineage.topic or None,
        "origin": version_view(lineage.origin) if lineage.HasField("origin") else None,
    }


def prediction_view(lineage: messages.GetLineageResponse) -> View:
    """Return a prediction that was served: by which variant of which version, when and how fast."""
    served = lineage.prediction
    return {
        "prediction_id": served.prediction_id,
        "model": served.model,
        "version_id": served.version_id,
        "variant": served.variant,
        "rows": served.rows,
        "cached": served.cached,
        "duration_us": served.duration_us,
        "serve_time": _time(lineage, "serve_time"),
    }


def fate_view(fate: messages.RecordFate) -> View:
    """Return what became of a record in one pipeline."""
    rejection = fate.rejection
    told = {
        "stage": rejection.stage,
        "rule": rejection.rule,
        "field": rejection.field or None,
        "reason": rejection.reason,
    }
    return {
        "pipeline": fate.pipeline,
        "fate": _fate_word(fate),
        "rejection": told if fate.HasField("rejection") else None,
        "dataset_id": fate.dataset_id or None,
        "split": fate.split or None,
        "event_time": _time(fate, "event_time"),
        "left_out": fate.left_out or None,
        "held_segment": fate.held_segment or None,
        "versions": [version_view(version) for version in fate.versions],
        "deleted": fate.deleted,
    }


def _fate_word(fate: messages.RecordFate) -> str:
    if fate.dataset_id:
        return "left_out" if fate.left_out else "in_dataset"
    if fate.HasField("rejection"):
        return "rejected"
    if fate.deleted_unread:
        return "deleted_unread"
    if fate.held_segment:
        return "dropped" if fate.hold_state == HOLD_STATE_DROPPED else "held"
    return "waiting" if fate.waiting else "left_out"


def lag_view(lag: messages.Lag) -> View:
    """Return how far a consumer group is behind on a topic."""
    return {"group": lag.group, "topic": lag.topic, "messages": lag.messages, "suspected": lag.suspected}


def trouble_view(trouble: PipelineTroubled) -> View:
    """Return what is wrong with a pipeline."""
    names = ("pipeline", "part", "instance", "subject", "reason")
    return {name: getattr(trouble, name) for name in names} | {"occur_time": _time(trouble, "occur_time")}


def trouble_text(trouble: View) -> str:
    """Return what is wrong with a pipeline as a sentence."""
    return f"pipeline {trouble['pipeline']} ({trouble['part']}, instance {trouble['instance']}): {trouble['reason']}"


def artifact_view(artifact: Artifact) -> View | None:
    """Return where bytes are; null when there are none."""
    if not artifact.uri:
        return None
    told = {"uri": artifact.uri, "digest": artifact.digest, "size_bytes": artifact.size_bytes}
    return told | ({"beside_bytes": artifact.beside_bytes} if artifact.beside_bytes else {})


def kind_word(kind: RunKind.ValueType) -> str:
    """Return `training`, `compression` or `recalibration`."""
    return _word(RunKind.Name(kind), "RUN_KIND_")


def run_state_word(state: messages.RunState.ValueType) -> str:
    """Return `waiting`, `running`, `succeeded`, `failed` or `superseded`."""
    return _word(messages.RunState.Name(state), "RUN_STATE_")


def version_state_word(state: messages.VersionState.ValueType) -> str:
    """Return `candidate`, `released`, `replaced` or `refused`."""
    return _word(messages.VersionState.Name(state), "VERSION_STATE_")


def short_id(digest: str) -> str:
    """Return an id short enough for a table: `sha256:<64 digits>` as 12 digits, `train-<32 digits>` as train-<8>."""
    prefix, dash, name = digest.rpartition(":")[2].rpartition("-")
    return prefix + dash + name[: 8 if prefix else 12]


def _word(name: str, prefix: str) -> str:
    return name.removeprefix(prefix).lower()


def _time(message: Any, name: str) -> str | None:
    if not message.HasField(name):
        return None
    return iso_time(getattr(message, name))


def iso_time(stamp: Timestamp) -> str:
    """Return a time as ISO 8601 in UTC, to the millisecond, such as 2026-05-17T14:30:00.000Z."""
    return stamp.ToDatetime(tzinfo=UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def bytes_view(name: str, data: bytes) -> View:
    """Return bytes as text where they are UTF-8, and in base64 under `<name>_base64` where they are not."""
    encoded = f"{name}_base64"
    if not data:
        return {name: None, encoded: None}
    try:
        return {name: data.decode(), encoded: None}
    except UnicodeDecodeError:
        return {name: None, encoded: base64.b64encode(data).decode()}
