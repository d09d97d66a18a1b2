"""A version held against another on the same rows."""

from typing import Any

import numpy as np
import onnx
import pytest
from headrace.events.v1 import canary_pb2, run_pb2
from headrace_compressor.core.canary import ALIKE, BETTER, WORSE, judge
from headrace_compressor.core.compression import Version
from headrace_compressor.core.measurement import Rows
from headrace_compressor.errors import NothingToMeasure
from headrace_compressor.transport.canary_converters import canary_values, to_judged
from headrace_compressor.transport.consumer import compression
from headrace_data.tasks import TASKS, Slices
from onnx import numpy_helper

MEASURE = TASKS["classification"].measure("accuracy")


def spoilt(graph: Any, scale: float) -> bytes:
    """Return a network whose last weights are disturbed."""
    model = onnx.load_from_string(graph)
    weights = [each for each in model.graph.initializer if len(each.dims) == 2][-1]
    values = numpy_helper.to_array(weights)
    noise = np.random.default_rng(0).normal(0, scale * values.std(), values.shape).astype(values.dtype)
    weights.CopyFrom(numpy_helper.from_array(values + noise, weights.name))
    return bytes(model.SerializeToString())


def test_a_version_is_as_good_as_itself(digits_mlp: Version, rows: Rows) -> None:
    judged = judge(digits_mlp.graph, digits_mlp.graph, rows.batches, Slices(), MEASURE, None)
    assert (judged.verdict, judged.rows) == (ALIKE, rows.count)
    first = judged.measures[0]
    assert (first.name, first.candidate, first.low, first.high) == ("accuracy", first.champion, 0.0, 0.0)
    assert judged.alike["agreement"] == 1.0


def test_rows_tell_a_worse_version_and_the_better_one_with_the_difference_between(
    digits_mlp: Version, rows: Rows
) -> None:
    graph = spoilt(digits_mlp.graph, 3.0)
    worse = judge(graph, digits_mlp.graph, rows.batches, Slices(), MEASURE, None)
    better = judge(digits_mlp.graph, graph, rows.batches, Slices(), MEASURE, None)
    assert (worse.verdict, better.verdict) == (WORSE, BETTER)
    first = worse.measures[0]
    assert first.low < first.candidate - first.champion < first.high < 0
    assert worse.alike["agreement"] < 1


def test_a_few_rows_do_not_tell_versions_apart(digits_mlp: Version, rows: Rows) -> None:
    (columns, truth), *_ = rows.batches
    graph = spoilt(digits_mlp.graph, 0.3)
    judged = judge(graph, digits_mlp.graph, [({"pixels": columns["pixels"][:12]}, truth[:12])], Slices(), MEASURE, None)
    assert judged.verdict == ALIKE


def test_no_rows_say_nothing(digits_mlp: Version) -> None:
    with pytest.raises(NothingToMeasure, match="expected rows with labels"):
        judge(digits_mlp.graph, digits_mlp.graph, [], Slices(), MEASURE, None)


def test_a_command_with_rows_of_the_past_is_a_canary_and_ends_in_its_own_fact() -> None:
    command = run_pb2.CompressionRequested(run_id="canary-1", pipeline="digits")
    assert canary_values(command) == {}
    command.candidate.version_id, command.champion.version_id = "sha256:2", "sha256:1"
    command.canary.last_s = 60
    command.canary.history.uri = "memory://history"
    assert canary_values(command)["canary"]["last_s"] == 60
    figure = {"name": "accuracy", "rows": 9, "candidate": 0.5, "champion": 0.75, "low": -0.5, "high": -0.1}
    result = {
        "rows": 9, "verdict": "worse", "measures": [figure], "slices": [], "alike": {"agreement": 0.5},
        "unseen_rows": 3, "segments": 2, "since_us": 1, "until_us": 2, "measure": "accuracy", "certainty": 0.95,
        "attempt": 1,
    }  # fmt: skip
    fact = compression("avx2").fact(command, result)
    assert fact == to_judged(command, result)
    assert (fact.version_id, fact.champion_id) == ("sha256:2", "sha256:1")  # type: ignore[attr-defined]
    assert fact.verdict == canary_pb2.CANARY_VERDICT_WORSE  # type: ignore[attr-defined]
