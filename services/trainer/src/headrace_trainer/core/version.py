"""The manifest of a version: what it is, where it came from and how good it is. Its digest is the version's id."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

import numpy as np
import onnx
from headrace_data.dataset import served_dtype
from headrace_data.manifest import Manifest
from headrace_data.parts import Blob
from headrace_data.spec import Field
from headrace_engines.beside import Graph, is_language, weights_beside
from headrace_learning.large import structure_of
from headrace_learning.training.compute import told

from headrace_trainer.core.privacy import privacy_told
from headrace_trainer.core.run import Plan, Trained
from headrace_trainer.core.tuning import Tuned

FORMAT = "headrace-version/1"
ASKED = (
    {"name": "text_input", "type": "string", "shape": [1]},
    {"name": "stream", "type": "bool", "shape": [1], "optional": True},
    {"name": "sampling_parameters", "type": "string", "shape": [1], "optional": True},
)
"""What a model of language is asked with, one prompt a call: in the words of Triton's backend of vLLM."""
_LIBRARIES = ("headrace-learning", "headrace-trainer", "numpy", "onnx", "onnxruntime", "torch")


def version_manifest(plan: Plan, trained: Trained, weights: Blob, graph: Blob) -> bytes:
    """Return the manifest as canonical JSON: the same bytes for the same dataset, spec, seed and libraries.

    Those of a version with privacy differ each time. It names weights and graph by digest and size and not by place, so
    that a copied store keeps its versions.
    """
    pipeline, dataset = plan.pipeline, plan.dataset
    privacy = privacy_told(pipeline, trained.fitted)
    manifest = {
        "format": FORMAT,
        "model": pipeline.model,
        "pipeline": pipeline.name,
        "run_id": plan.run_id,
        "dataset_id": dataset.dataset_id,
        "spec_digest": pipeline.digest,
        "weights": {"digest": weights.digest, "size_bytes": weights.size_bytes},
        "graph": {"digest": graph.digest, "size_bytes": graph.size_bytes, **_beside(trained.graph)},
        "task": pipeline.task,
        "inputs": _inputs(dataset, trained.graph),
        "outputs": _outputs(plan, trained.graph),
        "classes": list(plan.classes),
        "rows": {name: split.rows for name, split in dataset.splits.items()},
        "metrics": dict(trained.metrics),
        "export_difference": trained.export_difference,
        "epochs": trained.fitted.outcome.epochs,
        "best_epoch": trained.fitted.outcome.best_epoch,
        "best_validation_loss": trained.fitted.outcome.best_loss,
        "parameters": trained.fitted.parameters,
        **({} if trained.threshold is None else {"threshold": trained.threshold}),
        **({} if pipeline.train.origin is None else {"from": _origin(plan, trained)}),
        **({} if trained.tuned is None else {"tuned": _search(trained.tuned)}),
        **({} if privacy is None else {"privacy": privacy}),
        **({} if pipeline.train.compute is None else {"compute": told(pipeline.train.compute)}),
        "libraries": {name: version(name) for name in _libraries(trained)},
        **({"sources": dict(trained.fitted.sources)} if trained.fitted.sources else {}),
    }
    return json.dumps(manifest, allow_nan=False, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


def _beside(graph: Graph) -> dict[str, Any]:
    """Return the files that a graph needs beside it."""
    if isinstance(graph, bytes) or is_language(graph):
        return {}
    beside = weights_beside(graph.read_bytes())
    return {"beside": [{"digest": each.digest, "size_bytes": each.size_bytes} for each in beside]}


def _libraries(trained: Trained) -> Iterator[str]:
    yield from (*_LIBRARIES, *trained.fitted.libraries)
    if trained.tuned is not None:
        yield "optuna"
    if trained.fitted.outcome.privacy is not None:
        yield "opacus"


def _inputs(dataset: Manifest, graph: Graph) -> list[dict[str, Any]]:
    """Describe what is asked with: features, or of a model of language what is answered, and how."""
    return (
        [dict(each) for each in ASKED] if is_language(graph) else [_input(field, dataset) for field in dataset.features]
    )


def _input(field: Field, dataset: Manifest) -> dict[str, Any]:
    """Describe a tensor; -1 stands for the number of rows in a call."""
    served = "string" if field.type == "string" else served_dtype(field, dataset.transforms).name
    described: dict[str, Any] = {"name": field.name, "type": served, "shape": [-1, *field.shape]}
    if dataset.transforms[field.name].optional:
        described["optional"] = True
    return described | ({"unit": field.unit} if field.unit else {})


def _origin(plan: Plan, trained: Trained) -> dict[str, Any]:
    """Describe what it began from: what was asked for alone where that was no champion yet, and so the seed."""
    told: dict[str, Any] = {"asked": plan.pipeline.train.origin}
    if plan.beginning is not None and trained.fitted.begun is not None:
        told |= {"version_id": plan.beginning.version_id, "weights": plan.beginning.weights_digest}
        told["layers"] = {name: list(layers) for name, layers in asdict(trained.fitted.begun).items()}
    return told


def trials_told(tuned: Tuned | None) -> list[dict[str, Any]]:
    """Describe each trial of a search for the registry: values as JSON, by path below train."""
    if tuned is None:
        return []
    return [
        {
            "number": trial.number,
            "values": {path: json.dumps(value) for path, value in trial.values.items()},
            "state": trial.state,
            "epochs": len(trial.curve),
            "score": trial.score,
            "reason": trial.reason,
            "chosen": trial.number == tuned.best.number,
        }
        for trial in tuned.trials
    ]


def _search(tuned: Tuned) -> dict[str, Any]:
    """Describe what was found, and every trial. Times are left out: they differ from machine to machine."""
    trials = [
        {"values": trial.values, "state": trial.state, "epochs": len(trial.curve), "validation_loss": trial.score}
        for trial in tuned.trials
    ]
    return {"trial": tuned.best.number, "values": tuned.best.values, "trials": trials}


def _outputs(plan: Plan, graph: Graph) -> list[dict[str, Any]]:
    """Describe what the graph answers with, as `_input` does."""
    if is_language(graph):
        return [{"name": name, "type": "string", "shape": [1]} for name in plan.task.outputs]
    return [_output(each, len(plan.places)) for each in structure_of(graph).graph.output]


def _output(told: onnx.ValueInfoProto, places: int) -> dict[str, Any]:
    tensor = told.type.tensor_type
    kind = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type))
    # A network that does not say how many numbers it answers with has one for each place.
    sizes = [dimension.dim_value or places for dimension in tensor.shape.dim[1:]]
    return {"name": told.name, "type": "string" if kind.hasobject else kind.name, "shape": [-1, *sizes]}
