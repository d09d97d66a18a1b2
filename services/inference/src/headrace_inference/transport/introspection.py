"""Triton's extensions about models: ModelConfig, ModelStatistics and RepositoryIndex."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from headrace import open_inference as oip

from headrace_inference.core.shelf import LoadedVersion, Shelf
from headrace_inference.core.signature import TensorSpec
from headrace_inference.core.statistics import Statistics, Steps, VersionStatistics
from headrace_inference.transport.converters import platform_of

_TYPES = oip.ModelInput.DESCRIPTOR.fields_by_name["data_type"].enum_type.values_by_name
_KINDS = oip.ModelInstanceGroup.DESCRIPTOR.enum_types_by_name["Kind"].values_by_name


def to_config(asked: LoadedVersion, versions: Iterable[LoadedVersion]) -> Any:
    """Return a ModelConfigResponse, with the fields that a model's configuration file has in Triton."""
    signature, name = asked.model.signature, asked.release.model
    platform, backend = platform_of(asked)
    config = oip.ModelConfig(name=name, platform=platform, backend=backend)
    config.version_policy.specific.versions.extend(_ordinals(versions))
    config.max_batch_size = signature.max_rows if signature.batched else 0
    for field, specs in ((config.input, signature.inputs), (config.output, signature.outputs)):
        for spec in specs:
            field.add(name=spec.name, data_type=_data_type(spec), dims=spec.sizes[signature.batched :])
    for tensor, spec in zip(config.input, signature.inputs, strict=True):
        tensor.optional = spec.optional
    config.instance_group.add(name=name, count=1, kind=_KINDS["KIND_CPU"].number)
    config.model_transaction_policy.decoupled = asked.language is not None
    config.response_cache.enable = asked.cached
    return oip.ModelConfigResponse(config=config)


def _data_type(spec: TensorSpec) -> int:
    name = spec.datatype.name
    return int(_TYPES["TYPE_STRING" if name == "BYTES" else f"TYPE_{name}"].number)


def _ordinals(versions: Iterable[LoadedVersion]) -> list[int]:
    return sorted({version.release.ordinal for version in versions})


def to_statistics(versions: Iterable[LoadedVersion], statistics: Statistics) -> Any:
    """Return a ModelStatisticsResponse with one entry for each ordinal of each model."""
    answer = oip.ModelStatisticsResponse()
    releases = {(loaded.release.model, loaded.release.ordinal): loaded.release for loaded in versions}
    for (model, ordinal), release in sorted(releases.items()):
        _fill(answer.model_stats.add(name=model, version=str(ordinal)), statistics.of(release))
    return answer


def _fill(entry: Any, counted: VersionStatistics) -> None:
    entry.last_inference = int(counted.last_s * 1e3)
    entry.inference_count = counted.rows
    steps = counted.steps
    entry.execution_count = steps.count
    stats = entry.inference_stats
    for name, duration in (
        ("success", counted.success),
        ("fail", counted.fail),
        ("queue", counted.queue),
        ("cache_hit", counted.hit),
        ("cache_miss", counted.miss),
    ):
        _set(getattr(stats, name), duration.count, duration.seconds)
    _set_steps(stats, steps)
    for rows, steps in sorted(counted.by_rows.items()):
        _set_steps(entry.batch_stats.add(batch_size=rows), steps)


def _set_steps(message: Any, steps: Steps) -> None:
    _set(message.compute_input, steps.count, steps.input_s)
    _set(message.compute_infer, steps.count, steps.infer_s)
    _set(message.compute_output, steps.count, steps.output_s)


def _set(message: Any, count: int, seconds: float) -> None:
    message.count = count
    message.ns = round(seconds * 1e9)


def to_index(shelf: Shelf, *, only_ready: bool) -> Any:
    """Return a RepositoryIndexResponse: versions in memory, and releases that are not loaded yet or do not load."""
    answer = oip.RepositoryIndexResponse()
    for model, versions in sorted(shelf.models.items()):
        for ordinal in _ordinals(versions.all):
            answer.models.add(name=model, version=str(ordinal), state="READY")
    if not only_ready:
        failing = {(each.release.model, each.release.ordinal): each.reason for each in shelf.failing}
        for (model, ordinal), reason in sorted(failing.items()):
            answer.models.add(name=model, version=str(ordinal), state="UNAVAILABLE", reason=reason)
        for model in sorted(shelf.loading - {model for model, _ in failing}):
            answer.models.add(name=model, state="LOADING", reason="released, not loaded yet")
    return answer
